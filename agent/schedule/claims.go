package schedule

import (
	"cmp"
	"slices"
	"strings"
)

// claim is a unit that is to be placed, or a batch of a group's instances.
type claim struct {
	*unit
	had    bool // a host
	number int
	group  *group
	batch  *batch
}

// placeAll finds a host for every unit that has none. Units come in order; a follower comes when the last of its peers
// has a host.
func (w *world) placeAll() {
	now := w.claims()
	for len(now) > 0 {
		w.order(now)
		var next []claim
		for _, c := range now {
			if c.group != nil {
				w.placeBatch(c.group, c.batch)
				continue
			}
			if !w.place(c.unit) {
				continue
			}
			for _, follower := range w.followers[c.unit] {
				if follower.waiting--; follower.waiting == 0 && follower.at == none {
					next = append(next, claimOf(follower))
				}
			}
		}
		now = next
	}
}

// claims are those whose turn does not depend on others.
func (w *world) claims() []claim {
	var now []claim
	for i := range w.units {
		u := w.units[i]
		if u.at != none || u.Requirements.Global || u.refused != "" {
			continue
		}
		if w.countPeers(u); u.waiting == 0 {
			now = append(now, claimOf(u))
		}
	}
	for _, g := range w.groups {
		slices.SortFunc(g.pending, func(a, b *batch) int { return cmp.Compare(a.First, b.First) })
		if g.refused != "" {
			continue
		}
		for _, b := range g.pending {
			now = append(now, claim{unit: &g.unit, had: b.from != "", number: b.First, group: g, batch: b})
		}
	}
	return now
}

func claimOf(u *unit) claim { return claim{unit: u, had: u.from != "", number: u.number} }

// countPeers counts the peers for which the unit must wait. One that cannot come counts too, so that it waits for ever.
func (w *world) countPeers(u *unit) {
	for _, name := range u.Requirements.MachineOf {
		if peer := w.byName[name]; peer == nil || peer.at == none && !peer.Requirements.Global {
			u.waiting++
		}
	}
}

// order sorts what is to be placed: by priority, those that had a host, those that fewer hosts match, those that some
// hosts may be closed to, and by name.
func (w *world) order(claims []claim) {
	for _, c := range claims {
		if c.class == nil {
			c.class = w.classOf(c.unit)
		}
	}
	slices.SortFunc(claims, func(a, b claim) int {
		return cmp.Or(
			cmp.Compare(b.Requirements.Priority, a.Requirements.Priority),
			compareBools(a.had, b.had),
			compareBools(a.Requirements.MachineID != "", b.Requirements.MachineID != ""),
			cmp.Compare(len(a.class.hosts), len(b.class.hosts)),
			compareBools(!a.class.alone, !b.class.alone),
			strings.Compare(a.base, b.base),
			cmp.Compare(a.number, b.number),
			strings.Compare(a.Name, b.Name),
		)
	})
}

// compareBools puts true first.
func compareBools(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}
