package schedule

import (
	"slices"
	"strings"

	"github.com/musterhq/muster/cluster/instances"
)

// addPlacements tells units and groups where they are, and gathers what is not wanted.
func (w *world) addPlacements(s Snapshot) {
	groups := make(map[string]*group, len(w.groups))
	for _, g := range w.groups {
		groups[g.template] = g
	}
	for _, span := range s.Spans {
		rest := span.Instances
		for n := range w.unitsAmong(span).All() {
			w.placeUnit(instances.Name(span.Template, n), span.Host)
			rest = rest.Minus(one(n))
		}
		w.placeSpan(groups[span.Template], Span{Template: span.Template, Host: span.Host, Instances: rest})
	}
	for name, host := range s.Placed {
		template, n, ok := instances.Split(name)
		switch u := w.byName[name]; {
		case u != nil:
			w.placeUnit(name, host)
		case ok && groups[template] != nil && groups[template].numbers.Has(n):
			w.placeSpan(groups[template], Span{Template: template, Host: host, Instances: one(n)})
		default:
			w.unwanted = append(w.unwanted, Decision{Unit: name, Kind: Remove, From: host, Reason: unwanted})
		}
	}
}

const unwanted = "no longer wanted"

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
func (w *world) placeSpan(g *group, span Span) {
	stray := span.Instances
	if g != nil {
		stray = stray.Minus(g.numbers)
	}
	if len(stray) > 0 {
		w.unwanted = append(w.unwanted,
			Decision{Unit: span.Template, Instances: stray, Kind: Remove, From: span.Host, Reason: unwanted})
	}
	if g == nil {
		return
	}
	home := none
	if n, ok := w.byID[span.Host]; ok {
		home = n
	}
	for _, r := range span.Instances.Minus(stray) {
		g.pending = append(g.pending, &batch{Range: r, from: span.Host, home: home})
	}
}
