package schedule

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/musterhq/muster/agent/unitfile"
	"github.com/musterhq/muster/cluster/instances"
)

// Few names and values, so that rules meet.
var (
	unitNames = []string{
		"a.service", "b.service", "c.service", "lb@1.service", "lb@2.service", "lb@3.service",
		"api@1.service", "api@2.service", "api@3.service", "db.service", "log.service", "mail.timer",
	}
	templateNames = []string{"lb@.service", "api@.service", "job@.service"}
	patternTexts  = []string{
		"lb@*.service", "job@2.service", "job@*.service", "*.service", "api@[12].service", "a.service", "?.*", "[", "*b*", `api@\3.service`,
	}
	goneID = fmt.Sprintf("%032x", 99)
)

func hostID(i int) string {
	if i == 1 || i == 2 { // two with the same first characters
		return fmt.Sprintf("%08x%024x", 0xabc, i)
	}
	return fmt.Sprintf("%08x%024x", i, i)
}

func genHost(i int) *rapid.Generator[Host] {
	return rapid.Custom(func(t *rapid.T) Host {
		provider := rapid.SampledFrom([]string{"east", "west"}).Draw(t, "provider")
		h := Host{ID: hostID(i), Name: fmt.Sprintf("host-%d", i), Provider: provider}
		h.MilliCPU = rapid.SampledFrom([]int64{3000, 1000, 0}).Draw(t, "cpu")
		h.Memory = rapid.SampledFrom([]int64{4 << 30, 1 << 30, 0}).Draw(t, "memory")
		h.State = rapid.SampledFrom([]HostState{
			Ready, Ready, Ready, Ready, Ready, Ready, Ready, Lost, Lost, Cordoned, Draining, Drained,
		}).Draw(t, "state")
		h.StopsCutOff = rapid.IntRange(0, 3).Draw(t, "stops cut off") > 0
		if role := rapid.SampledFrom([]string{"db", "web", ""}).Draw(t, "role"); role != "" {
			h.Labels = map[string]string{"role": role, "provider": "a lie"}
		}
		h.Holds = rapid.IntRange(1, 3).Draw(t, "holds") > 1
		return h
	})
}

func genRequirements() *rapid.Generator[unitfile.Requirements] {
	return rapid.Custom(func(t *rapid.T) unitfile.Requirements {
		var r unitfile.Requirements
		dice := func(name string, sides int) bool { return rapid.IntRange(1, sides).Draw(t, name) == sides }
		r.Global = dice("global", 8)
		if dice("machine", 10) {
			id := hostID(rapid.IntRange(0, 4).Draw(t, "id"))
			r.MachineID = rapid.SampledFrom([]string{id, id[:8], id[:5]}).Draw(t, "form")
		}
		if dice("of", 5) {
			r.MachineOf = rapid.SliceOfN(rapid.SampledFrom(append(unitNames, "missing.service", "job@2.service")), 1, 2).Draw(t, "peers")
		}
		if dice("conflicts", 4) {
			r.Conflicts = rapid.SliceOfN(rapid.SampledFrom(patternTexts), 1, 2).Draw(t, "patterns")
		}
		if dice("replaces", 6) {
			r.Replaces = rapid.SliceOfN(rapid.SampledFrom(patternTexts), 1, 2).Draw(t, "victims")
		}
		if dice("metadata", 4) {
			r.Metadata = rapid.SampledFrom([]map[string][]string{
				{"role": {"db"}},
				{"role": {"web", "db", "web"}},
				{"role": {"db"}, "provider": {"east"}},
				{"provider": {"west"}},
				{"host": {"host-1", "host-3"}},
				{"rack": {"r1"}},
			}).Draw(t, "labels")
		}
		if dice("cpu", 4) {
			r.MilliCPU = rapid.SampledFrom([]int64{500, 1000, 2500}).Draw(t, "milli")
		}
		if dice("memory", 6) {
			r.Memory = rapid.SampledFrom([]int64{1 << 29, 1 << 30}).Draw(t, "bytes")
		}
		if dice("priority", 5) {
			r.Priority = rapid.SampledFrom([]int{-1, 1, 2}).Draw(t, "level")
		}
		r.StopCutOff = dice("stop cut off", 8)
		if dice("spread", 4) {
			r.Spread = rapid.SampledFrom([]string{"host", "provider", "role"}).Draw(t, "label")
		}
		r.Strict = dice("strict", 4)
		return r
	})
}

