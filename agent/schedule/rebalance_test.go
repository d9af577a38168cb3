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

const noBound = 1 << 30

// settled is a snapshot on which nothing is to be decided any more.
func settled(t *rapid.T) Snapshot {
	s := genSnapshot().Draw(t, "snapshot")
	if rapid.Bool().Draw(t, "uneven") { // hosts have come, and others have been uncordoned
		s = After(s, Decide(s))
		for i := range rapid.IntRange(1, 2).Draw(t, "new hosts") {
			h := genHost(10+i).Draw(t, "host")
			h.State = Ready
			s.Hosts = append(slices.Clone(s.Hosts), h)
		}
		for i := range s.Hosts {
			if s.Hosts[i].State == Cordoned {
				s.Hosts[i].State = Ready
			}
		}
	}
	return After(s, Decide(s))
}

func movesOf(ds []Decision) int { return len(singly(ds)) }

// unevenness is what rebalancing makes smaller: of every template with a spread, of units per host, and of reservations.
func unevenness(s Snapshot) (spread, load int) {
	each, placed := oneByOne(s), wherever(s)
	labels := map[string]map[string]bool{} // by template
	for _, u := range each.Units {
		if template, ok := unitfile.Template(u.Name); ok && u.Requirements.Spread != "" && !u.Requirements.Global {
			if labels[template] == nil {
				labels[template] = map[string]bool{}
			}
			labels[template][u.Requirements.Spread] = true
		}
	}
	at, on := map[string]int{}, map[string]int{}
	for _, u := range each.Units {
		h := hostOf(s, placed[u.Name])
		if h == nil || u.Requirements.Global {
			continue
		}
		on[h.ID]++
		template, _ := unitfile.Template(u.Name)
		for l := range labels[template] {
			if value, ok := label(h, l); ok && (h.State == Ready || h.State == Cordoned) {
				at[template+" "+l+" "+value]++
			}
		}
	}
	for _, n := range at {
		spread += n * n
	}
	for _, n := range on {
		load += n * n
	}
	return spread, load
}

// TestRebalanceBreaksNoRule: after the moves nothing is to be decided, which is so only if every rule holds; whoever moved
// fits where it is now, and went from a ready host to a ready host.
func TestRebalanceBreaksNoRule(t *testing.T) {
	moved := 0
	rapid.Check(t, func(t *rapid.T) {
		s := settled(t)
		waits := Decide(s)
		ds := Rebalance(s, Budget{Moves: rapid.SampledFrom([]int{1, 2, noBound}).Draw(t, "budget")})
		after := After(s, ds)
		for _, d := range Decide(after) {
			if d.Kind != Wait && !slices.ContainsFunc(waits, func(w Decision) bool { return w.Unit == d.Unit }) {
				t.Fatalf("%+v leads to %+v", ds, d)
			}
		}
		where := wherever(s)
		for _, d := range singly(ds) {
			moved++
			if d.Kind != Move || d.Reason == "" || where[d.Unit] != d.From || d.From == d.To {
				t.Fatalf("%+v is no move from where it was (%s)", d, where[d.Unit])
			}
			if from, to := hostOf(s, d.From), hostOf(s, d.To); from == nil || to == nil || from.State != Ready || to.State != Ready {
				t.Fatalf("%+v between hosts that are not ready", d)
			}
			if !fitsOn(after, d.Unit, d.To) {
				t.Fatalf("%+v does not fit: %+v", d, Explain(after, d.Unit))
			}
		}
	})
	if moved == 0 {
		t.Error("nothing ever moved")
	}
}

// TestRebalanceGains: whatever moves makes instances more evenly spread, or units more evenly distributed, or both as
// they were and a host less reserved.
func TestRebalanceGains(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := settled(t)
		for range 100 {
			ds := Rebalance(s, Budget{Moves: 1})
			if len(ds) == 0 {
				return
			}
			spread, load := unevenness(s)
			before := s
			s = After(s, ds)
			isSpread, isLoad := unevenness(s)
			switch {
			case isSpread < spread:
			case isSpread > spread || isLoad > load:
				t.Fatalf("%+v: spread %d → %d, load %d → %d", ds, spread, isSpread, load, isLoad)
			case isLoad == load && fullness(s, ds[0]) > fullness(before, ds[0])-worthwhile/2:
				t.Fatalf("%+v gains nothing", ds)
			}
		}
		t.Fatal("it never ends")
	})
}

