package fleetapi

import (
	"cmp"
	"maps"
	"slices"
	"sort"

	"github.com/musterhq/muster/agent/fleet"
	"github.com/musterhq/muster/cluster/instances"
	"github.com/musterhq/muster/cluster/store"
)

// listing is the states that live hosts report, by unit, replicas of a template by number, and then by host. Those of
// replicas are kept as the records have them, and only what is asked for is made of them: there may be millions. Of a million
// on 5,000 hosts the listing takes 16 ms and 2 MB, once for each change of what is mirrored, and a page of it 4 ms; 80 ms,
// 6 MB and 75 ms when no two replicas of a host are in a row (BenchmarkMillion, one core). Making all of them takes
// several seconds and 600 MB.
type listing struct {
	groups []group
	total  int
}

// group is the states of one unit, or of all numbered instances of a template.
type group struct {
	name    string
	before  int // how many states the groups before it have
	entries []entry
}

// entry is what one host says of a unit, or of some instances together.
type entry struct {
	host     string // ID
	numbers  instances.Set
	before   []int32 // how many numbers the ranges before each have
	reported *store.UnitState
}

func newEntry(host string, numbers instances.Set, reported *store.UnitState) entry {
	e := entry{host: host, numbers: numbers, before: make([]int32, len(numbers)), reported: reported}
	for i := 1; i < len(numbers); i++ {
		e.before[i] = e.before[i-1] + int32(numbers[i-1].Len())
	}
	return e
}

func (e entry) count() int { return max(1, e.numbers.Len()) }

// list makes the listing of some hosts.
func list(v fleet.View, hosts []string) listing {
	entries := map[string][]entry{}
	for _, id := range hosts {
		reported := v.States[id].Record.Units
		for i := range reported {
			name, numbers := reported[i].Name, reported[i].Instances
			if template, n, ok := instances.Split(name); ok {
				name, numbers = template, instances.Of(instances.Range{First: n, Last: n})
			}
			entries[name] = append(entries[name], newEntry(id, numbers, &reported[i]))
		}
	}
	var l listing
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		g := group{name: name, before: l.total, entries: entries[name]}
		slices.SortStableFunc(g.entries, func(a, b entry) int { return cmp.Compare(a.host, b.host) })
		for _, e := range g.entries {
			l.total += e.count()
		}
		l.groups = append(l.groups, g)
	}
	return l
}

// listAll is the listing of all live hosts.
func listAll(v fleet.View) listing {
	var live []string
	for id := range v.Roster {
		if v.Ready(id) {
			live = append(live, id)
		}
	}
	return list(v, live)
}

// slice makes the states from begin to before end.
func (l listing) slice(begin, end int) []report {
	var reports []report
	first := sort.Search(len(l.groups), func(i int) bool { return l.groups[i].before > begin }) - 1
	for i := max(0, first); i < len(l.groups) && l.groups[i].before < end; i++ {
		next := l.total
		if i+1 < len(l.groups) {
			next = l.groups[i+1].before
		}
		g := l.groups[i]
		reports = append(reports, g.slice(max(begin, g.before)-g.before, min(end, next)-g.before)...)
	}
	return reports
}

// slice is that of a listing within a group. It looks only at those numbers of each entry that are in it.
func (g group) slice(begin, end int) []report {
	if begin >= end {
		return nil
	}
	within := instances.Range{First: g.numberAt(begin), Last: g.numberAt(end - 1)}
	type numbered struct {
		number int
		report
	}
	var some []numbered
	for _, e := range g.entries {
		if e.numbers == nil {
			some = append(some, numbered{0, e.report(g.name)})
		}
		for n := range e.between(within) {
			some = append(some, numbered{n, e.report(instances.Name(g.name, n))})
		}
	}
	slices.SortStableFunc(some, func(a, b numbered) int { return cmp.Compare(a.number, b.number) })
	skip := begin - g.below(within.First)
	reports := make([]report, 0, end-begin)
	for _, s := range some[skip : skip+end-begin] {
		reports = append(reports, s.report)
	}
	return reports
}

// numberAt is the number of the state at an index, 0 for the unit itself.
func (g group) numberAt(index int) int {
	return sort.Search(instances.Max, func(n int) bool { return g.below(n+1) > index })
}

// below is how many states have a lower number.
func (g group) below(number int) int {
	count := 0
	for _, e := range g.entries {
		if e.numbers == nil && number > 0 {
			count++
		}
		if i := e.rangeOf(number) - 1; i >= 0 {
			r := e.numbers[i]
			count += int(e.before[i]) + min(r.Last, number-1) - r.First + 1
		}
	}
	return count
}

// rangeOf is the index of the first range that begins at a number or after it.
func (e entry) rangeOf(number int) int {
	return sort.Search(len(e.numbers), func(i int) bool { return e.numbers[i].First >= number })
}

// between yields the entry's numbers in a range.
func (e entry) between(within instances.Range) func(yield func(int) bool) {
	return func(yield func(int) bool) {
		for _, r := range e.numbers[max(0, e.rangeOf(within.First)-1):] {
			if r.First > within.Last {
				return
			}
			for n := max(r.First, within.First); n <= min(r.Last, within.Last); n++ {
				if !yield(n) {
					return
				}
			}
		}
	}
}

func (e entry) report(name string) report {
	r := e.reported
	return report{
		UnitState: UnitState{Name: name, MachineID: e.host, Load: r.Load, Active: r.Active, Sub: r.Sub}, file: r.File,
	}
}
