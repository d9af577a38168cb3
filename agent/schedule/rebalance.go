package schedule

import (
	"maps"
	"slices"

	"github.com/musterhq/muster/agent/unitfile"
	"github.com/musterhq/muster/cluster/instances"
)

// Budget bounds what Rebalance proposes.
type Budget struct {
	Moves int // at most
	// TemplateShare is how many of a template's instances may be among them, in percent, but always one. 0 is all.
	TemplateShare int
}

// Rebalance proposes moves that even out a fleet on which nothing is to be decided: s is what After returned. Each of them
// is a gain, in this order: instances that are spread are more evenly spread; units are more evenly distributed over the
// hosts, by their number; or, where that is even, one of two hosts has less reserved, by a tenth of what it has, and the
// other does not get as much. What comes later is never made better at the expense of what comes before it, and no move
// for the number's sake reserves more of the fuller host. A fleet in which no single move is a gain gets none, and neither
// does the result of an unlimited budget.
//
// Every rule holds after the moves as it did before; only ready hosts take part. What is tied to a host or to its peers
// (MachineID, MachineOf, and what others name there), or may run but once (Singleton=strict), stays where
// it is. Low priorities move first, and of instances those with the highest numbers; none moves twice.
//
// The cost is that of a pass of Decide that changes nothing, and grows with the moves, not with the instances. On 5,000
// hosts with a million instances BenchmarkRebalanceMillion takes 66 ms of a processor when nothing is to be gained, and
// 3.5 s for the 17,800 moves that 50 more hosts make a gain.
func Rebalance(s Snapshot, budget Budget) []Decision {
	var all []Decision
	moved := movedUnits{units: map[string]bool{}, replicas: map[string]instances.Set{}, counts: map[string]int{}}
	for left := budget.Moves; left > 0; {
		// A pass takes each host as one that gives or one that gets: what leaves a host may let a global unit begin there.
		b := newBalancer(s, moved, left, budget.TemplateShare)
		moves := b.run()
		if len(moves) == 0 {
			break
		}
		all = append(all, moves...)
		s = After(s, moves)
		for _, d := range moves {
			left -= moved.add(d)
		}
	}
	slices.SortFunc(all, compareDecisions)
	return merged(all)
}

// movedUnits is what was moved in earlier passes.
type movedUnits struct {
	units    map[string]bool
	replicas map[string]instances.Set
	counts   map[string]int // by template
}

// add notes a move and says how many units it is of.
func (m movedUnits) add(d Decision) int {
	template, ok := unitfile.Template(d.Unit)
	if d.Instances == nil {
		if m.units[d.Unit] = true; ok {
			m.counts[template]++
		}
		return 1
	}
	m.replicas[d.Unit] = m.replicas[d.Unit].Union(d.Instances)
	m.counts[d.Unit] += d.Instances.Len()
	return d.Instances.Len()
}

// item is what a host may give away: a unit, or instances of a group, one at a time.
type item struct {
	*unit
	group    *group
	template string // that bounds how many of it move, "" if none does
	stuck    bool   // no host would be better in this pass
}

// balancer is one pass: a world in which units go from hosts that give to hosts that get.
type balancer struct {
	*world
	left     int // moves
	bounds   map[string]int
	items    map[int32][]*item
	sorted   []int32 // ready hosts, emptiest first; those that give are not put right
	position []int32 // in sorted, by host
	was      []int32 // load before the pass, by host
	gives    []bool
	gets     []bool
	even     map[*class]int32     // the most instances at one value of the label for which no value was better
	loads    map[classSpot]limits // for which no host was better
	spread   map[*tally][]int32   // counts before the pass
	moves    map[moveKey][]instances.Range
}

// moveKey is a move, or moves of instances that are told together.
type moveKey struct{ unit, from, to, reason string }

// classSpot is the units of a class at one value of the label that they are spread over, or none.
type classSpot struct {
	*class
	domain int32
}

type limits struct{ load, count int32 }

func newBalancer(s Snapshot, moved movedUnits, left, share int) *balancer {
	w := newWorld(s)
	w.keep()
	b := &balancer{
		world: w, left: left, bounds: map[string]int{}, items: map[int32][]*item{}, position: make([]int32, len(w.hosts)),
		was: make([]int32, len(w.hosts)), gives: make([]bool, len(w.hosts)), gets: make([]bool, len(w.hosts)),
		even: map[*class]int32{}, loads: map[classSpot]limits{}, spread: map[*tally][]int32{}, moves: map[moveKey][]instances.Range{},
	}
	for _, f := range w.families {
		for _, t := range f.tallies {
			b.spread[t] = slices.Clone(t.counts)
		}
	}
	for i := range w.hosts {
		b.was[i] = w.hosts[i].load
	}
	b.sorted = slices.Clone(w.ready())
	slices.SortFunc(b.sorted, b.compareLoads)
	for i, n := range b.sorted {
		b.position[n] = int32(i)
	}
	for i := range s.Units {
		if u := &s.Units[i]; share > 0 && u.Replicas > 0 {
			b.bounds[u.Name] = max(u.Replicas*share/100, 1) - moved.counts[u.Name]
		}
	}
	b.collect(moved)
	return b
}

func (b *balancer) compareLoads(x, y int32) int {
	if d := b.hosts[x].load - b.hosts[y].load; d != 0 {
		return int(d)
	}
	return int(x - y)
}

// collect finds out what each ready host may give.
func (b *balancer) collect(moved movedUnits) {
	add := func(at int32, it *item) {
		if b.hosts[at].State == Ready {
			b.items[at] = append(b.items[at], it)
		}
	}
	for _, u := range b.units {
		if u.at == none || b.tied(u) || moved.units[u.Name] {
			continue
		}
		template, _ := unitfile.Template(u.Name)
		if _, bounded := b.bounds[template]; !bounded {
			template = ""
		}
		add(u.at, &item{unit: u, template: template})
	}
	for _, g := range b.groups {
		if b.tied(&g.unit) {
			continue
		}
		template := g.template
		if _, bounded := b.bounds[template]; !bounded {
			template = ""
		}
		for _, at := range slices.Sorted(maps.Keys(g.here)) {
			if g.here[at] = g.here[at].Minus(moved.replicas[g.template]); len(g.here[at]) > 0 {
				add(at, &item{unit: &g.unit, group: g, template: template})
			}
		}
	}
	for _, items := range b.items {
		slices.SortStableFunc(items, func(x, y *item) int {
			if d := x.Requirements.Priority - y.Requirements.Priority; d != 0 {
				return d
			}
			return compareUnits(x.unit, y.unit)
		})
		for _, it := range items {
			if it.class == nil {
				it.class = b.classOf(it.unit)
			}
		}
	}
}

// tied says whether a rule holds a unit to its host, or others to the unit, or whether it may have to be nowhere for a
// while to move (Singleton=strict).
func (b *balancer) tied(u *unit) bool {
	r := u.Requirements
	return r.Global || r.Strict || r.MachineID != "" || len(r.MachineOf) > 0 || len(b.followers[u]) > 0 || u.refused != ""
}
