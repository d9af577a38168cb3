// Package rollout decides how new contents reach the members of a unit: the instances of a template, or the hosts of a
// global unit. It is pure: the next state follows from the last one, what is observed, and the time.
//
// A few members at a time get the new contents (Policy). The next ones follow when all that have them are well, and have
// been for a while. If one is not well in time, or has failed, those that have the new contents get the old ones back, as
// few at a time, and the rollout has failed. It guarantees that members which are well are changed only so that no more
// than the policy's number are not well because of it; that it ends, done, failed with everybody back, or paused; and that
// it goes on from any state that it ever returned, as if nothing had come between. Times in a state are by the clock of
// whoever led then; one that is yet to come was written by a clock that was ahead, and counts from now.
//
// It knows members as numbers, and neither what contents are nor who changes them.
package rollout

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/musterhq/muster/cluster/instances"
	"github.com/musterhq/muster/cluster/store"
)

// Policy is how a rollout goes.
type Policy struct {
	Parallel int // members at a time, or, if it is 0:
	Percent  int // of all members, of which one at least
	// Hold is how long members must have been well until that counts, and Delay how much longer until others follow.
	Hold, Delay time.Duration
	Patience    time.Duration // how long a member may take to be well
}

// State is how far a rollout is.
type State struct {
	Phase    store.RolloutPhase
	Paused   bool // nothing is changed
	Undone   bool
	Reason   string
	Updated  instances.Set // have the new contents
	Batch    instances.Set // of whom were changed last
	Began    time.Time     // that was
	Steady   time.Time     // since when all is well, zero if it is not
	Mark     time.Time     // Observed.Latest then
	Setbacks int           // how often it was well and then was not, since Began
}

// Observed is how the members are. Sets are of members.
type Observed struct {
	All instances.Set
	// Absent are on no host that lives. Nobody waits for them.
	Absent instances.Set
	// Ready run the contents that they have by State, and are well. Bad have them and will not be well by waiting.
	Ready, Bad instances.Set
	// Why tells of some that are not ready what is wrong.
	Why map[int]string
	// Latest is when, by the hosts' clocks, some member with new contents last changed its state.
	Latest time.Time
}

// setbacks is how often members may stop being well before that counts as a failure.
const setbacks = 3

// Next is the state that follows. Members of its Updated get the new contents, all others the old ones. wake is when to
// look again although nothing has changed, zero for never.
func Next(p Policy, s State, o Observed, now time.Time) (next State, wake time.Time) {
	if s.Paused || s.Phase != store.PhaseForward && s.Phase != store.PhaseBack {
		return s, time.Time{}
	}
	s.Began, s.Steady = earlier(s.Began, now), earlier(s.Steady, now)
	s.Updated, s.Batch = s.Updated.Intersect(o.All), s.Batch.Intersect(o.All)
	if s.Phase == store.PhaseForward {
		if s, wake = forward(p, s, o, now); s.Phase != store.PhaseBack {
			return s, wake
		}
	}
	return back(p, s, o, now)
}

func earlier(a, b time.Time) time.Time {
	if a.After(b) {
		return b
	}
	return a
}

// Back is the state in which a rollout begins to go back.
func Back(s State, reason string) State {
	s.Phase, s.Reason, s.Batch = store.PhaseBack, reason, nil
	s.Paused, s.Steady, s.Setbacks = false, time.Time{}, 0
	return s
}

func forward(p Policy, s State, o Observed, now time.Time) (State, time.Time) {
	have := s.Updated.Minus(o.Absent)
	waiting := have.Minus(o.Ready)
	if bad := have.Intersect(o.Bad); len(bad) > 0 {
		return Back(s, o.why(bad, "")), time.Time{}
	}
	if len(have) > 0 {
		if len(waiting) > 0 || !s.Steady.IsZero() && o.Latest.After(s.Mark) {
			return wait(p, s, o, waiting, now)
		}
		if s.Steady.IsZero() {
			s.Steady, s.Mark = now, o.Latest
		}
		if until := s.Steady.Add(p.Hold + delay(p, s, o)); now.Before(until) {
			return s, until
		}
	}
	left := o.All.Minus(s.Updated).Minus(o.Absent)
	if len(left) == 0 {
		s.Updated, s.Batch, s.Phase = o.All, nil, store.PhaseDone
		return s, time.Time{}
	}
	s.Batch = pick(left, o, p.size(o.All.Len()))
	s.Updated = s.Updated.Union(s.Batch)
	return begin(p, s, now)
}

