package fleet

import (
	"cmp"
	"slices"

	"github.com/musterhq/muster/cluster/store"
)

// Seat is a unit on one host: where the schedule has it, or where a live host still reports it.
type Seat struct {
	Host      string               // ID
	Live      bool                 // the host's session lives
	Scheduled *store.ScheduledUnit // nil when the host is about to give the unit up
	Reported  *store.UnitState     // nil before the host has said anything of the unit
}

// Seats returns the seats of some units, or of all if none is named, by unit: scheduled ones first, of them live ones first,
// then by host ID. Units without a seat are left out. It needs the records of schedules, states, the roster and sessions.
func (v View) Seats(units ...string) map[string][]Seat {
	wanted := make(map[string]bool, len(units))
	for _, name := range units {
		wanted[name] = true
	}
	seats := make(map[string][]Seat, len(units))
	for id := range v.Roster {
		for name, s := range v.seatsAt(id, wanted) {
			if s.Scheduled != nil || s.Live {
				seats[name] = append(seats[name], s)
			}
		}
	}
	for _, list := range seats {
		slices.SortFunc(list, func(a, b Seat) int { return cmp.Or(a.rank()-b.rank(), cmp.Compare(a.Host, b.Host)) })
	}
	return seats
}

// seatsAt is what a host has or shall have, by unit: of those that are wanted, or of all when none is.
func (v View) seatsAt(id string, wanted map[string]bool) map[string]Seat {
	live := v.Ready(id)
	var here map[string]Seat
	add := func(name string, change func(*Seat)) {
		if here == nil {
			here = map[string]Seat{}
		}
		seat := here[name]
		seat.Host, seat.Live = id, live
		change(&seat)
		here[name] = seat
	}
	scheduled, reported := v.Schedule[id].Record.Units, v.States[id].Record.Units
	for i := range scheduled {
		if len(wanted) == 0 || wanted[scheduled[i].Name] {
			add(scheduled[i].Name, func(s *Seat) { s.Scheduled = &scheduled[i] })
		}
	}
	for i := range reported {
		if len(wanted) == 0 || wanted[reported[i].Name] {
			add(reported[i].Name, func(s *Seat) { s.Reported = &reported[i] })
		}
	}
	return here
}

func (s Seat) rank() int {
	switch {
	case s.Scheduled == nil:
		return 2
	case !s.Live:
		return 1
	}
	return 0
}
