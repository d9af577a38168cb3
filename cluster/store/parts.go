package store

import (
	"cmp"
	"iter"
	"maps"
	"slices"

	"github.com/musterhq/muster/cluster/instances"
)

// PartsOf are the records of one kind of which one host's are made, by number.
type PartsOf[T any] map[int]Entry[T]

// Parts are those of a schedule, StateParts those of what the host reports.
type (
	Parts      = PartsOf[ScheduleRecord]
	StateParts = PartsOf[StatesRecord]
)

// partColumn is the tables of a kind of record that may come in parts: the parts, and what they are together.
type partColumn struct {
	prefix string
	set    func(t *Tables, id string, part int, item Item) error
	remove func(t *Tables, id string, part int)
}

var partColumns = []partColumn{
	partColumnOf(PrefixSchedule, func(t *Tables) (map[string]Parts, map[string]Entry[ScheduleRecord]) {
		return t.Parts, t.Schedule
	}, func(parts []ScheduleRecord) (all ScheduleRecord) {
		for _, r := range parts {
			all.V = max(all.V, r.V)
			all.Units = append(all.Units, r.Units...)
		}
		all.Units = gather(all.Units)
		return all
	}),
	partColumnOf(PrefixStates, func(t *Tables) (map[string]StateParts, map[string]Entry[StatesRecord]) {
		return t.StateParts, t.States
	}, func(parts []StatesRecord) (all StatesRecord) {
		for _, r := range parts {
			all.V = max(all.V, r.V)
			all.Units = append(all.Units, r.Units...)
		}
		slices.SortStableFunc(all.Units, compareStates)
		return all
	}),
}

func partColumnOf[T any, P record[T]](
	prefix string, tables func(*Tables) (map[string]PartsOf[T], map[string]Entry[T]), union func([]T) T,
) partColumn {
	unite := func(t *Tables, id string) {
		parts, whole := tables(t)
		whole[id] = parts[id].unite(union)
	}
	return partColumn{
		prefix: prefix,
		set: func(t *Tables, id string, part int, item Item) error {
			r, err := Unmarshal[T, P](item.Value)
			if err != nil {
				return err
			}
			parts, _ := tables(t)
			if parts[id] == nil {
				parts[id] = PartsOf[T]{}
			}
			parts[id][part] = Entry[T]{Record: r, Revision: item.ModRevision}
			unite(t, id)
			return nil
		},
		remove: func(t *Tables, id string, part int) {
			parts, whole := tables(t)
			if delete(parts[id], part); len(parts[id]) > 0 {
				unite(t, id)
				return
			}
			delete(parts, id)
			delete(whole, id)
		},
	}
}

// unite makes one record of the parts, with the revision of the last that changed.
func (p PartsOf[T]) unite(union func([]T) T) Entry[T] {
	if only, ok := p[0]; ok && len(p) == 1 {
		return only
	}
	var all Entry[T]
	var records []T
	for _, n := range slices.Sorted(maps.Keys(p)) {
		all.Revision = max(all.Revision, p[n].Revision)
		records = append(records, p[n].Record)
	}
	all.Record = union(records)
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
	return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Desired, b.Desired), cmp.Compare(a.Partition, b.Partition))
}

// Equal says whether two entries say the same.
func (u ScheduledUnit) Equal(v ScheduledUnit) bool {
	return u.Name == v.Name && u.File == v.File && u.Desired == v.Desired && u.Instances.Equal(v.Instances) &&
		u.Partition == v.Partition && u.Leaving == v.Leaving
}

// Each yields the units of a record, each instance of a template under its own name.
func (r ScheduleRecord) Each() iter.Seq[ScheduledUnit] {
	return each(r.Units, func(u *ScheduledUnit) (*string, *instances.Set) { return &u.Name, &u.Instances })
}

// Len is how many units Each yields.
func (r ScheduleRecord) Len() (n int) {
	for _, u := range r.Units {
		n += max(1, u.Instances.Len())
	}
	return n
}

// Each yields the states of a record, that of each instance under its own name.
func (r StatesRecord) Each() iter.Seq[UnitState] {
	return each(r.Units, func(u *UnitState) (*string, *instances.Set) { return &u.Name, &u.Instances })
}

// each yields entries, those of several instances once for each under its own name. naming is where an entry has both.
func each[U any](entries []U, naming func(*U) (name *string, set *instances.Set)) iter.Seq[U] {
	return func(yield func(U) bool) {
		var entry U // one for all, of which each yields a copy
		name, set := naming(&entry)
		for _, entry = range entries {
			if *set == nil {
				if !yield(entry) {
					return
				}
				continue
			}
			template, all := *name, *set
			*set = nil
			for n := range all.All() {
				if *name = instances.Name(template, n); !yield(entry) {
					return
				}
			}
		}
	}
}

// likeness is what several states say alike when one entry stands for all of them.
type likeness struct{ name, file, load, active, sub, reason, health, healthReason string }

func (s UnitState) likeness(name string) likeness {
	return likeness{name, s.File, s.Load, s.Active, s.Sub, s.Reason, s.Health, s.HealthReason}
}

// PackStates makes one entry of the instances of a template whose states are the same, but for since when. The result is
// sorted by name.
func PackStates(states []UnitState) []UnitState {
	at := make(map[likeness]int)
	ranges := make(map[int][]instances.Range)
	packed := []UnitState{}
	var last likeness
	i, known := 0, false
	for _, s := range states {
		template, n, ok := instances.Split(s.Name)
		if !ok {
			packed = append(packed, s)
			continue
		}
		if key := s.likeness(template); !known || key != last { // most are like the one before
			if i, known = at[key]; !known {
				i = len(packed)
				at[key] = i
				packed = append(packed, s)
			}
			last, known = key, true
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
	slices.SortStableFunc(packed, compareStates)
	return packed
}

func compareRanges(a, b instances.Range) int { return cmp.Compare(a.First, b.First) }
