package schedule

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/musterhq/muster/cluster/instances"
)

// worthwhile is by how many thousandths what is reserved of the fuller of two hosts must fall for a move for its sake.
const worthwhile = 100

// run makes moves until none is a gain or there have been enough. The fullest host gives first, one unit at a time.
func (b *balancer) run() []Decision {
	fuller := func(x, y int32) int {
		return cmp.Or(cmp.Compare(b.hosts[y].load, b.hosts[x].load), cmp.Compare(x, y))
	}
	heap := slices.SortedFunc(slices.Values(b.sorted), fuller)
	for b.left > 0 && len(heap) > 0 {
		if at := heap[0]; b.gets[at] || !b.give(at) {
			last := len(heap) - 1
			heap[0] = heap[last]
			heap = heap[:last]
		}
		down(heap, 0, func(x, y int32) bool { return fuller(x, y) < 0 })
	}
	ds := make([]Decision, 0, len(b.moves))
	for m, ranges := range b.moves {
		ds = append(ds, Decision{
			Unit: m.unit, Kind: Move, From: m.from, To: m.to, Reason: m.reason, Instances: instances.Of(ranges...),
		})
	}
	slices.SortFunc(ds, compareDecisions)
	return ds
}

// give moves one unit from a host to a better one, if there is any.
func (b *balancer) give(from int32) bool {
	for _, it := range b.items[from] {
		if it.stuck || it.template != "" && b.bounds[it.template] <= 0 {
			continue
		}
		to, why := b.better(it, from)
		if to == none {
			it.stuck = true
			continue
		}
		b.move(it, from, to, why)
		return true
	}
	return false
}

// better returns the host where the unit would be a gain, and why; none if there is none.
func (b *balancer) better(it *item, from int32) (to int32, why string) {
	c := it.class
	if c.tally == nil {
		return b.emptier(it, from, limits{load: b.hosts[from].load})
	}
	here := limits{load: b.hosts[from].load, count: c.tally.on(from)}
	if to := b.rarer(it, from, here.count); to != none {
		t := c.tally
		return to, fmt.Sprintf("spread over %s: %s had %d of the template, %s %d", t.label,
			b.valueOf(t, from), b.spread[t][t.domains[from]], b.valueOf(t, to), b.spread[t][t.domains[to]])
	}
	return b.emptier(it, from, here)
}

func (b *balancer) valueOf(t *tally, at int32) string {
	value, _ := label(b.hosts[at].Host, t.label)
	return value
}

// rarer returns the best host at a value of the label where there are fewer instances even with one more, before there is
// one less where it is now.
func (b *balancer) rarer(it *item, from, count int32) int32 {
	c := it.class
	if count < 2 || count <= b.even[c] && len(it.family.tallies) == 1 || slices.Min(c.tally.counts) > count-2 {
		return none
	}
	best := none
	for _, n := range b.sorted {
		if on := c.tally.on(n); on <= count-2 && (best == none || on < c.tally.on(best)) && b.evenly(it, from, n) && b.opens(it, n) {
			best = n
		}
	}
	if best == none {
		b.even[c] = count
	}
	return best
}

// evenly says whether instances of the unit's template are no less evenly spread after a move.
func (b *balancer) evenly(it *item, from, to int32) bool {
	if it.family == nil {
		return true
	}
	for _, t := range it.family.tallies {
		if t.domains[from] != t.domains[to] && t.on(to) >= t.on(from) {
			return false
		}
	}
	return true
}

// opens says whether a host may get the unit in this pass.
func (b *balancer) opens(it *item, n int32) bool {
	if b.gives[n] || b.closed(n, it.unit) || b.replacing.on(n, it.replaces, nil) { // and nobody is moved for it
		return false
	}
	_, matches := slices.BinarySearch(it.class.hosts, n)
	return matches
}