// genTemplates adds templates with replicas, some of whose instances have hosts already.
func genTemplates(t *rapid.T, s *Snapshot) {
	var last instances.Range
	for _, name := range templateNames {
		if rapid.Bool().Draw(t, "without "+name) {
			continue
		}
		r := genRequirements().Draw(t, name)
		r.Global, r.Strict = false, false
		u := Unit{Name: name, Requirements: r, Replicas: rapid.IntRange(0, 6).Draw(t, "replicas")}
		s.Units = append(s.Units, u)
		for last = (instances.Range{}); last.Last < 8 && len(s.Hosts) > 0; {
			last = instances.Range{First: last.Last + rapid.IntRange(1, 4).Draw(t, "gap")}
			last.Last = last.First + rapid.IntRange(0, 3).Draw(t, "length")
			at := rapid.IntRange(-1, len(s.Hosts)).Draw(t, "at")
			set := instances.Of(last).Minus(named(s.Placed, name))
			if at < 0 || len(set) == 0 {
				continue
			}
			host := goneID
			if at < len(s.Hosts) {
				host = s.Hosts[at].ID
			}
			s.Spans = append(s.Spans, Span{Template: name, Host: host, Instances: set})
		}
	}
}

// named are the instances of a template that have hosts by their own names.
func named(placed map[string]string, template string) instances.Set {
	var set instances.Set
	for name := range placed {
		if of, n, ok := instances.Split(name); ok && of == template {
			set = set.Union(one(n))
		}
	}
	return set
}

func genSnapshot() *rapid.Generator[Snapshot] {
	return rapid.Custom(func(t *rapid.T) Snapshot {
		s := Snapshot{Placed: map[string]string{}}
		for i := range rapid.IntRange(0, 5).Draw(t, "hosts") {
			s.Hosts = append(s.Hosts, genHost(i).Draw(t, "host"))
		}
		wanted := rapid.SliceOfNDistinct(rapid.SampledFrom(unitNames), 0, len(unitNames), rapid.ID[string]).Draw(t, "wanted")
		for _, name := range wanted {
			s.Units = append(s.Units, Unit{Name: name, Requirements: genRequirements().Draw(t, name)})
		}
		for _, name := range unitNames {
			switch at := rapid.IntRange(-5, len(s.Hosts)).Draw(t, "at"); {
			case at == len(s.Hosts):
				s.Placed[name] = goneID
			case at >= 0:
				s.Placed[name] = s.Hosts[at].ID
			}
		}
		genTemplates(t, &s)
		return s
	})
}

// singly is decisions with each instance of a template by itself, sorted by name.
func singly(ds []Decision) []Decision {
	var each []Decision
	for _, d := range ds {
		if d.Instances == nil {
			each = append(each, d)
			continue
		}
		for n := range d.Instances.All() {
			e := d
			e.Unit, e.Instances = instances.Name(d.Unit, n), nil
			each = append(each, e)
		}
	}
	slices.SortFunc(each, func(a, b Decision) int { return strings.Compare(a.Unit, b.Unit) })
	return each
}

func unitOf(s Snapshot, name string) *Unit {
	for i := range s.Units {
		if s.Units[i].Name == name {
			return &s.Units[i]
		}
	}
	return nil
}

func hostOf(s Snapshot, id string) *Host {
	for i := range s.Hosts {
		if s.Hosts[i].ID == id {
			return &s.Hosts[i]
		}
	}
	return nil
}

// counted replaces instances of replicated templates by how many of them each host has: which is where does not matter.
func counted(s Snapshot, placed map[string]string) map[string]string {
	result := make(map[string]string)
	counts := make(map[string]int)
	for name, host := range placed {
		template, _, ok := instances.Split(name)
		if u := unitOf(s, template); !ok || u == nil || unitOf(s, name) != nil {
			result[name] = host
			continue
		}
		counts[template+" on "+host]++
	}
	for at, n := range counts {
		result[at] = fmt.Sprint(n)
	}
	return result
}

func TestDecideLikeOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.OneOf(genSnapshot(), rapid.Just(comesHome), rapid.Just(inOrder)).Draw(t, "snapshot")
		got, want := wherever(After(s, Decide(s))), decideByOracle(s, "")
		if d := cmp.Diff(counted(s, want), counted(s, got)); d != "" {
			t.Fatalf("hosts %v\n%s", shortNames(s.Hosts), d)
		}
	})
}

// comesHome is rare among random snapshots: b must leave for its rival a, which then has to follow its peer p away, which
// has to leave for its own rival m. So b can stay after all.
var comesHome = Snapshot{
	Hosts: []Host{{ID: hostID(0), Name: "host-0"}, {ID: hostID(3), Name: "host-3"}},
	Units: []Unit{
		{Name: "a", Requirements: unitfile.Requirements{MachineOf: []string{"p"}}},
		{Name: "b", Requirements: unitfile.Requirements{Conflicts: []string{"a"}}},
		{Name: "m", Requirements: unitfile.Requirements{Conflicts: []string{"p"}}},
		{Name: "p"},
	},
	Placed: map[string]string{"a": hostID(0), "b": hostID(0), "m": hostID(0), "p": hostID(0)},
}

