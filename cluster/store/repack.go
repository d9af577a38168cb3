package store

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
)

// PartSize is how many bytes of JSON one part of a schedule or of states has at most, but that a single entry may be
// larger. It bounds what is written when one unit changes, to one part; a host of 200 distinct units has about seven.
const PartSize = 4096

// Repack says which parts of a host's schedule have to be written so that their union is the wanted units: the record of
// each, one without Units for a part to be deleted. Entries stay in the parts where they are, so that little is written;
// new ones fill what room there is, and then parts of their own. Part 0 is always there.
func Repack(was Parts, wanted []ScheduledUnit) map[int]ScheduleRecord {
	type identity struct {
		name, file string
		desired    Desired
	}
	p := packing[ScheduledUnit, identity]{
		identity: func(u ScheduledUnit) identity {
			if u.Instances == nil {
				return identity{name: u.Name}
			}
			return identity{u.Name, u.File, u.Desired}
		},
		size: func(u ScheduledUnit) int {
			return len(`{"n":"","f":"","d":"","i":"","p":"","l":},`) + len(u.Name) + len(u.File) + len(u.Desired) +
				len(u.Instances.String()) + len(u.Partition) + len(strconv.FormatInt(u.Leaving, 10))
		},
		compare: compareEntries, equal: ScheduledUnit.Equal,
	}
	parts := make(map[int]held[ScheduledUnit], len(was))
	for n, e := range was {
		parts[n] = held[ScheduledUnit]{e.Record.Part, e.Record.Units}
	}
	changed := make(map[int]ScheduleRecord)
	for n, c := range p.repack(parts, wanted) {
		changed[n] = ScheduleRecord{V: RecordVersion, Part: c.part, Units: c.units}
	}
	return changed
}

// RepackStates is Repack for the states that a host reports.
func RepackStates(was StateParts, wanted []UnitState) map[int]StatesRecord {
	p := packing[UnitState, likeness]{
		identity: func(u UnitState) likeness {
			if u.Instances == nil {
				return likeness{name: u.Name}
			}
			return u.likeness(u.Name)
		},
		size: func(u UnitState) int {
			const around = len(`{"n":"","f":"","l":"","a":"","s":"","r":"","t":"2006-01-02T15:04:05.999999999+07:00","i":"","h":"","hr":""},`)
			return around + len(u.Name) + len(u.File) + len(u.Load) + len(u.Active) + len(u.Sub) + quoted(u.Reason) +
				len(u.Instances.String()) + len(u.Health) + quoted(u.HealthReason)
		},
		compare: compareStates, equal: UnitState.equal,
	}
	parts := make(map[int]held[UnitState], len(was))
	for n, e := range was {
		parts[n] = held[UnitState]{e.Record.Part, e.Record.Units}
	}
	changed := make(map[int]StatesRecord)
	for n, c := range p.repack(parts, wanted) {
		changed[n] = StatesRecord{V: RecordVersion, Part: c.part, Units: c.units}
	}
	return changed
}

// held is what one part has.
type held[U any] struct {
	part  bool // it says that there are others
	units []U
}

// packing spreads entries over parts. Entries with the same identity are the same one, before a change and after it.
type packing[U any, K comparable] struct {
	identity func(U) K
	size     func(U) int // of its JSON, in bytes, at most
	compare  func(a, b U) int
	equal    func(a, b U) bool

	parts map[int][]U
	sizes map[int]int
}

// repack returns the parts that change.
func (p *packing[U, K]) repack(was map[int]held[U], wanted []U) map[int]held[U] {
	p.parts, p.sizes = make(map[int][]U), make(map[int]int)
	missing := make(map[K]U, len(wanted))
	for _, u := range wanted {
		missing[p.identity(u)] = u
	}
	for _, n := range slices.Sorted(maps.Keys(was)) {
		p.parts[n] = nil
		for _, u := range was[n].units {
			if is, ok := missing[p.identity(u)]; ok && p.fits(n, is) {
				p.put(n, is)
				delete(missing, p.identity(u))
			}
		}
	}
	n := 0
	for _, u := range wanted {
		if _, ok := missing[p.identity(u)]; !ok {
			continue
		}
		for !p.fits(n, u) {
			n++
		}
		p.put(n, u)
	}
	return p.changes(was)
}

func (p *packing[U, K]) fits(n int, u U) bool {
	return len(p.parts[n]) == 0 || p.sizes[n]+p.size(u) <= PartSize
}

func (p *packing[U, K]) put(n int, u U) {
	p.parts[n] = append(p.parts[n], u)
	p.sizes[n] += p.size(u)
}

// changes compares the parts with those that were there.
func (p *packing[U, K]) changes(was map[int]held[U]) map[int]held[U] {
	several := false
	for n, units := range p.parts {
		several = several || n != 0 && len(units) > 0
	}
	if _, ok := p.parts[0]; !ok {
		p.parts[0] = nil
	}
	changed := make(map[int]held[U])
	for n, units := range p.parts {
		if n != 0 && len(units) == 0 {
			changed[n] = held[U]{}
			continue
		}
		slices.SortFunc(units, p.compare)
		old, there := was[n]
		if !there || old.part != several || !slices.EqualFunc(old.units, units, p.equal) {
			changed[n] = held[U]{part: several, units: append([]U{}, units...)}
		}
	}
	return changed
}

func compareStates(a, b UnitState) int {
	return cmp.Or(cmp.Compare(a.Name, b.Name), slices.CompareFunc(a.Instances, b.Instances, compareRanges))
}

func (s UnitState) equal(t UnitState) bool {
	return s.Name == t.Name && s.File == t.File && s.Load == t.Load && s.Active == t.Active && s.Sub == t.Sub &&
		s.Reason == t.Reason && s.Since.Equal(t.Since) && s.Instances.Equal(t.Instances) &&
		s.Health == t.Health && s.HealthReason == t.HealthReason
}

// quoted is how long a text is in JSON at most: a byte becomes \u0000.
func quoted(s string) int { return 6 * len(s) }