// fullness is how much of the fuller of a move's hosts is reserved, by the units that are on them, in thousandths.
func fullness(s Snapshot, d Decision) int64 {
	full := int64(0)
	placed, globals := wherever(s), GlobalHosts(s)
	for _, id := range []string{d.From, d.To} {
		h := hostOf(s, id)
		var cpu, memory int64
		for _, u := range oneByOne(s).Units {
			if placed[u.Name] == id || slices.Contains(globals[u.Name], id) {
				cpu += u.Requirements.MilliCPU
				memory += u.Requirements.Memory
			}
		}
		if h.MilliCPU > 0 {
			full = max(full, cpu*1000/h.MilliCPU)
		}
		if h.Memory > 0 {
			full = max(full, memory/(h.Memory/1000))
		}
	}
	return full
}

// TestRebalanceConverges: after an unlimited budget there is nothing left to do, but perhaps for what may not move twice.
func TestRebalanceConverges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := settled(t)
		first := Rebalance(s, Budget{Moves: noBound})
		moved := map[string]bool{}
		for _, d := range singly(first) {
			moved[d.Unit] = true
		}
		after := After(s, first)
		for i := 0; ; i++ {
			again := Rebalance(after, Budget{Moves: noBound})
			if len(again) == 0 {
				return
			}
			// The first of them; others may be gains only because what has moved moves again.
			if one := singly(Rebalance(after, Budget{Moves: 1}))[0]; i == 0 && !moved[one.Unit] {
				t.Fatalf("%+v was left out of %+v", one, first)
			}
			if i == 5 { // those that may move but once each time
				t.Fatalf("and again: %+v", again)
			}
			after = After(after, again)
		}
	})
}

func TestRebalanceKeepsToTheBudget(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := settled(t)
		all := movesOf(Rebalance(s, Budget{Moves: noBound}))
		n := rapid.IntRange(0, 4).Draw(t, "moves")
		if got := movesOf(Rebalance(s, Budget{Moves: n})); got > n || got < min(n, all, 1) {
			t.Fatalf("%d moves with a budget of %d, of %d in all", got, n, all)
		}
		counts := map[string]int{}
		for _, d := range singly(Rebalance(s, Budget{Moves: noBound, TemplateShare: 34})) {
			template, _ := unitfile.Template(d.Unit)
			counts[template]++
		}
		for _, u := range s.Units {
			if bound := max(1, u.Replicas*34/100); u.Replicas > 0 && counts[u.Name] > bound {
				t.Fatalf("%d of %d of %s move", counts[u.Name], u.Replicas, u.Name)
			}
		}
	})
}

func TestRebalanceIsOrderIndependent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := settled(t)
		budget := Budget{Moves: rapid.IntRange(1, 5).Draw(t, "moves")}
		want := Rebalance(s, budget)
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
		if d := cmp.Diff(want, Rebalance(shuffled, budget)); d != "" {
			t.Fatal(d)
		}
	})
}

// fleetOf is hosts h0, h1, ... with 4 CPUs, and units; where says how many of the units are on each host, in turn.
func fleetOf(units []Unit, where ...int) Snapshot {
	s := Snapshot{Units: units, Placed: map[string]string{}}
	next := 0
	for i, n := range where {
		h := Host{ID: hostID(i), Name: fmt.Sprintf("h%d", i), Provider: fmt.Sprintf("p%d", i/2), MilliCPU: 4000}
		s.Hosts = append(s.Hosts, h)
		for range n {
			if u := units[0]; u.Replicas > 0 {
				next++
				s.Spans = append(s.Spans, Span{Template: u.Name, Host: h.ID, Instances: one(next)})
			} else {
				s.Placed[units[next].Name] = h.ID
				next++
			}
		}
	}
	return After(s, nil)
}

func unitsOf(n int, r unitfile.Requirements) (units []Unit) {
	for i := range n {
		units = append(units, Unit{Name: fmt.Sprintf("u%02d.service", i), Requirements: r})
	}
	return units
}

