package schedule

import (
	"maps"
	"slices"
)

// replacing knows which units make which others leave. A unit's Replaces are shell patterns of unit names. A unit that one
// of them matches must not be where the replacing unit is, and it is the one that goes; beyond that its own rules bind it as
// ever. What replaces goes wherever it would go if the others were not there, and moves them.
type replacing struct {
	*conflicts // declared are Replaces, matching the names that they match
	matches    map[int32][]member
	declaring  map[int32][]member // a pattern's, but for those that are refused
	replacers  []member           // those with Replaces, in such an order that none is made to leave by one after it
}

// member is a unit, or a group as a whole.
type member struct {
	*unit
	group *group // nil for a unit
}

func newReplacing() replacing {
	return replacing{conflicts: newConflicts(), matches: make(map[int32][]member)}
}

// replaces says whether a unit makes another one leave. It is the rule itself, for explanations.
func replaces(a, b *Unit) bool {
	return a.Name != b.Name && !b.Requirements.Global && slices.ContainsFunc(a.Requirements.Replaces, func(p string) bool {
		return matchPattern(p, b.Name)
	})
}

// countOn is how many of a member are on a host.
func (m member) countOn(at int32) int32 {
	switch {
	case m.group != nil:
		return int32(m.group.here[at].Len() + m.group.gains[at])
	case m.at == at:
		return 1
	}
	return 0
}

// victims are those on a host that the unit replaces, each once, in order.
func (w *world) victims(u *unit, at int32) []member {
	var victims []member
	for i, p := range u.replaces {
		if w.replacing.matching[pair(at, p)] == 0 {
			continue
		}
		for _, m := range w.replacing.matches[p] {
			again := slices.ContainsFunc(u.replaces[:i], func(q int32) bool { return slices.Contains(m.replaced, q) })
			if m.unit != u && !again && m.countOn(at) > 0 {
				victims = append(victims, m)
			}
		}
	}
	slices.SortFunc(victims, func(a, b member) int { return compareUnits(a.unit, b.unit) })
	return victims
}

// lift takes away what those keep from the unit that it replaces on a host, and returns what puts it back.
func (w *world) lift(u *unit, at int32) (lower func()) {
	victims := w.victims(u, at)
	for _, m := range victims {
		w.press(m.unit, at, -m.countOn(at))
	}
	return func() {
		for _, m := range victims {
			w.press(m.unit, at, m.countOn(at))
		}
	}
}

// whom names the first that the unit replaces on a host, as the end of a reason.
func (w *world) whom(u *unit, at int32) string {
	victims := w.victims(u, at)
	if len(victims) == 0 {
		return ""
	}
	return ", where it replaces " + victims[0].Name
}

// replacer names the first that replaces the unit on a host.
func (w *world) replacer(u *unit, at int32) string {
	for _, m := range w.replacing.replacers {
		if m.unit != u && m.countOn(at) > 0 && replaces(m.Unit, u.Unit) {
			return m.Name
		}
	}
	return ""
}

// arrive settles a unit that is placed.
func (w *world) arrive(u *unit, at int32) {
	w.displace(u, at)
	w.settle(u, at)
}

// displace notes whether somebody has to leave a host for a unit that comes. That is the next pass's affair.
func (w *world) displace(u *unit, at int32) {
	w.displaced = w.displaced || w.replacing.on(at, u.replaces, nil)
}

// giveWay unsettles units on the hosts of those that replace them.
func (w *world) giveWay() {
	for _, m := range w.replacing.replacers {
		hosts := []int32{m.at}
		if m.group != nil {
			hosts = slices.Sorted(maps.Keys(m.group.here))
		}
		for _, at := range hosts {
			if at != none && m.countOn(at) > 0 {
				w.driveOut(m, at)
			}
		}
	}
}

func (w *world) driveOut(by member, at int32) {
	name := by.Name
	if by.group != nil {
		name = by.group.named(by.group.here[at][0].First).Name
	}
	why := name + " replaces it on host " + nameOf(w.hosts[at].Host)
	for _, m := range w.victims(by.unit, at) {
		if m.group == nil {
			w.leave(resident{unit: m.unit, at: at}, why)
			continue
		}
		for n := range m.group.here[at].All() {
			w.leave(resident{unit: m.unit, group: m.group, number: n, at: at}, why)
		}
	}
}
