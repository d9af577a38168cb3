package store

import (
	"maps"
	"slices"
)

// Repack says which parts of a host's schedule have to be written so that their union is the wanted units: the units of
// each, nil for a part to be deleted. Entries stay in the parts where they are, so that little is written; new ones fill
// what room there is, and then parts of their own. Part 0 is always there.
func Repack(was Parts, wanted []ScheduledUnit) map[int]ScheduleRecord {
	p := packing{parts: make(map[int][]ScheduledUnit), size: make(map[int]int)}
	missing := make(map[entryKey]ScheduledUnit, len(wanted))
	for _, u := range wanted {
		missing[keyOf(u)] = u
	}
	for _, n := range slices.Sorted(maps.Keys(was)) {
		p.parts[n] = nil
		for _, u := range was[n].Record.Units {
			if is, ok := missing[keyOf(u)]; ok && p.fits(n, is) {
				p.put(n, is)
				delete(missing, keyOf(u))
			}
		}
	}
	p.fill(wanted, missing)
	return p.changes(was)
}

// entryKey is what makes an entry of a schedule the same one when it changes.
type entryKey struct {
	name, file string
	desired    Desired
}

func keyOf(u ScheduledUnit) entryKey {
	if u.Instances == nil {
		return entryKey{name: u.Name}
	}
	return entryKey{u.Name, u.File, u.Desired}
}

type packing struct {
	parts map[int][]ScheduledUnit
	size  map[int]int // of their JSON, in bytes
}

// around is what JSON has around the values of an entry.
const around = len(`{"n":"","f":"","d":"","i":""},`)

func sizeOf(u ScheduledUnit) int {
	return around + len(u.Name) + len(u.File) + len(u.Desired) + len(u.Instances.String())
}

func (p *packing) fits(n int, u ScheduledUnit) bool {
	return len(p.parts[n]) == 0 || p.size[n]+sizeOf(u) <= PartSize
}

func (p *packing) put(n int, u ScheduledUnit) {
	p.parts[n] = append(p.parts[n], u)
	p.size[n] += sizeOf(u)
}

// fill puts what is missing where there is room, in the order of the wanted units.
func (p *packing) fill(wanted []ScheduledUnit, missing map[entryKey]ScheduledUnit) {
	n := 0
	for _, u := range wanted {
		if _, ok := missing[keyOf(u)]; !ok {
			continue
		}
		for !p.fits(n, u) {
			n++
		}
		p.put(n, u)
	}
}

// changes compares the parts with those that were there.
func (p *packing) changes(was Parts) map[int]ScheduleRecord {
	used := 0
	for n, units := range p.parts {
		if n != 0 && len(units) > 0 {
			used++
		}
	}
	changed := make(map[int]ScheduleRecord)
	if _, ok := p.parts[0]; !ok {
		p.parts[0] = nil
	}
	for n, units := range p.parts {
		old, there := was[n]
		if n != 0 && len(units) == 0 {
			changed[n] = ScheduleRecord{}
			continue
		}
		slices.SortFunc(units, compareEntries)
		part := n != 0 || used > 0
		if !there || old.Record.Part != part || !slices.EqualFunc(old.Record.Units, units, ScheduledUnit.Equal) {
			changed[n] = ScheduleRecord{V: RecordVersion, Part: part, Units: append([]ScheduledUnit{}, units...)}
		}
	}
	return changed
}