// inOrder is rare too: z drives a out, so that b may stay, which c would not let back once it had left.
var inOrder = Snapshot{
	Hosts: []Host{{ID: hostID(0), Name: "host-0", MilliCPU: 1000}},
	Units: []Unit{
		{Name: "a", Requirements: unitfile.Requirements{Replaces: []string{"b"}}},
		{Name: "b", Requirements: unitfile.Requirements{MilliCPU: 1000}},
		{Name: "c", Requirements: unitfile.Requirements{MilliCPU: 1000, Priority: 1}},
		{Name: "z", Requirements: unitfile.Requirements{Replaces: []string{"a"}}},
	},
	Placed: map[string]string{"a": hostID(0), "b": hostID(0), "z": hostID(0)},
}

// TestMutants leaves each rule out of the oracle in turn. If the snapshots that the properties are tested with could not
// tell the difference, the properties would not be worth much.
func TestMutants(t *testing.T) {
	const random = 2000
	snapshots := []Snapshot{comesHome, inOrder}
	for seed := range random {
		snapshots = append(snapshots, genSnapshot().Example(seed))
	}
	right := make([]map[string]string, len(snapshots))
	for i, s := range snapshots {
		right[i] = decideByOracle(s, "")
	}
	for _, rule := range []string{
		"ready", "refused", "MachineID", "MachineMetadata", "MachineOf", "Conflicts", "symmetry", "Global", "home",
		"least loaded", "provider", "old first", "picky first", "rivals first", "keep in lost",
		"cordoned", "keep in cordoned", "keep in draining", "CPU", "Memory", "shed", "Priority", "Spread", "Spread's label",
		"Replaces", "circles", "circles through peers", "replaced in order", "room of the replaced", "conflicts of the replaced",
		"the replaced find a place", "Strict", "OnPartition",
	} {
		caught := 0
		for i, s := range snapshots {
			if !maps.Equal(right[i], decideByOracle(s, rule)) {
				caught++
			}
		}
		t.Logf("without %q: %d of %d snapshots differ", rule, caught, len(snapshots))
		if caught == 0 {
			t.Errorf("without %q nothing is different", rule)
		}
	}
}

func TestDecideIsOrderIndependent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := genSnapshot().Draw(t, "snapshot")
		want := Decide(s)
		shuffled := Snapshot{Hosts: slices.Clone(s.Hosts), Units: slices.Clone(s.Units), Placed: s.Placed, Spans: slices.Clone(s.Spans)}
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		rng.Shuffle(len(shuffled.Hosts), func(i, j int) {
			shuffled.Hosts[i], shuffled.Hosts[j] = shuffled.Hosts[j], shuffled.Hosts[i]
		})
		rng.Shuffle(len(shuffled.Units), func(i, j int) {
			shuffled.Units[i], shuffled.Units[j] = shuffled.Units[j], shuffled.Units[i]
		})
		rng.Shuffle(len(shuffled.Spans), func(i, j int) {
			shuffled.Spans[i], shuffled.Spans[j] = shuffled.Spans[j], shuffled.Spans[i]
		})
		if d := cmp.Diff(want, Decide(shuffled)); d != "" {
			t.Fatal(d)
		}
	})
}

// TestDecideBreaksNoRule checks the outcome with Explain, which shares no index with Decide: wherever a unit is, on a
// host that is ready, every rule holds; and a unit without host fits nowhere.
func TestDecideBreaksNoRule(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := genSnapshot().Draw(t, "snapshot")
		after := After(s, Decide(s))
		globals, placed := GlobalHosts(after), wherever(after)
		for _, u := range oneByOne(s).Units {
			on := []string{placed[u.Name]}
			if u.Requirements.Global {
				on = globals[u.Name]
			}
			for _, r := range Explain(after, u.Name) {
				there := slices.Contains(on, r.HostID)
				if r.Here != there {
					t.Fatalf("%s on %s: Explain says here=%v", u.Name, r.Host, r.Here)
				}
				lost := hostOf(s, r.HostID).State == Lost || hostOf(s, r.HostID).State == Draining
				switch {
				case u.Requirements.Global && r.Fits != there:
					t.Fatalf("global %s on %s: %v, but %+v", u.Name, r.Host, there, r)
				case there && !r.Fits && !lost:
					t.Fatalf("%s is on %s, which %s", u.Name, r.Host, r.Reason)
				case placed[u.Name] == "" && !u.Requirements.Global && r.Fits:
					t.Fatalf("%s waits although %s %s", u.Name, r.Host, r.Reason)
				case r.Reason == "":
					t.Fatalf("%s on %s: no reason", u.Name, r.Host)
				}
			}
		}
	})
}