// TestRebalance shows what moves, and why.
func TestRebalance(t *testing.T) {
	web := func(n int, r unitfile.Requirements) []Unit {
		return []Unit{{Name: "web@.service", Replicas: n, Requirements: r}}
	}
	heavy := unitsOf(5, unitfile.Requirements{})
	heavy[0].Requirements.MilliCPU, heavy[1].Requirements.MilliCPU = 1500, 1500
	low := unitsOf(4, unitfile.Requirements{})
	low[2].Requirements.Priority = -1
	tight := unitsOf(4, unitfile.Requirements{MilliCPU: 500})
	tight[3].Requirements.MilliCPU = 3400
	strict := fleetOf(unitsOf(3, unitfile.Requirements{Strict: true}), 3, 0)
	for i := range strict.Hosts {
		strict.Hosts[i].Holds = true
	}
	cordoned := fleetOf(unitsOf(3, unitfile.Requirements{}), 3, 0)
	cordoned.Hosts[0].State = Cordoned
	for _, c := range []struct {
		name string
		s    Snapshot
		want []string
	}{
		{"even", fleetOf(unitsOf(7, unitfile.Requirements{}), 2, 3, 2), nil},
		{"nothing to move", fleetOf(unitsOf(1, unitfile.Requirements{}), 1, 0, 0), nil},
		{"a host has come", fleetOf(unitsOf(6, unitfile.Requirements{}), 3, 3, 0), []string{
			"u00.service h0→h2: host h0 had 3 units, h2 0", "u03.service h1→h2: host h1 had 3 units, h2 0",
		}},
		{"low priorities first", fleetOf(low, 3, 1), []string{"u02.service h0→h1: host h0 had 3 units, h1 1"}},
		{"instances", fleetOf(web(6, unitfile.Requirements{}), 3, 3, 0), []string{
			"web@.service 3 h0→h2: host h0 had 3 units, h2 0", "web@.service 6 h1→h2: host h1 had 3 units, h2 0",
		}},
		{"tied", fleetOf(unitsOf(6, unitfile.Requirements{Metadata: map[string][]string{"host": {"h0", "h1"}}}), 3, 3, 0), nil},
		{"as evenly spread as can be", fleetOf(web(3, unitfile.Requirements{Spread: "host"}), 2, 1), nil},
		{"it would reserve more of the fuller host", fleetOf(tight, 3, 1), nil},
		{"Singleton=strict", strict, nil},
		{"a cordoned host keeps what it has", cordoned, nil},
		{"spread", fleetOf(web(4, unitfile.Requirements{Spread: "provider"}), 2, 2, 0), []string{
			"web@.service 2 h0→h2: spread over provider: p0 had 4 of the template, p1 0",
			"web@.service 4 h1→h2: spread over provider: p0 had 4 of the template, p1 0",
		}},
		{"reserved", fleetOf(heavy, 3, 2), []string{"u00.service h0→h1: host h0 has 75% of its CPU or memory reserved, h1 0%"}},
	} {
		var got []string
		for _, d := range Rebalance(c.s, Budget{Moves: noBound}) {
			set := ""
			if d.Instances != nil {
				set = d.Instances.String() + " "
			}
			got = append(got, fmt.Sprintf("%s %s%s→%s: %s", d.Unit, set, hostOf(c.s, d.From).Name, hostOf(c.s, d.To).Name, d.Reason))
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%s: %s", c.name, d)
		}
	}
}

// BenchmarkRebalanceMillion rebalances a million instances on 5,000 hosts when nothing is to be gained, and when 50 hosts
// have come.
func BenchmarkRebalanceMillion(b *testing.B) {
	const hosts, replicas = 5000, 1_000_000
	s := cloud(hosts, replicas)
	s = After(s, Decide(s))
	for name, come := range map[string]int{"even": 0, "50 hosts have come": 50} {
		more := cloud(hosts+come, replicas)
		more.Spans, more.Placed = s.Spans, s.Placed
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			began := cpuTime(b)
			moves := 0
			for b.Loop() {
				moves = 0
				for _, d := range Rebalance(more, Budget{Moves: noBound}) {
					moves += d.Instances.Len()
				}
			}
			reportCPU(b, began, 0)
			b.ReportMetric(float64(moves), "moves")
		})
	}
}
