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

// Seats returns the seats of every unit that has any, by its name: scheduled ones first, of them live ones first, then by
// host ID.
func (v View) Seats() map[string][]Seat {
	seats := make(map[string][]Seat, len(v.Units))
	reported := v.reported()
	for name, where := range v.placements() {
		for _, p := range where {
			seat := Seat{Host: p.host, Live: v.Ready(p.host), Scheduled: &p.scheduled}
			if state, known := reported[spot{name, p.host}]; known {
				seat.Reported = &state
				delete(reported, spot{name, p.host})
			}
			seats[name] = append(seats[name], seat)
		}
	}
	for at, state := range reported {
		if v.Ready(at.host) {
			seats[at.unit] = append(seats[at.unit], Seat{Host: at.host, Live: true, Reported: &state})
		}
	}
	rank := func(s Seat) int {
		switch {
		case s.Scheduled == nil:
			return 2
		case !s.Live:
			return 1
		}
		return 0
	}
	for _, list := range seats {
		slices.SortFunc(list, func(a, b Seat) int { return cmp.Or(rank(a)-rank(b), cmp.Compare(a.Host, b.Host)) })
	}
	return seats
}
