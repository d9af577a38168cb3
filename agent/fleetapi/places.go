package fleetapi

import (
	"cmp"
	"maps"
	"slices"

	"github.com/musterhq/muster/agent/fleet"
	"github.com/musterhq/muster/cluster/store"
)

// unitAt is a unit without its options. Whether it is global is not known here.
func unitAt(name string, desired store.Desired, seats []fleet.Seat) Unit {
	u := Unit{Name: name, DesiredState: string(desired), CurrentState: stateInactive}
	if len(seats) > 0 {
		u.MachineID, u.CurrentState = seats[0].Host, currentState(seats[0])
	}
	return u
}

// progress is fleet's words for how far a unit has come, in order.
var progress = []string{stateInactive, stateLoaded, stateLaunched}

// templateAt is a template that asks for replicas, without its options. It is on many machines and so on none, and where
// the last of its replicas is on the way to what is desired.
func templateAt(name string, record store.UnitRecord, seats []fleet.Seat) Unit {
	u := Unit{Name: name, DesiredState: string(record.Desired), CurrentState: stateInactive}
	placed, least, most := 0, len(progress)-1, 0
	for _, s := range seats {
		at := slices.Index(progress, currentState(s))
		least, most = min(least, at), max(most, at)
		placed += s.Count
	}
	switch {
	case record.Desired == store.DesiredInactive && placed > 0, record.Desired == store.DesiredLoaded && placed >= record.Replicas:
		u.CurrentState = progress[max(most, 1)]
	case record.Desired == store.DesiredLaunched && placed >= record.Replicas:
		u.CurrentState = progress[least]
	}
	return u
}

// currentState is fleet's word for how far a unit has come on a host. A host that is lost vouches for nothing. What has
// the contents that it shall not have any more is loaded at best, so that who waits for new ones waits for them.
func currentState(s fleet.Seat) string {
	if !s.Live || s.Reported == nil {
		return stateInactive
	}
	r := *s.Reported
	running := false
	switch {
	case s.Scheduled != nil && s.Scheduled.Desired == store.DesiredLaunched:
		toStart := r.Active == "inactive" && r.Reason == "" // with a reason it has run and ended
		running = r.Load == "loaded" && r.File == s.Scheduled.File && !toStart
	default:
		running = slices.Contains([]string{"active", "activating", "deactivating", "reloading"}, r.Active)
	}
	if running {
		return stateLaunched
	}
	return stateLoaded
}

// report is a state and the contents that it is of.
type report struct {
	UnitState
	file string // SHA-256
}

// reports is what live hosts say of a unit; what the host says first that shall have it.
func reports(v fleet.View, unit, machine string) []report {
	var list []report
	for _, s := range v.Seats(unit)[unit] {
		if s.Live && s.Reported != nil && (machine == "" || s.Host == machine) {
			list = append(list, entry{host: s.Host, reported: s.Reported}.report(unit))
		}
	}
	return list
}

// machines are the live hosts, sorted by ID. `provider` and `host` can be asked for in MachineMetadata like labels, and
// so are shown.
func machines(v fleet.View) []Machine {
	var list []Machine
	for id, member := range v.Roster {
		if !v.Ready(id) {
			continue
		}
		h := member.Record.Host
		metadata := map[string]string{}
		maps.Copy(metadata, h.Labels)
		metadata["provider"], metadata["host"] = h.Provider, h.Name
		list = append(list, Machine{ID: id, PrimaryIP: h.Address, Metadata: metadata})
	}
	slices.SortFunc(list, func(a, b Machine) int { return cmp.Compare(a.ID, b.ID) })
	return list
}
