package fleet

import (
	"cmp"
	"iter"
	"slices"

	"github.com/musterhq/muster/cluster/instances"
	"github.com/musterhq/muster/cluster/store"
)

// Seat is a unit on one host, or replicas of a template of which all this is the same: where the schedule has them, or
// where a live host still reports them.
type Seat struct {
	Host      string               // ID
	Live      bool                 // the host's session lives
	Scheduled *store.ScheduledUnit // nil when the host is about to give the unit up
	Reported  *store.UnitState     // nil before the host has said anything of the unit
	Count     int                  // of replicas, in ReplicaSeats
}

// Seats returns the seats of some units, or of all if none is named, by unit: scheduled ones first, of them live ones first,
// then by host ID. Units without a seat are left out. It needs the records of schedules, states, the roster and sessions.
func (v View) Seats(units ...string) map[string][]Seat {
	wanted := wantedUnits(units)
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

func (s Seat) rank() int {
	switch {
	case s.Scheduled == nil:
		return 2
	case !s.Live:
		return 1
	}
	return 0
}

// seatsAt is what a host has or shall have, by unit.
func (v View) seatsAt(id string, wanted units) map[string]Seat {
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
		if wanted.may(scheduled[i].Name) {
			for name := range wanted.in(scheduled[i].Name, scheduled[i].Instances) {
				add(name, func(s *Seat) { s.Scheduled = &scheduled[i] })
			}
		}
	}
	for i := range reported {
		if wanted.may(reported[i].Name) {
			for name := range wanted.in(reported[i].Name, reported[i].Instances) {
				add(name, func(s *Seat) { s.Reported = &reported[i] })
			}
		}
	}
	return here
}

// units are the units that somebody asks for, without any all of them.
type units struct {
	named    map[string]bool
	replicas map[string][]int // of those that are instances: the number by template
}

func wantedUnits(names []string) units {
	w := units{named: make(map[string]bool, len(names)), replicas: map[string][]int{}}
	for _, name := range names {
		w.named[name] = true
		if template, n, ok := instances.Split(name); ok {
			w.replicas[template] = append(w.replicas[template], n)
		}
	}
	return w
}

// may says at once of most entries of records that they are of no wanted unit.
func (w units) may(name string) bool {
	return len(w.named) == 0 || w.named[name] || len(w.replicas[name]) > 0
}

// in yields the wanted units among those that an entry of a record is of.
func (w units) in(name string, set instances.Set) iter.Seq[string] {
	all := len(w.named) == 0
	return func(yield func(string) bool) {
		if set == nil && (all || w.named[name]) && !yield(name) {
			return
		}
		numbers := slices.Values(w.replicas[name])
		if all {
			numbers = set.All()
		}
		for n := range numbers {
			if set.Has(n) && !yield(instances.Name(name, n)) {
				return
			}
		}
	}
}

// ReplicaSeats returns where the replicas of a template are, those together of which the host says the same.
func (v View) ReplicaSeats(template string) []Seat {
	var seats []Seat
	for id := range v.Roster {
		scheduled := v.Schedule[id].Record.Units
		for i := range scheduled {
			if scheduled[i].Name == template && scheduled[i].Instances != nil {
				seats = append(seats, v.replicasAt(id, &scheduled[i])...)
			}
		}
	}
	return seats
}

func (v View) replicasAt(id string, scheduled *store.ScheduledUnit) []Seat {
	live := v.Ready(id)
	var seats []Seat
	silent := scheduled.Instances
	reported := v.States[id].Record.Units
	for i := range reported {
		template, set := reported[i].Name, reported[i].Instances
		if one, n, ok := instances.Split(template); ok {
			template, set = one, instances.Of(instances.Range{First: n, Last: n})
		}
		if template != scheduled.Name {
			continue
		}
		both, rest := silent, instances.Set(nil)
		if !set.Equal(silent) {
			both = silent.Intersect(set)
			rest = silent.Minus(both)
		}
		if len(both) > 0 {
			seats = append(seats, Seat{Host: id, Live: live, Scheduled: scheduled, Reported: &reported[i], Count: both.Len()})
			silent = rest
		}
	}
	if len(silent) > 0 {
		seats = append(seats, Seat{Host: id, Live: live, Scheduled: scheduled, Count: silent.Len()})
	}
	return seats
}
