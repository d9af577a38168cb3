package plan

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/spec"
	"github.com/musterhq/muster/providers"
)

// world is a model of the providers and of the running cluster.
type world struct {
	instances   map[string][]providers.Instance
	roster      roster.Roster
	formed      bool
	generations map[string]int
	pending     []Pending
	condemned   map[string]string
	cannotStart map[string]bool
}

func (w *world) observed() Observed {
	seen := Observed{
		ClusterID: clusterID, Instances: w.instances, Generations: w.generations, Pending: w.pending,
		Condemned: w.condemned, CannotStart: w.cannotStart,
	}
	if w.formed {
		seen.Roster = append(roster.Roster{}, w.roster...)
	}
	return seen
}

// apply does a plan as cluster/apply would, with providers that obey, and lets every new host join.
func (w *world) apply(t *rapid.T, p Plan) {
	for _, a := range p.Actions {
		if a.Member != "" {
			w.roster = slices.DeleteFunc(w.roster, func(h roster.Host) bool { return h.ID == a.Member })
		}
		if a.Destroys() {
			w.remove(a.Provider, a.Instance)
		}
		switch a.Kind {
		case Start:
			w.start(a)
		case Create, Replace:
			w.create(t, a)
		case Appoint, Retire:
			for i := range w.roster {
				if w.roster[i].ID == a.ID {
					w.roster[i].Voter = a.Kind == Appoint
				}
			}
		case Relabel:
			for i := range w.roster {
				if w.roster[i].ID == a.ID {
					w.roster[i].Labels = a.Labels
				}
			}
		}
	}
	w.pending = nil
	for _, a := range p.Of(Create, Replace, Start, Keep) {
		w.join(a)
	}
	w.formed = true
}

func (w *world) create(t *rapid.T, a Action) {
	if a.Generation < w.generations[a.Host] {
		t.Fatalf("generation %d of %s after %d", a.Generation, a.Host, w.generations[a.Host])
	}
	w.generations[a.Host] = a.Generation
	i := at(fmt.Sprintf("%s/%d", a.Host, a.Generation), providers.StateRunning)
	w.instances[a.Provider] = append(w.instances[a.Provider], i)
	w.join(a)
}

func (w *world) join(a Action) {
	if _, ok := w.roster.ByID(a.ID); !ok {
		w.roster = append(w.roster, roster.Host{ID: a.ID, Name: a.Host, Generation: a.Generation, Provider: a.Provider, Voter: a.Voter, Labels: a.Labels})
	}
}

func (w *world) start(a Action) {
	for i := range w.instances[a.Provider] {
		if w.instances[a.Provider][i].ID == a.Instance.ID {
			w.instances[a.Provider][i].State = providers.StateRunning
		}
	}
}

func (w *world) remove(provider string, i providers.Instance) {
	w.instances[provider] = slices.DeleteFunc(w.instances[provider], func(j providers.Instance) bool { return i.ID == j.ID })
}

func genSpec(t *rapid.T) spec.Spec {
	places := rapid.SampledFrom([][]string{{"a"}, {"a", "b"}, {"a", "b", "c"}}).Draw(t, "spread")
	s := file(rapid.IntRange(0, 7).Draw(t, "count"), rapid.SampledFrom([]int{0, 1, 3, 5}).Draw(t, "voters"), places...)
	for _, p := range []string{"a", "b", "c"} {
		if _, ok := s.Provider(p); !ok {
			s.Providers = append(s.Providers, spec.Provider{Name: p})
		}
	}
	if rapid.Bool().Draw(t, "second group") {
		s.Groups = append(s.Groups, spec.Group{
			Name: "db", Hosts: spec.NumberedHosts("db", rapid.IntRange(1, 3).Draw(t, "dbs")), Providers: []string{"b"},
			Labels: map[string]string{"disk": "ssd"},
			Voter:  rapid.SampledFrom([]*bool{nil, ptr(true), ptr(false)}).Draw(t, "db voter"),
		})
	}
	return s
}

func genWorld(t *rapid.T) *world {
	w := &world{
		instances: map[string][]providers.Instance{"a": nil, "b": nil, "c": nil}, generations: map[string]int{},
		condemned: map[string]string{}, cannotStart: map[string]bool{"b": rapid.Bool().Draw(t, "b cannot start")},
		formed: rapid.Bool().Draw(t, "formed"),
	}
	ref := rapid.Custom(func(t *rapid.T) string {
		host := rapid.SampledFrom([]string{"node-1", "node-2", "node-3", "node-5", "db-1", "old-1"}).Draw(t, "host")
		return fmt.Sprintf("%s/%d", host, rapid.IntRange(1, 3).Draw(t, "generation"))
	})
	states := []providers.State{providers.StateRunning, providers.StateRunning, providers.StatePending, providers.StateStopped, providers.StateFailed}
	for n, name := range rapid.SliceOfN(ref, 0, 8).Draw(t, "instances") {
		provider := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "provider")
		i := at(name, rapid.SampledFrom(states).Draw(t, "state"))
		i.ID = fmt.Sprintf("i-%d", n)
		w.instances[provider] = append(w.instances[provider], i)
		w.generations[i.Host] = max(w.generations[i.Host], i.Generation)
		if w.formed && rapid.Bool().Draw(t, "member") {
			h := member(provider, name)
			h.Voter = rapid.Bool().Draw(t, "voter")
			if _, twice := w.roster.ByID(h.ID); !twice {
				w.roster = append(w.roster, h)
			}
		}
		if rapid.IntRange(0, 9).Draw(t, "condemned") == 0 {
			w.condemned[i.Identity.ID()] = "was told of a cluster that never formed"
		}
	}
	for _, name := range rapid.SliceOfN(ref, 0, 2).Draw(t, "pending") {
		i := at(name, "")
		w.pending = append(w.pending, Pending{i.Host, i.Generation, rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "pending at")})
		w.generations[i.Host] = max(w.generations[i.Host], i.Generation)
	}
	return w
}

