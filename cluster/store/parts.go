package store

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
	"slices"

	"github.com/musterhq/muster/cluster/instances"
)

// PartSize is how many bytes of JSON one part of a schedule has at most, but that a single entry may be larger. It bounds
// what is written when one unit changes, to one part; and a host of 200 distinct units has about seven.
const PartSize = 4096

// Parts are the records of which a host's schedule is made, by number.
type Parts map[int]Entry[ScheduleRecord]

func (t *Tables) setPart(id string, part int, item Item) error {
	r, err := Unmarshal[ScheduleRecord](item.Value)
	if err != nil {
		return fmt.Errorf("%s: %w", item.Key, err)
	}
	if t.Parts[id] == nil {
		t.Parts[id] = Parts{}
	}
	t.Parts[id][part] = Entry[ScheduleRecord]{Record: r, Revision: item.ModRevision}
	t.Schedule[id] = t.Parts[id].union()
	return nil
}

func (t *Tables) removePart(id string, part int) {
	delete(t.Parts[id], part)
	if len(t.Parts[id]) == 0 {
		delete(t.Parts, id)
		delete(t.Schedule, id)
		return
	}
	t.Schedule[id] = t.Parts[id].union()
}

// union is the schedule as one record.
func (p Parts) union() Entry[ScheduleRecord] {
	if only, ok := p[0]; ok && len(p) == 1 {
		return only
	}
	var all Entry[ScheduleRecord]
	for _, n := range slices.Sorted(maps.Keys(p)) {
		all.Record.V = max(all.Record.V, p[n].Record.V)
		all.Revision = max(all.Revision, p[n].Revision)
		all.Record.Units = append(all.Record.Units, p[n].Record.Units...)
	}
	all.Record.Units = gather(all.Record.Units)
	return all
}

// gather sorts entries and makes one of those that are the same but for their instances. Of a unit that is there twice,
// as while it goes from one part to another, the first counts.
func gather(units []ScheduledUnit) []ScheduledUnit {
	slices.SortStableFunc(units, compareEntries)
	var gathered []ScheduledUnit
	for _, u := range units {
		last := len(gathered) - 1
		switch {
		case last < 0 || gathered[last].Name != u.Name:
		case u.Instances == nil && gathered[last].Instances == nil:
			continue
		case compareEntries(gathered[last], u) == 0:
			gathered[last].Instances = gathered[last].Instances.Union(u.Instances)
			continue
		}
		gathered = append(gathered, u)
	}
	return gathered
}

func compareEntries(a, b ScheduledUnit) int {
	if c := cmp.Compare(a.Name, b.Name); c != 0 || a.Instances == nil || b.Instances == nil {
		return c
	}
	return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Desired, b.Desired))
}

// Equal says whether two entries say the same.
func (u ScheduledUnit) Equal(v ScheduledUnit) bool {
	return u.Name == v.Name && u.File == v.File && u.Desired == v.Desired && u.Instances.Equal(v.Instances)
}

// Each yields the units of a record, each instance of a template under its own name.
func (r ScheduleRecord) Each() iter.Seq[ScheduledUnit] {
	return func(yield func(ScheduledUnit) bool) {
		for _, u := range r.Units {
			if u.Instances == nil && !yield(u) {
				return
			}
			for n := range u.Instances.All() {
				if !yield(ScheduledUnit{Name: instances.Name(u.Name, n), File: u.File, Desired: u.Desired}) {
					return
				}
			}
		}
	}
}

// Each yields the states of a record, that of each instance under its own name.
func (r StatesRecord) Each() iter.Seq[UnitState] {
	return func(yield func(UnitState) bool) {
		for _, u := range r.Units {
			if u.Instances == nil && !yield(u) {
				return
			}
			for n := range u.Instances.All() {
				each := u
				each.Name, each.Instances = instances.Name(u.Name, n), nil
				if !yield(each) {
					return
				}
			}
		}
	}
}

// PackStates makes one entry of the instances of a template whose states are the same, but for since when. The result is
// sorted by name.
func PackStates(states []UnitState) []UnitState {
	type alike struct{ name, file, load, active, sub, reason string }
	at := make(map[alike]int, len(states))
	ranges := make(map[int][]instances.Range)
	packed := make([]UnitState, 0, len(states))
	for _, s := range states {
		template, n, ok := instances.Split(s.Name)
		if !ok {
			packed = append(packed, s)
			continue
		}
		key := alike{template, s.File, s.Load, s.Active, s.Sub, s.Reason}
		i, known := at[key]
		if !known {
			i = len(packed)
			at[key] = i
			packed = append(packed, s)
		}
		ranges[i] = append(ranges[i], instances.Range{First: n, Last: n})
		if packed[i].Since.Before(s.Since) {
			packed[i].Since = s.Since
		}
	}
	for i, members := range ranges {
		if len(members) > 1 {
			packed[i].Name, _, _ = instances.Split(packed[i].Name)
			packed[i].Instances = instances.Of(members...)
		}
	}
	slices.SortStableFunc(packed, func(a, b UnitState) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), slices.CompareFunc(a.Instances, b.Instances, compareRanges))
	})
	return packed
}

func compareRanges(a, b instances.Range) int { return cmp.Compare(a.First, b.First) }