// TestDecideExplainsItself: every wanted unit that is on no ready host has a decision, and every decision a reason.
func TestDecideExplainsItself(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := genSnapshot().Draw(t, "snapshot")
		ds := Decide(s)
		if !slices.IsSortedFunc(ds, func(a, b Decision) int { return strings.Compare(a.Unit, b.Unit) }) {
			t.Fatalf("not sorted: %+v", ds)
		}
		ds, before, after := singly(ds), wherever(s), wherever(After(s, ds))
		decided := make(map[string]Decision)
		for i, d := range ds {
			if d.Reason == "" {
				t.Fatalf("%+v has no reason", d)
			}
			if i > 0 && ds[i-1].Unit == d.Unit {
				t.Fatalf("%s twice", d.Unit)
			}
			if d.From != before[d.Unit] || d.Kind != Wait && after[d.Unit] != d.To {
				t.Fatalf("%+v is not what happened", d)
			}
			decided[d.Unit] = d
		}
		for _, u := range oneByOne(s).Units {
			h := hostOf(s, after[u.Name])
			if _, ok := decided[u.Name]; !ok && !u.Requirements.Global && (h == nil || h.State != Ready && h.State != Cordoned) {
				t.Fatalf("%s has no host and no decision says why", u.Name)
			}
		}
	})
}

// fitsOn says whether every rule of a unit holds on a host, the other units being where s says.
func fitsOn(s Snapshot, unit, hostID string) bool {
	return slices.ContainsFunc(Explain(s, unit), func(r HostReason) bool { return r.HostID == hostID && r.Fits })
}

// TestDecideMovesNothingNeedlessly: for whoever had to leave a ready host a rule was broken there, as things were, or is
// now that others have moved.
func TestDecideMovesNothingNeedlessly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := genSnapshot().Draw(t, "snapshot")
		ds := Decide(s)
		after := oneByOne(After(s, ds))
		for _, d := range singly(ds) {
			u := unitOf(after, d.Unit)
			if u == nil || d.From == "" || d.Kind == Wait || u.Requirements.Global {
				continue
			}
			home := hostOf(s, d.From)
			if home == nil || home.State != Ready && home.State != Cordoned {
				continue
			}
			back := After(after, nil)
			back.Placed[d.Unit] = d.From
			if fitsOn(oneByOne(s), d.Unit, d.From) && fitsOn(back, d.Unit, d.From) {
				t.Fatalf("%+v, but it could have stayed", d)
			}
		}
	})
}

// TestDecideSettles: when its decisions have been carried out there is nothing left to decide, and the same units wait.
func TestDecideSettles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := genSnapshot().Draw(t, "snapshot")
		first := Decide(s)
		var waiting []string
		for _, d := range singly(first) {
			u := unitOf(oneByOne(s), d.Unit)
			if d.Kind == Wait || d.Kind == Remove && u != nil && !u.Requirements.Global {
				waiting = append(waiting, d.Unit)
			}
		}
		var still []string
		for _, d := range singly(Decide(After(s, first))) {
			if d.Kind != Wait {
				t.Fatalf("second pass: %+v", d)
			}
			still = append(still, d.Unit)
		}
		if d := cmp.Diff(waiting, still); d != "" {
			t.Fatal(d)
		}
	})
}

// TestDecideGainsFromCapacity: another host, or a lost one that comes back, moves nothing that runs, and nobody has to
// wait who did not before.
func TestDecideGainsFromCapacity(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := genSnapshot().Draw(t, "snapshot")
		first := Decide(s)
		after := After(s, first)
		waited := make(map[string]bool)
		for _, d := range singly(Decide(after)) {
			waited[d.Unit] = true
		}
		grown := after
		grown.Hosts = append(slices.Clone(after.Hosts), Host{
			ID: hostID(50), Name: rapid.SampledFrom([]string{"a-first", "z-last"}).Draw(t, "name"), Provider: "north",
			MilliCPU: 2000, Memory: 1 << 30,
			Labels: map[string]string{"role": rapid.SampledFrom([]string{"db", "web"}).Draw(t, "role")},
		})
		for _, d := range singly(Decide(grown)) {
			if !waited[d.Unit] || d.Kind == Remove {
				t.Fatalf("another host makes %+v", d)
			}
		}
	})
}
