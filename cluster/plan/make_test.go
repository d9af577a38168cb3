package plan

import (
	compare "cmp"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/cloudconfig/golden"
	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/spec"
	"github.com/musterhq/muster/providers"
)

const clusterID = "5f0c0f3e-8d4b-4f0e-9d53-0d6a3f1c2b10"

// file is a cluster file of one group: node-1 to node-count, spread over places.
func file(count, voters int, places ...string) spec.Spec {
	s := spec.Spec{Cluster: "demo", Voters: voters}
	for _, p := range places {
		s.Providers = append(s.Providers, spec.Provider{Name: p})
	}
	s.Groups = []spec.Group{{Name: "node", Hosts: spec.NumberedHosts("node", count), Providers: places}}
	return s
}

// at makes an instance: "node-1/2" is generation 2 of node-1.
func at(name string, state providers.State) providers.Instance {
	host, generation, _ := strings.Cut(name, "/")
	g, _ := strconv.Atoi(generation)
	return providers.Instance{Identity: providers.Identity{Cluster: clusterID, Host: host, Generation: max(g, 1)}, ID: "i-" + name, State: state}
}

func running(names ...string) []providers.Instance {
	var instances []providers.Instance
	for _, n := range names {
		instances = append(instances, at(n, providers.StateRunning))
	}
	return instances
}

// member makes a roster's entry in the same way; a trailing ! says that it votes.
func member(provider, name string) roster.Host {
	name, voter := strings.CutSuffix(name, "!")
	i := at(name, providers.StateRunning)
	return roster.Host{ID: i.Identity.ID(), Name: i.Host, Generation: i.Generation, Provider: provider, Voter: voter}
}

func members(provider string, names ...string) roster.Roster {
	var r roster.Roster
	for _, n := range names {
		r = append(r, member(provider, n))
	}
	return r
}

func instanceID(name string) string { return at(name, "").Identity.ID() }

func ptr[T any](v T) *T { return &v }

type scenario struct {
	name string
	file spec.Spec
	seen Observed
}

