package fleet

import (
	"time"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/agent/schedule"
	"github.com/musterhq/muster/cluster/instances"
	"github.com/musterhq/muster/cluster/store"
)

// ordered is the state of a host that lives, at some moment, by what operators ordered of it. A host that is lost stays so
// whatever was ordered: what it runs cannot be known to have ended.
func (v View) ordered(id string, now time.Time) schedule.HostState {
	order, found := v.Orders[id]
	switch {
	case !found:
		return schedule.Ready
	case order.Record.Order == store.OrderCordon:
		return schedule.Cordoned
	case order.Record.Deadline == nil || now.Before(*order.Record.Deadline):
		return schedule.Draining
	}
	return schedule.Drained
}

// NextDeadline is the first moment after now at which some member's drain is past its deadline; the zero time if there is
// none. What Snapshot returns changes then by itself.
func (v View) NextDeadline(now time.Time) time.Time {
	var next time.Time
	for id, order := range v.Orders {
		at := order.Record.Deadline
		if _, member := v.Roster[id]; !member || at == nil || !at.After(now) {
			continue
		}
		if next.IsZero() || at.Before(next) {
			next = *at
		}
	}
	return next
}

// addOrder tells what was ordered of a host, and what is on it.
func (v View) addOrder(s *api.HostStatus) {
	own, global := v.unitsOn(s.ID)
	s.Units = own + global
	order, found := v.Orders[s.ID]
	if !found {
		return
	}
	since := order.Record.Since
	s.OrderedAt, s.Deadline = &since, order.Record.Deadline
	switch {
	case order.Record.Order == store.OrderCordon:
		s.Order = api.OrderCordoned
	case own > 0:
		s.Order, s.Remaining = api.OrderDraining, own
	default:
		s.Order = api.OrderDrained
	}
}

// unitsOn counts the units and instances that a host has or shall have, those apart that run on every host that fits.
func (v View) unitsOn(id string) (own, global int) {
	scheduled := gathering{}
	for _, u := range v.Schedule[id].Record.Units {
		n := scheduled.add(u.Name, u.Instances)
		if v.Units[u.Name].Record.Global {
			global += n
		} else {
			own += n
		}
	}
	if !v.Ready(id) {
		return own, global
	}
	for _, s := range v.States[id].Record.Units { // what it has not given up yet
		n := scheduled.add(s.Name, s.Instances)
		if v.Units[s.Name].Record.Global {
			global += n
		} else {
			own += n
		}
	}
	return own, global
}

// gathering is units and instances, each once however records name them: an instance may be in a set of its template, or
// stand by itself.
type gathering map[string]instances.Set

// add says how many of an entry of a record are new.
func (g gathering) add(name string, set instances.Set) int {
	if set == nil {
		if template, n, ok := instances.Split(name); ok {
			name, set = template, instances.Of(instances.Range{First: n, Last: n})
		} else {
			set = instances.UpTo(1)
		}
	}
	fresh := set.Minus(g[name])
	g[name] = g[name].Union(fresh)
	return fresh.Len()
}
