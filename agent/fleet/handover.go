package fleet

import (
	"maps"
	"slices"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/agent/schedule"
	"github.com/musterhq/muster/cluster/store"
)

// A unit of Singleton=strict may run where a schedule has it, and nowhere else: a host starts none that its schedule does
// not have, and the schedule of a host loses one only when it cannot run there any more. Until then it leaves
// (ScheduledUnit.Leaving), and no other host gets it. So who leads next knows from the schedules alone where it may run.

// handover holds back the strict units that may still run elsewhere.
type handover struct {
	View
	after schedule.Snapshot
	gone  map[string]bool
	alone map[string]bool                           // the strict units that are wanted
	stays map[string]bool                           // those that no other host may have yet
	kept  map[string]map[string]store.ScheduledUnit // by host and unit: what the schedule goes on to say of it
}

// handover looks at every strict unit in the schedules.
func (v View) handover(after schedule.Snapshot, gone map[string]bool) handover {
	h := handover{
		View: v, after: after, gone: gone, alone: map[string]bool{}, stays: map[string]bool{},
		kept: map[string]map[string]store.ScheduledUnit{},
	}
	for name, u := range v.Units {
		if u.Record.Partition == store.PartitionStrict && u.Record.Desired != store.DesiredInactive {
			h.alone[name] = true
		}
	}
	if v.Cluster.Record.Fresh {
		maps.Copy(h.stays, h.unscheduled())
	}
	for id, entry := range v.Schedule {
		for _, u := range entry.Record.Units {
			if u.Instances == nil && h.concerns(u) && v.Bad[store.UnitKey(u.Name)] == nil {
				h.look(id, entry.Revision, u)
			}
		}
	}
	return h
}

// unscheduled are the strict units that no schedule has. While the store is fresh they may run by one that was lost with what
// was there before.
func (h handover) unscheduled() map[string]bool {
	units := maps.Clone(h.alone)
	for _, entry := range h.Schedule {
		for _, u := range entry.Record.Units {
			delete(units, u.Name)
		}
	}
	return units
}

// concerns says whether a scheduled unit is strict, or was when the host was told of it.
func (h handover) concerns(u store.ScheduledUnit) bool {
	return u.Partition == store.PartitionStrict || u.Leaving != 0 || h.alone[u.Name]
}

// look decides what the schedule of a host says of a strict unit that it has. One that the host was told of when it was
// not strict yet leaves, too, even if it is to stay: the host may not have heard that it is strict now.
func (h handover) look(id string, revision int64, u store.ScheduledUnit) {
	told := u.Partition == store.PartitionStrict
	_, wanted := h.Units[u.Name]
	here := wanted && h.after.Placed[u.Name] == id
	switch {
	case here && (told || !h.alone[u.Name]):
		return // it stays, or stays after all
	case h.released(id, u):
		return
	}
	if _, alive := h.Alive[id]; alive && u.Leaving == 0 {
		// Should it come back and leave once more, the schedule has changed since, and the number is another one.
		u.Leaving, u.Desired = revision, store.DesiredInactive
	}
	h.stays[u.Name] = true
	if h.kept[id] == nil {
		h.kept[id] = map[string]store.ScheduledUnit{}
	}
	h.kept[id][u.Name] = u
}

// released says whether a unit cannot run any more on a host that was to give it up.
func (h handover) released(id string, u store.ScheduledUnit) bool {
	if h.left(id, u) {
		return true
	}
	_, member := h.Roster[id]
	return h.gone[id] && (u.Partition == store.PartitionStrict || !member)
}

// left says whether a host has told that a unit, which it was to give up, does not run there any more.
func (v View) left(id string, u store.ScheduledUnit) bool {
	return u.Leaving != 0 && v.Hosts[id].Record.Left[u.Name] == u.Leaving
}

// Forfeits says whether a host loses a strict unit by a new schedule (nil for none) without having told that it has
// stopped it. That may be written only while the host has no session.
func (v View) Forfeits(id string, units []store.ScheduledUnit) bool {
	return slices.ContainsFunc(v.Schedule[id].Record.Units, func(u store.ScheduledUnit) bool {
		return (u.Partition == store.PartitionStrict || u.Leaving != 0) && u.Instances == nil && !v.left(id, u) &&
			!slices.ContainsFunc(units, func(is store.ScheduledUnit) bool { return is.Name == u.Name })
	})
}

// Awaited are the hosts without a session whose strict units may not be taken elsewhere yet, whatever becomes of them.
func (v View) Awaited() []string {
	var ids []string
	for id, entry := range v.Schedule {
		if _, alive := v.Alive[id]; alive {
			continue
		}
		for _, u := range entry.Record.Units {
			if u.Partition == store.PartitionStrict || u.Leaving != 0 {
				ids = append(ids, id)
				break
			}
		}
	}
	return ids
}

// waits says why a unit that fits somewhere is on no host.
func (v View) waits(u store.UnitRecord) string {
	if v.Cluster.Record.Fresh && u.Partition == store.PartitionStrict {
		return "the store was empty moments ago, and a host may still run it by what that had before (Singleton=strict)"
	}
	return "waits to be scheduled"
}

// departure says how a strict unit is that may run nowhere else until a host has given it up.
func (v View) departure(p placement) (state, reason string) {
	name := v.Roster[p.host].Record.Name
	const until = ", and nowhere else before that (Singleton=strict)"
	switch {
	case v.Ready(p.host):
		return api.UnitStopping, "host " + name + " is to stop it" + until
	case p.scheduled.Partition != store.PartitionStrict:
		return api.UnitUnknown, "host " + name + " is " + v.hostState(p.host) +
			" and was never told that only one may run: it must come back, or be removed" + until
	}
	return api.UnitUnknown, "host " + name + " is " + v.hostState(p.host) + " and may still run it for moments" + until
}
