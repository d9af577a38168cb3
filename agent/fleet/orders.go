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
	scheduled := make(map[string]instances.Set)
	count := func(name string, n int) {
		if v.Units[name].Record.Global {
			global += n
		} else {
			own += n
		}
	}
	for _, u := range v.Schedule[id].Record.Units {
		count(u.Name, size(u.Instances))
		if scheduled[u.Name] = scheduled[u.Name].Union(u.Instances); u.Instances == nil {
			scheduled[u.Name] = instances.Set{}
		}
	}
	if !v.Ready(id) {
		return own, global
	}
	for _, s := range v.States[id].Record.Units { // what it has not given up yet
		set, listed := scheduled[s.Name]
		template, n, isReplica := instances.Split(s.Name)
		switch {
		case s.Instances != nil:
			count(s.Name, s.Instances.Minus(set).Len())
		case !listed && !(isReplica && scheduled[template].Has(n)):
			count(s.Name, 1)
		}
	}
	return own, global
}

// size is how many units an entry of a record is.
func size(set instances.Set) int {
	if set == nil {
		return 1
	}
	return set.Len()
}