func scenarios() []scenario {
	labelled := file(1, 0, "a")
	labelled.Groups[0].Labels = map[string]string{"tier": "web"}
	four := file(4, 1, "a")
	four.Groups[0].Labels = labelled.Groups[0].Labels
	patched := members("a", "node-1!", "node-2", "node-3", "node-4")
	patched[0].Labels, patched[0].RunLabels = map[string]string{"disk": "ssd"}, []string{"disk"}
	patched[1] = patched[1].WithLabels(map[string]string{"tier": "web"}).WithPatch(map[string]*string{"tier": ptr("db"), "disk": ptr("ssd")})
	patched[2].Labels = map[string]string{"disk": "hdd", "tier": "web"}
	patched[3] = patched[3].WithLabels(map[string]string{"tier": "web"}).WithPatch(map[string]*string{"disk": ptr("ssd")})
	chosen := file(3, 0, "a")
	chosen.Groups = append(chosen.Groups, spec.Group{Name: "brain", Hosts: []string{"brain-1"}, Providers: []string{"a"}, Voter: ptr(true)})
	three := roster.Roster{member("a", "node-1!"), member("b", "node-2!"), member("a", "node-3!")}
	return []scenario{
		{"fresh", file(3, 0, "a", "b"), Observed{Instances: map[string][]providers.Instance{"a": nil, "b": nil}}},
		{"nothing to do", file(3, 0, "a", "b"), Observed{
			Instances: map[string][]providers.Instance{"a": running("node-1", "node-3"), "b": running("node-2")}, Roster: three,
		}},
		{"grow", file(11, 0, "a", "b"), Observed{
			Instances: map[string][]providers.Instance{"a": running("node-1", "node-3"), "b": running("node-2")}, Roster: three,
		}},
		{"shrink", file(2, 1, "a", "b"), Observed{
			Instances: map[string][]providers.Instance{"a": running("node-1", "node-3", "node-5"), "b": running("node-2", "node-4")},
			Roster:    append(three[:3:3], member("b", "node-4"), member("a", "node-5")),
		}},
		{"failed, stopped and gone", file(4, 0, "a", "b"), Observed{
			Instances: map[string][]providers.Instance{
				"a": {at("node-1/2", providers.StateFailed)}, "b": {at("node-2", providers.StateStopped), at("node-4", providers.StatePending)},
			},
			Roster: roster.Roster{member("a", "node-1/2!"), member("b", "node-2!"), member("a", "node-3/6!"), member("b", "node-4")},
		}},
		{"stopped where nothing can be started", file(1, 0, "a"), Observed{
			Instances: map[string][]providers.Instance{"a": {at("node-1", providers.StateStopped)}}, CannotStart: map[string]bool{"a": true},
		}},
		{"two of a kind", file(2, 1, "a", "b"), Observed{
			Instances: map[string][]providers.Instance{
				"a": append(running("node-1/3", "node-1/2"), at("node-1/4", providers.StateFailed)), "b": running("node-2/2", "node-2/1", "node-1/9"),
			},
			Roster: members("a", "node-1/2!"),
		}},
		{"moved", file(2, 1, "b"), Observed{
			Instances: map[string][]providers.Instance{"a": running("node-2/3"), "b": running("node-1")},
			Roster:    append(members("b", "node-1!"), members("b", "node-2/3")...),
		}},
		{"asked for, not listed", file(2, 0, "a"), Observed{
			Instances: map[string][]providers.Instance{"a": running("node-2")}, Generations: map[string]int{"node-1": 4, "node-2": 1, "node-9": 1},
			Pending: []Pending{{"node-1", 3, "a"}, {"node-1", 4, "a"}, {"node-9", 1, "a"}, {"node-2", 1, "a"}},
		}},
		{"generations are never used twice", file(3, 0, "a"), Observed{
			Instances: map[string][]providers.Instance{"a": {at("node-1/2", providers.StateFailed)}}, Generations: map[string]int{"node-1": 7, "node-3": 2},
		}},
		{"condemned", file(3, 0, "a"), Observed{
			Instances: map[string][]providers.Instance{"a": running("node-1", "node-2", "node-3")},
			Condemned: map[string]string{instanceID("node-2"): "was told of a cluster that never formed"},
		}},
		{"relabel", labelled, Observed{
			Instances: map[string][]providers.Instance{"a": {at("node-1", providers.StateStopped)}}, Roster: members("a", "node-1!"),
		}},
		{"labels set at run time", four, Observed{
			Instances: map[string][]providers.Instance{"a": running("node-1", "node-2", "node-3", "node-4")}, Roster: patched,
		}},
		{"members without instances", file(1, 0, "a"), Observed{
			Instances: map[string][]providers.Instance{"a": running("node-1")}, Roster: append(members("a", "node-1!"), members("a", "node-7!")...),
		}},
		{"voters by name", chosen, Observed{Instances: map[string][]providers.Instance{"a": nil}}},
		{"voters by name, too late", chosen, Observed{
			Instances: map[string][]providers.Instance{"a": running("node-1", "node-2", "node-3", "brain-1")},
			Roster:    members("a", "node-1!", "node-2", "node-3", "brain-1"),
		}},
		{"more voters than hosts", file(4, 5, "a"), Observed{Instances: map[string][]providers.Instance{"a": nil}}},
		{"promised roles are kept", file(3, 3, "a"), Observed{
			Instances: map[string][]providers.Instance{"a": running("node-1", "node-2", "node-3")},
			Roster:    members("a", "node-1!"), Roles: map[string]bool{instanceID("node-2"): true, instanceID("node-3"): false},
		}},
	}
}

func (s scenario) observed() Observed {
	seen := s.seen
	seen.ClusterID = clusterID
	return seen
}

// TestGolden has one file for each scenario, which shows what people read and what scripts do.
func TestGolden(t *testing.T) {
	for _, s := range scenarios() {
		t.Run(s.name, func(t *testing.T) {
			p, err := Make(s.file, s.observed())
			if err != nil {
				t.Fatal(err)
			}
			got := render(t, p)
			name := filepath.Join("testdata", strings.ReplaceAll(strings.ReplaceAll(s.name, ",", ""), " ", "-")+".golden")
			golden.Compare(t, name, got)
		})
	}
}

// render is a line for each action, then the JSON form of the first as an example of the shape.
func render(t *testing.T, p Plan) string {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "voters: %s\n", strings.Join(p.Voters, " "))
	for _, w := range p.Warnings {
		fmt.Fprintf(&b, "warning: %s\n", w)
	}
	for _, a := range p.Actions {
		fmt.Fprintf(&b, "%-8s %-10s %s  %s", a.Kind, a.Host+"/"+strconv.Itoa(a.Generation), a.Provider, a.Reason)
		if a.Instance.ID != "" && a.Kind == Replace {
			fmt.Fprintf(&b, "; ends %s", a.Instance.ID)
		}
		if a.Member != "" {
			b.WriteString("; leaves the roster")
		}
		b.WriteString("\n")
	}
	first := p
	first.Actions = p.Actions[:1]
	shape, err := json.MarshalIndent(first, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return b.String() + "\n" + string(shape) + "\n"
}

