package schedule

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/musterhq/muster/agent/unitfile"
)

// Few names and values, so that rules meet.
var (
	unitNames = []string{
		"a.service", "b.service", "c.service", "lb@1.service", "lb@2.service", "lb@3.service",
		"api@1.service", "api@2.service", "api@3.service", "db.service", "log.service", "mail.timer",
	}
	patternTexts = []string{
		"lb@*.service", "*.service", "api@[12].service", "a.service", "?.*", "[", "*b*", `api@\3.service`,
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
		if rapid.IntRange(0, 3).Draw(t, "state") == 0 {
			h.State = Lost
		}
		if role := rapid.SampledFrom([]string{"db", "web", ""}).Draw(t, "role"); role != "" {
			h.Labels = map[string]string{"role": role, "provider": "a lie"}
		}
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
			r.MachineOf = rapid.SliceOfN(rapid.SampledFrom(append(unitNames, "missing.service")), 1, 2).Draw(t, "peers")
		}
		if dice("conflicts", 4) {
			r.Conflicts = rapid.SliceOfN(rapid.SampledFrom(patternTexts), 1, 2).Draw(t, "patterns")
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
		return r
	})
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
		return s
	})
}

// whereAfter is After, without the units that are not wanted.
func whereAfter(s Snapshot, ds []Decision) map[string]string { return After(s, ds).Placed }

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

func TestDecideLikeOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := genSnapshot().Draw(t, "snapshot")
		got, want := whereAfter(s, Decide(s)), decideByOracle(s, "")
		if d := cmp.Diff(map[string]string(want), got); d != "" {
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

// TestMutants leaves each rule out of the oracle in turn. If the snapshots that the properties are tested with could not
// tell the difference, the properties would not be worth much.
func TestMutants(t *testing.T) {
	const random = 2000
	snapshots := []Snapshot{comesHome}
	for seed := range random {
		snapshots = append(snapshots, genSnapshot().Example(seed))
	}
	for _, rule := range []string{
		"ready", "refused", "MachineID", "MachineMetadata", "MachineOf", "Conflicts", "symmetry", "Global", "home",
		"least loaded", "provider", "old first", "picky first", "rivals first", "keep in lost",
	} {
		caught := 0
		for _, s := range snapshots {
			if !cmp.Equal(decideByOracle(s, ""), decideByOracle(s, rule)) {
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
		shuffled := Snapshot{Hosts: slices.Clone(s.Hosts), Units: slices.Clone(s.Units), Placed: s.Placed}
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		rng.Shuffle(len(shuffled.Hosts), func(i, j int) {
			shuffled.Hosts[i], shuffled.Hosts[j] = shuffled.Hosts[j], shuffled.Hosts[i]
		})
		rng.Shuffle(len(shuffled.Units), func(i, j int) {
			shuffled.Units[i], shuffled.Units[j] = shuffled.Units[j], shuffled.Units[i]
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
		globals := GlobalHosts(after)
		for _, u := range s.Units {
			on := []string{after.Placed[u.Name]}
			if u.Requirements.Global {
				on = globals[u.Name]
			}
			for _, r := range Explain(after, u.Name) {
				there := slices.Contains(on, r.HostID)
				if r.Here != there {
					t.Fatalf("%s on %s: Explain says here=%v", u.Name, r.Host, r.Here)
				}
				lost := hostOf(s, r.HostID).State == Lost
				switch {
				case u.Requirements.Global && r.Fits != there:
					t.Fatalf("global %s on %s: %v, but %+v", u.Name, r.Host, there, r)
				case there && !r.Fits && !lost:
					t.Fatalf("%s is on %s, which %s", u.Name, r.Host, r.Reason)
				case after.Placed[u.Name] == "" && !u.Requirements.Global && r.Fits:
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
		after := whereAfter(s, ds)
		decided := make(map[string]Decision)
		for i, d := range ds {
			if d.Reason == "" {
				t.Fatalf("%+v has no reason", d)
			}
			if i > 0 && ds[i-1].Unit >= d.Unit {
				t.Fatalf("%s after %s", d.Unit, ds[i-1].Unit)
			}
			if d.From != s.Placed[d.Unit] || d.Kind != Wait && after[d.Unit] != d.To {
				t.Fatalf("%+v is not what happened", d)
			}
			decided[d.Unit] = d
		}
		for _, u := range s.Units {
			h := hostOf(s, after[u.Name])
			if _, ok := decided[u.Name]; !ok && !u.Requirements.Global && (h == nil || h.State != Ready) {
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
		after := After(s, ds)
		for _, d := range ds {
			u := unitOf(s, d.Unit)
			if u == nil || d.From == "" || d.Kind == Wait || u.Requirements.Global {
				continue
			}
			home := hostOf(s, d.From)
			if home == nil || home.State == Lost {
				continue
			}
			back := After(after, nil)
			back.Placed[d.Unit] = d.From
			if fitsOn(s, d.Unit, d.From) && fitsOn(back, d.Unit, d.From) {
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
		for _, d := range first {
			if d.Kind == Wait || d.Kind == Remove && unitOf(s, d.Unit) != nil && !unitOf(s, d.Unit).Requirements.Global {
				waiting = append(waiting, d.Unit)
			}
		}
		var still []string
		for _, d := range Decide(After(s, first)) {
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
		for _, d := range Decide(after) {
			waited[d.Unit] = true
		}
		grown := after
		grown.Hosts = append(slices.Clone(after.Hosts), Host{
			ID: hostID(50), Name: rapid.SampledFrom([]string{"a-first", "z-last"}).Draw(t, "name"), Provider: "north",
			Labels: map[string]string{"role": rapid.SampledFrom([]string{"db", "web"}).Draw(t, "role")},
		})
		for _, d := range Decide(grown) {
			if !waited[d.Unit] || d.Kind == Remove {
				t.Fatalf("another host makes %+v", d)
			}
		}
	})
}
