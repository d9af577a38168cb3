package schedule

import (
	"cmp"
	"slices"
	"strings"

	"github.com/musterhq/muster/cluster/instances"
)

// addPlacements tells units and groups where they are, and gathers what is not wanted.
func (w *world) addPlacements(s Snapshot) {
	w.placed = s.Placed
	groups := make(map[string]*group, len(w.groups))
	for _, g := range w.groups {
		groups[g.template] = g
	}
	on := make(map[spot]instances.Set)
	for _, span := range s.Spans {
		rest := span.Instances
		for n := range w.unitsAmong(span).All() {
			w.placeUnit(instances.Name(span.Template, n), span.Host)
			rest = rest.Minus(one(n))
		}
		if len(rest) > 0 {
			at := spot{span.Template, span.Host}
			on[at] = on[at].Union(rest)
		}
	}
	for name, host := range s.Placed {
		template, n, ok := instances.Split(name)
		switch u := w.byName[name]; {
		case u != nil:
			w.placeUnit(name, host)
		case ok && groups[template] != nil && groups[template].numbers.Has(n):
			at := spot{template, host}
			on[at] = on[at].Union(one(n))
		default:
			w.unwanted = append(w.unwanted, Decision{Unit: name, Kind: Remove, From: host, Reason: unwanted})
		}
	}
	for _, at := range sortedSpots(on) {
		w.placeSpan(groups[at.template], at, on[at])
	}
}

const unwanted = "no longer wanted"

func sortedSpots(on map[spot]instances.Set) []spot {
	spots := make([]spot, 0, len(on))
	for at := range on {
		spots = append(spots, at)
	}
	slices.SortFunc(spots, compareSpots)
	return spots
}

func compareSpots(a, b spot) int {
	return cmp.Or(strings.Compare(a.template, b.template), strings.Compare(a.host, b.host))
}

// unitsAmong returns the instances of a span that are decided on one by one.
func (w *world) unitsAmong(span Span) instances.Set {
	i, _ := slices.BinarySearchFunc(w.units, span.Template, func(u *unit, base string) int {
		return strings.Compare(u.base, base)
	})
	var among []instances.Range
	for ; i < len(w.units) && w.units[i].base == span.Template; i++ {
		if n := w.units[i].number; span.Instances.Has(n) {
			among = append(among, instances.Range{First: n, Last: n})
		}
	}
	return instances.Of(among...)
}

func (w *world) placeUnit(name, host string) {
	u := w.byName[name]
	if u.Requirements.Global {
		w.unwanted = append(w.unwanted, Decision{Unit: name, Kind: Remove, From: host, Reason: "it is global now"})
		return
	}
	u.from = host
	if n, ok := w.byID[host]; ok {
		u.home = n
	}
}

// placeSpan notes where instances of a group are; for now as pending, until keep has looked at them.
func (w *world) placeSpan(g *group, at spot, set instances.Set) {
	stray := set
	if g != nil {
		stray = set.Minus(g.numbers)
	}
	if len(stray) > 0 {
		w.unwanted = append(w.unwanted,
			Decision{Unit: at.template, Instances: stray, Kind: Remove, From: at.host, Reason: unwanted})
	}
	if g == nil {
		return
	}
	home := none
	if n, ok := w.byID[at.host]; ok {
		home = n
	}
	for _, r := range set.Intersect(g.numbers) {
		g.pending = append(g.pending, &batch{Range: r, from: at.host, home: home})
	}
}