func TestErrors(t *testing.T) {
	all := map[string][]providers.Instance{"a": running("node-1", "node-2", "node-3")}
	foreign := at("node-1", providers.StateRunning)
	foreign.Cluster = "11111111-8d4b-4f0e-9d53-0d6a3f1c2b10"
	moved := file(3, 0, "b", "a")
	tests := []struct {
		name string
		file spec.Spec
		seen Observed
		want string
	}{
		{"half a view", file(1, 0, "a", "b"), Observed{Instances: map[string][]providers.Instance{"a": nil}}, "provider b was not asked"},
		{"foreign instance", file(1, 0, "a"), Observed{Instances: map[string][]providers.Instance{"a": {foreign}}}, "another cluster"},
		{"provider with members dropped", file(1, 0, "a"), Observed{
			Instances: map[string][]providers.Instance{"a": nil}, Roster: members("z", "node-1!"),
		}, "at provider z, which is not"},
		{"provider with open requests dropped", file(1, 0, "a"), Observed{
			Instances: map[string][]providers.Instance{"a": nil}, Pending: []Pending{{"node-5", 1, "z"}},
		}, "node-5 is at provider z"},
		{"two of three voters", file(1, 0, "a"), Observed{Instances: all, Roster: members("a", "node-1!", "node-2!", "node-3!")}, "node-2, node-3 would leave, 2 of 3 voters: a majority"},
		{"the only voter", moved, Observed{
			Instances: map[string][]providers.Instance{"a": running("node-1"), "b": nil}, Roster: members("a", "node-1!"),
		}, "node-1 is the only voter"},
		{"one voter while another is lost", file(2, 0, "a"), Observed{
			Instances: map[string][]providers.Instance{"a": running("node-1", "node-3")}, Roster: members("a", "node-1!", "node-2!", "node-3!"),
		}, "node-3 would leave while 1 of 3 voters are gone"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.seen.ClusterID = clusterID
			_, err := Make(tt.file, tt.seen)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
			if err != nil && (strings.Contains(tt.want, "would leave") || strings.Contains(tt.want, "only voter")) != errors.Is(err, ErrMajority) {
				t.Errorf("%v: Is(ErrMajority) is wrong", err)
			}
		})
	}
}

// A cluster can be taken down to one host one voter at a time.
func TestShrinkInSteps(t *testing.T) {
	for n := 3; n > 1; n-- {
		names := make([]string, n)
		for i := range names {
			names[i] = fmt.Sprintf("node-%d", i+1)
		}
		voters := make([]string, n)
		for i := range names {
			voters[i] = names[i] + "!"
		}
		seen := Observed{ClusterID: clusterID, Instances: map[string][]providers.Instance{"a": running(names...)}, Roster: members("a", voters...)}
		if _, err := Make(file(n-1, 0, "a"), seen); err != nil {
			t.Errorf("from %d to %d: %v", n, n-1, err)
		}
	}
}

// Voters that are lost may all be replaced: refusing would keep the cluster down.
func TestLostMajorityIsReplaced(t *testing.T) {
	seen := Observed{
		ClusterID: clusterID, Instances: map[string][]providers.Instance{"a": {at("node-1", providers.StateFailed), at("node-2", providers.StateRunning)}},
		Roster: members("a", "node-1!", "node-2!", "node-3!"),
	}
	p, err := Make(file(3, 0, "a"), seen)
	if err != nil || len(p.Of(Replace)) != 2 {
		t.Errorf("plan %+v, %v", p.Actions, err)
	}
}

func TestSameIdentityTwice(t *testing.T) {
	older, newer := at("node-1", providers.StateRunning), at("node-1", providers.StateRunning)
	older.Created, newer.Created = time.Unix(1, 0), time.Unix(2, 0)
	older.ID = "i-z"
	seen := Observed{ClusterID: clusterID, Instances: map[string][]providers.Instance{"a": {newer, older}}, Roster: members("a", "node-1!")}
	p, err := Make(file(1, 0, "a"), seen)
	if err != nil {
		t.Fatal(err)
	}
	destroys := p.Destroys()
	if len(destroys) != 1 || destroys[0].Instance.ID != newer.ID || destroys[0].Member != "" {
		t.Errorf("destroys %+v", destroys)
	}
}

func TestCompareNames(t *testing.T) {
	ordered := []string{"a", "a-1", "a-2", "a-9b", "a-10", "a-10-1", "a-10-2", "b-01", "b-1", "b-2"}
	for i, a := range ordered {
		for j, b := range ordered {
			if got := compareNames(a, b); got != compare.Compare(i, j) {
				t.Errorf("compareNames(%q, %q) = %d", a, b, got)
			}
		}
	}
}