// delay is what the policy asks for before others follow, nothing after the last.
func delay(p Policy, s State, o Observed) time.Duration {
	if len(o.All.Minus(s.Updated).Minus(o.Absent)) == 0 {
		return 0
	}
	return p.Delay
}

// wait goes on waiting for members, or gives up. None may be waiting: then one was not well for a moment.
func wait(p Policy, s State, o Observed, waiting instances.Set, now time.Time) (State, time.Time) {
	if !s.Steady.IsZero() {
		s.Setbacks++
		s.Steady, s.Began = time.Time{}, now
	}
	until := s.Began.Add(p.Patience)
	switch {
	case s.Setbacks >= setbacks:
		return Back(s, o.why(waiting, fmt.Sprintf("well and then not, %d times", s.Setbacks))), time.Time{}
	case len(waiting) == 0:
		s.Steady, s.Mark = now, o.Latest
		return s, now.Add(p.Hold + delay(p, s, o))
	case !now.Before(until):
		return Back(s, o.why(waiting, fmt.Sprintf("not well within %v", p.Patience))), time.Time{}
	}
	return s, until
}

// begin notes that a batch is changed now.
func begin(p Policy, s State, now time.Time) (State, time.Time) {
	s.Began, s.Steady, s.Setbacks = now, time.Time{}, 0
	return s, now.Add(p.Patience)
}

// back gives members their old contents again. Those that do not become well with these either leave the rest as it is, until
// an operator has it go on; nobody waits for them then.
func back(p Policy, s State, o Observed, now time.Time) (State, time.Time) {
	if waiting := s.Batch.Minus(o.Absent).Minus(o.Ready); len(waiting) > 0 {
		until := s.Began.Add(p.Patience)
		if now.Before(until) && len(waiting.Intersect(o.Bad)) == 0 {
			return s, until
		}
		s.Paused, s.Batch = true, nil
		s.Reason = strings.TrimPrefix(s.Reason+"; ", "; ") + "with its old contents: " + o.why(waiting, "not well")
		return s, time.Time{}
	}
	s.Updated = s.Updated.Minus(o.Absent)
	if len(s.Updated) == 0 {
		if s.Phase, s.Batch = store.PhaseFailed, nil; s.Undone {
			s.Phase = store.PhaseUndone
		}
		return s, time.Time{}
	}
	s.Batch = pick(s.Updated, o, p.size(o.All.Len()))
	s.Updated = s.Updated.Minus(s.Batch)
	return begin(p, s, now)
}

// size is how many members may be changed at once.
func (p Policy) size(all int) int {
	if p.Parallel > 0 {
		return p.Parallel
	}
	return max(1, all*p.Percent/100)
}

// pick takes some members: first those that are not well anyway, each in their order.
func pick(from instances.Set, o Observed, n int) instances.Set {
	some := firsts(from.Minus(o.Ready), n)
	return some.Union(firsts(from.Intersect(o.Ready), n-some.Len()))
}

// firsts are the first n of a set.
func firsts(set instances.Set, n int) instances.Set {
	var some []instances.Range
	for _, r := range set {
		if n <= 0 {
			break
		}
		r.Last = min(r.Last, r.First+n-1)
		some = append(some, r)
		n -= r.Len()
	}
	return instances.Of(some...)
}

// why tells what is wrong with some members, and otherwise what there is to say of all.
func (o Observed) why(members instances.Set, otherwise string) string {
	var known []int
	for n := range o.Why {
		if members.Has(n) {
			known = append(known, n)
		}
	}
	text := ""
	if len(known) > 0 {
		text = o.Why[slices.Min(known)]
	}
	if more := members.Len() - 1; more > 0 && text != "" {
		text += fmt.Sprintf(", and %d more", more)
	}
	switch {
	case text == "" && otherwise == "":
		return "failed"
	case text == "" || otherwise == "":
		return text + otherwise
	}
	return otherwise + ": " + text
}
