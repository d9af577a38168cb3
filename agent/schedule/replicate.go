package schedule

import (
	"cmp"
	"slices"
	"strings"

	"github.com/musterhq/muster/cluster/instances"
)

// keepGroup settles the instances that may stay where they are; the others, and those that have no host, are pending.
func (w *world) keepGroup(g *group) {
	missing := g.numbers
	was := g.pending
	g.pending = nil
	var held []instances.Range
	reasons := make(map[int32]string)
	for _, b := range was {
		held = append(held, b.Range)
		why, known := reasons[b.home]
		if !known || b.home == none {
			why = w.whyLeave(&g.unit, b.from, b.home)
			reasons[b.home] = why
		}
		if b.left = why; why != "" {
			g.pending = append(g.pending, b)
			continue
		}
		g.here[b.home] = g.here[b.home].Union(instances.Set{b.Range})
		w.occupy(&g.unit, b.home, int32(b.Len()))
	}
	for _, r := range missing.Minus(instances.Of(held...)) {
		g.pending = append(g.pending, &batch{Range: r, home: none})
	}
}

// settleHome puts every instance of every group where the snapshot has it, whatever the rules.
func (w *world) settleHome() {
	for i := range w.units {
		if u := w.units[i]; u.home != none {
			w.settle(u, u.home)
		}
	}
	for _, g := range w.groups {
		for _, b := range g.pending {
			if b.home != none {
				g.here[b.home] = g.here[b.home].Union(instances.Set{b.Range})
				w.occupy(&g.unit, b.home, int32(b.Len()))
			}
		}
	}
}

// residents returns the units on hosts that are asked for, in their order.
func (w *world) residents(wanted func(u *unit, at int32) bool) []resident {
	var rs []resident
	for i := range w.units {
		if u := w.units[i]; u.at != none && wanted(u, u.at) {
			rs = append(rs, resident{unit: u, number: u.number, at: u.at})
		}
	}
	for _, g := range w.groups {
		for at, set := range g.here {
			if !wanted(&g.unit, at) {
				continue
			}
			for n := range set.All() {
				rs = append(rs, resident{unit: &g.unit, group: g, number: n, at: at})
			}
		}
	}
	slices.SortFunc(rs, func(a, b resident) int {
		return cmp.Or(strings.Compare(a.base, b.base), cmp.Compare(a.number, b.number), strings.Compare(a.Name, b.Name))
	})
	return rs
}

// leave takes a resident from its host.
func (w *world) leave(r resident, why string) {
	if r.group == nil {
		r.left = why
		w.unsettle(r.unit)
		return
	}
	g := r.group
	g.here[r.at] = g.here[r.at].Minus(one(r.number))
	w.occupy(&g.unit, r.at, -1)
	g.pending = append(g.pending, &batch{
		Range: instances.Range{First: r.number, Last: r.number}, from: w.hosts[r.at].ID, home: r.at, left: why,
	})
}

// placeBatch finds hosts for instances of a group, for as many as there are.
func (w *world) placeBatch(g *group, b *batch) {
	for n := b.First; n <= b.Last; n++ {
		if b.home != none && w.openAgain(&g.unit, b.home) {
			w.displace(&g.unit, b.home)
			w.occupy(&g.unit, b.home, 1)
			b.stays = b.stays.Union(one(n))
			g.here[b.home] = g.here[b.home].Union(one(n))
			continue
		}
		at := w.pick(g.class, &g.unit)
		if at == none {
			return // and so would the rest
		}
		if g.reason == "" {
			g.reason = w.whyPlaced(&g.unit)
		}
		w.displace(&g.unit, at)
		w.occupy(&g.unit, at, 1)
		g.gains[at]++
		b.placed++
	}
}

// assign says which instances go to which host: both in their order, so that numbers in a row stay together.
func (g *group) assign() (chunks []chunk, waiting []*batch) {
	hosts := make([]int32, 0, len(g.gains))
	for at := range g.gains {
		hosts = append(hosts, at)
	}
	slices.Sort(hosts)
	for _, b := range g.pending {
		left := b.placed
		for _, r := range (instances.Set{b.Range}).Minus(b.stays) {
			for r.Len() > 0 && left > 0 {
				to := hosts[0]
				n := min(r.Len(), left, g.gains[to])
				chunks = append(chunks, chunk{batch: b, Range: instances.Range{First: r.First, Last: r.First + n - 1}, to: to})
				r.First += n
				left -= n
				if g.gains[to] -= n; g.gains[to] == 0 {
					hosts = hosts[1:]
				}
			}
			if r.Len() > 0 {
				rest := *b
				rest.Range = r
				waiting = append(waiting, &rest)
			}
		}
	}
	return chunks, waiting
}

// decideGroup tells where a group's instances are now from where they were, each kind of change once.
func (w *world) decideGroup(g *group) []Decision {
	type change struct {
		kind             Kind
		from, to, reason string
	}
	sets := make(map[change][]instances.Range)
	chunks, waiting := g.assign()
	for _, c := range chunks {
		to := w.hosts[c.to].ID
		if c.from == to {
			continue // another one left, and this one came back in its place
		}
		kind, reason := w.verdict(&g.unit, c.from, c.home, c.left, c.to)
		ch := change{kind, c.from, to, reason}
		sets[ch] = append(sets[ch], c.Range)
	}
	for _, b := range waiting {
		kind, reason := w.verdict(&g.unit, b.from, b.home, b.left, none)
		ch := change{kind, b.from, "", reason}
		sets[ch] = append(sets[ch], b.Range)
	}
	ds := make([]Decision, 0, len(sets))
	for ch, ranges := range sets {
		ds = append(ds, Decision{
			Unit: g.template, Instances: instances.Of(ranges...), Kind: ch.kind, From: ch.from, To: ch.to, Reason: ch.reason,
		})
	}
	return ds
}

// rivalReplica names the first instance on a host with which the unit conflicts.
func (w *world) rivalReplica(u *unit, at int32) string {
	for _, g := range w.groups {
		set := g.here[at]
		if len(set) == 0 {
			continue
		}
		there, self := g.named(set[0].First), u.Unit
		if u == &g.unit { // which stands for all of them, and conflicts with itself
			last := g.numbers[len(g.numbers)-1].Last
			if self = g.named(last); last == set[0].First {
				self = g.named(g.numbers[0].First)
			}
		}
		if conflict(self, there) {
			return there.Name
		}
	}
	return ""
}

// named is the group's unit as one of the instances.
func (g *group) named(n int) *Unit {
	return &Unit{Name: instances.Name(g.template, n), Requirements: g.Requirements}
}