// emptier returns the first host with fewer units, or with as many after the move and less reserved.
func (b *balancer) emptier(it *item, from int32, here limits) (to int32, why string) {
	spot := classSpot{it.class, none}
	t := it.class.tally
	if t != nil {
		spot.domain = t.domains[from]
	}
	reserves := !it.needs.isNone()
	alike := !reserves && (it.family == nil || t != nil && len(it.family.tallies) == 1)
	if tried, ok := b.loads[spot]; ok && alike && here.load <= tried.load && here.count <= tried.count {
		return none, ""
	}
	for _, n := range b.sorted {
		gap := here.load - b.hosts[n].load
		if gap < 1 && !b.gives[n] || gap < 2 && !reserves && !b.gives[n] {
			break
		}
		if gap < 1 || !b.evenly(it, from, n) {
			continue
		}
		if why := b.gain(it, from, n, gap); why != "" && b.opens(it, n) {
			return n, why
		}
	}
	if alike {
		b.loads[spot] = here
	}
	return none, ""
}

// gain says what is better when the unit goes to a host that has so many units less, "" if nothing is.
func (b *balancer) gain(it *item, from, to, gap int32) string {
	wasFrom, wasTo := b.reserved(from, room{}), b.reserved(to, room{})
	isFrom, isTo := b.reserved(from, room{-it.needs.cpu, -it.needs.memory}), b.reserved(to, it.needs)
	was, is := max(wasFrom, wasTo), max(isFrom, isTo)
	switch {
	case gap >= 2 && is <= was:
		return fmt.Sprintf("host %s had %s, %s %d", nameOf(b.hosts[from].Host), plural(int(b.was[from]), "unit"),
			nameOf(b.hosts[to].Host), b.was[to])
	case gap == 1 && is <= was-worthwhile:
		return fmt.Sprintf("host %s has %d%% of its CPU or memory reserved, %s %d%%",
			nameOf(b.hosts[from].Host), wasFrom/10, nameOf(b.hosts[to].Host), wasTo/10)
	}
	return ""
}

// reserved is how much of a host is reserved with something more, in thousandths: of its CPUs or of its memory, whichever
// is more.
func (b *balancer) reserved(at int32, more room) int64 {
	h := &b.hosts[at]
	share := int64(0)
	if h.MilliCPU > 0 {
		share = (h.MilliCPU - h.free.cpu + more.cpu) * 1000 / h.MilliCPU
	}
	if h.Memory > 0 {
		share = max(share, permille(h.Memory-h.free.memory+more.memory, h.Memory))
	}
	return share
}

// permille divides without overflow for bytes of any host.
func permille(part, whole int64) int64 { return part / (whole/1000 + 1) }

// move carries one move out.
func (b *balancer) move(it *item, from, to int32, why string) {
	m := moveKey{unit: it.Name, from: b.hosts[from].ID, to: b.hosts[to].ID, reason: why}
	b.gives[from], b.gets[to] = true, true
	b.left--
	if it.template != "" {
		b.bounds[it.template]--
	}
	if g := it.group; g != nil {
		m.unit = g.template
		set := g.here[from]
		n := set[len(set)-1].Last
		g.here[from] = set.Minus(one(n))
		g.here[to] = g.here[to].Union(one(n))
		it.stuck = len(g.here[from]) == 0
		b.occupy(&g.unit, from, -1)
		b.occupy(&g.unit, to, 1)
		b.moves[m] = append(b.moves[m], instances.Range{First: n, Last: n})
	} else {
		it.stuck = true
		b.unsettle(it.unit)
		b.settle(it.unit, to)
		b.moves[m] = nil
	}
	for i := b.position[to]; int(i+1) < len(b.sorted) && b.compareLoads(b.sorted[i+1], b.sorted[i]) < 0; i++ {
		b.sorted[i], b.sorted[i+1] = b.sorted[i+1], b.sorted[i]
		b.position[b.sorted[i]], b.position[b.sorted[i+1]] = i, i+1
	}
}
