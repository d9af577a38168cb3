package control

import (
	"time"

	"github.com/musterhq/muster/agent/fleet"
)

// longestHold is how long a host may go on with its strict units of which nothing is known: it was removed before this
// leader began to look.
const longestHold = time.Minute

// absences knows for how long this leader has seen hosts without a session, by its own monotonic clock. A leader that is
// new, or was frozen, waits longer than need be, never shorter. It is for one goroutine.
type absences struct {
	since map[string]absence
	hold  map[string]time.Duration // what a host last said of itself
}

// absence is since when a host has no session. The leader does not see every session: it reads everything anew after an
// error. The host's own record tells of those that it has missed.
type absence struct {
	at        time.Time
	created   int64 // that of the host's record
	announced int64
}

func newAbsences() *absences {
	return &absences{since: map[string]absence{}, hold: map[string]time.Duration{}}
}

// look notes that a host has no session, and says since when.
func (a *absences) look(v fleet.View, id string, now time.Time) time.Time {
	h, there := v.Hosts[id]
	is := absence{at: now, created: h.Created, announced: h.Record.Announced}
	was, known := a.since[id]
	if known && (!there || was.created == is.created && was.announced == is.announced) {
		return was.at
	}
	a.since[id] = is
	return now
}

// gone are the hosts whose strict units cannot run any more, whatever they know: they have been without a session for as
// long as they may go on. due is when the next one is, the zero time for none.
func (a *absences) gone(v fleet.View, now time.Time) (gone map[string]bool, due time.Time) {
	for id, h := range v.Hosts {
		if hold := time.Duration(h.Record.HoldMillis) * time.Millisecond; hold > 0 {
			a.hold[id] = hold
		}
	}
	awaited := map[string]bool{}
	gone = map[string]bool{}
	for _, id := range v.Awaited() {
		awaited[id] = true
		since := a.look(v, id, now)
		hold, known := a.hold[id]
		if !known {
			hold = longestHold
		}
		if over := since.Add(hold); !now.Before(over) {
			gone[id] = true
		} else {
			due = earlier(due, over)
		}
	}
	for id := range a.since {
		if !awaited[id] {
			delete(a.since, id)
		}
	}
	return gone, due
}

// earlier is the first of two moments of which the zero time is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