// Whatever is there: after one plan everything is as wanted, and a second plan changes nothing.
func TestApplyingTwiceChangesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, w := genSpec(t), genWorld(t)
		p, err := Make(s, w.observed())
		if errors.Is(err, ErrMajority) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		w.apply(t, p)
		again, err := Make(s, w.observed())
		if err != nil {
			t.Fatal(err)
		}
		if changes := again.Changes(); len(changes) > 0 {
			t.Fatalf("second plan: %+v", changes)
		}
		if len(again.Actions) != len(s.Hosts()) || len(w.roster) != len(s.Hosts()) {
			t.Fatalf("%d instances and %d members for %d hosts", len(again.Actions), len(w.roster), len(s.Hosts()))
		}
		if !slices.Equal(again.Voters, p.Voters) {
			t.Fatalf("voters were %v and are %v", p.Voters, again.Voters)
		}
	})
}

func TestOrderOfInputsDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, w := genSpec(t), genWorld(t)
		p, err := Make(s, w.observed())
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		seen := w.observed()
		shuffle(random, seen.Roster)
		shuffle(random, seen.Pending)
		for _, instances := range seen.Instances {
			shuffle(random, instances)
		}
		shuffle(random, s.Groups)
		shuffle(random, s.Providers)
		other, otherErr := Make(s, seen)
		if fmt.Sprint(err) != fmt.Sprint(otherErr) {
			t.Fatalf("%v, and in another order %v", err, otherErr)
		}
		if diff := cmp.Diff(p, other, cmp.Comparer(func(a, b providers.Instance) bool { return a.ID == b.ID && a.Identity == b.Identity })); diff != "" {
			t.Fatal(diff)
		}
	})
}

func shuffle[T any](random *rand.Rand, s []T) {
	random.Shuffle(len(s), func(i, j int) { s[i], s[j] = s[j], s[i] })
}

// A healthy instance at the right place is ended only when another one of the same host is kept.
func TestHealthyInstancesAreKept(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, w := genSpec(t), genWorld(t)
		p, err := Make(s, w.observed())
		if err != nil {
			return
		}
		places := make(map[string]string)
		for _, h := range s.Hosts() {
			places[h.Name] = h.Provider
		}
		kept := make(map[string]bool)
		for _, a := range p.Of(Keep, Start, Relabel, Appoint, Retire) {
			kept[a.Host] = true
		}
		for _, a := range p.Destroys() {
			_, condemned := w.condemned[a.Instance.Identity.ID()]
			healthy := (a.Instance.State == providers.StateRunning || a.Instance.State == providers.StatePending) && !condemned
			if healthy && places[a.Host] == a.Provider && !kept[a.Host] {
				t.Fatalf("%+v ends a healthy instance of a wanted host", a)
			}
		}
	})
}

// A majority of the voters never leaves at once, and new voters are spread.
func TestVoters(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, w := genSpec(t), genWorld(t)
		p, err := Make(s, w.observed())
		if err != nil {
			return
		}
		if w.formed {
			present, leave := len(w.roster.Voters()), make(map[string]bool)
			for _, a := range p.Of(Destroy) {
				if v, ok := w.roster.ByID(a.Member); ok && v.Voter && a.Instance.State == providers.StateRunning {
					leave[v.ID] = true
				}
			}
			if len(leave) > 0 && len(leave) > present/2 {
				t.Fatalf("%v of %d voters leave", leave, present)
			}
			return
		}
		checkSpread(t, s, p)
	})
}

// checkSpread checks the first election of a cluster file that names no voters: an odd number, no provider with two more
// than another that still had hosts to give.
func checkSpread(t *rapid.T, s spec.Spec, p Plan) {
	voters, spare := make(map[string]int), make(map[string]int)
	for _, h := range s.Hosts() {
		if h.Voter != nil && *h.Voter {
			return
		}
		switch {
		case slices.Contains(p.Voters, h.Name):
			voters[h.Provider]++
		case h.Voter == nil:
			spare[h.Provider]++
		}
	}
	if n := len(p.Voters); n > 0 && n%2 == 0 {
		t.Fatalf("%d voters", n)
	}
	for poor := range spare {
		for rich := range maps.Keys(voters) {
			if voters[rich] > voters[poor]+1 {
				t.Fatalf("provider %s has %d voters, %s has %d and could have more", rich, voters[rich], poor, voters[poor])
			}
		}
	}
}
