package rollout

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/musterhq/muster/cluster/instances"
	"github.com/musterhq/muster/cluster/store"
)

// member is one in a simulated cluster.
type member struct {
	runsNew bool // the contents that it runs
	until   time.Time
	absent  bool
	restart time.Time // when it last changed
}

// broken is a promise that is not kept, as a panic.
type broken string

func breaks(format string, args ...any) { panic(broken(fmt.Sprintf(format, args...))) }

// nexter is Next, or one with a planted bug.
type nexter func(Policy, State, Observed, time.Time) (State, time.Time)

// cluster is members that do what they are told, after some time.
type cluster struct {
	now     time.Time
	members map[int]*member
	start   time.Duration // how long a change takes
	// New contents are good; bad, so that they never become well; failing, which shows; flapping; or restarting, so soon that
	// only the time of the change tells.
	fate string
	// oldBad are members that are not well with their old contents either.
	oldBad map[int]bool
}

// observe carries out what the state says, and tells how the members are.
func (c *cluster) observe(s State) Observed {
	o := Observed{Why: map[int]string{}}
	for n, m := range c.members {
		o.All = o.All.Union(one(n))
		if wants := s.Updated.Has(n); wants != m.runsNew && !m.absent {
			m.runsNew, m.until, m.restart = wants, c.now.Add(c.start), c.now
		}
		if m.absent {
			o.Absent = o.Absent.Union(one(n))
			continue
		}
		well := !c.now.Before(m.until)
		switch {
		case m.runsNew && c.fate == "failing" && well:
			o.Bad, well = o.Bad.Union(one(n)), false
			o.Why[n] = fmt.Sprintf("member %d failed", n)
		case m.runsNew && c.fate == "bad", !m.runsNew && c.oldBad[n]:
			well = false
		case m.runsNew && c.fate == "flapping" && well:
			if c.now.Sub(m.restart) > 3*time.Second {
				m.until, m.restart, well = c.now.Add(time.Second), c.now, false
			}
		case m.runsNew && c.fate == "restarting" && well && c.now.Sub(m.restart) > 3*time.Second:
			m.restart = c.now
		}
		if well && m.runsNew == s.Updated.Has(n) {
			o.Ready = o.Ready.Union(one(n))
		}
		if m.runsNew && m.restart.After(o.Latest) {
			o.Latest = m.restart
		}
	}
	return o
}

func one(n int) instances.Set { return instances.Set{{First: n, Last: n}} }

func newCluster(t *rapid.T) *cluster {
	c := &cluster{
		now: time.Unix(1e9, 0).UTC(), members: map[int]*member{}, oldBad: map[int]bool{},
		start: time.Duration(rapid.IntRange(0, 20).Draw(t, "start")) * time.Second,
		fate:  rapid.SampledFrom([]string{"good", "good", "bad", "failing", "flapping", "restarting"}).Draw(t, "fate"),
	}
	for n := range rapid.IntRange(1, 12).Draw(t, "members") {
		c.members[n+1] = &member{until: c.now, restart: c.now, absent: rapid.IntRange(0, 9).Draw(t, "absent") == 0}
		c.oldBad[n+1] = rapid.IntRange(0, 9).Draw(t, "old") == 0
	}
	return c
}

func drawPolicy(t *rapid.T) Policy {
	p := Policy{
		Hold: time.Duration(rapid.IntRange(0, 8).Draw(t, "hold")) * time.Second, Patience: 30 * time.Second,
		Delay: time.Duration(rapid.IntRange(0, 60).Draw(t, "delay")) * time.Second,
	}
	if rapid.Bool().Draw(t, "percent") {
		p.Percent = rapid.IntRange(1, 100).Draw(t, "of all")
	} else {
		p.Parallel = rapid.IntRange(1, 5).Draw(t, "parallel")
	}
	return p
}

// changed are the members that a step gives other contents, of those that are on a host.
func changed(was, is State, o Observed) instances.Set {
	return was.Updated.Minus(is.Updated).Union(is.Updated.Minus(was.Updated)).Minus(o.Absent)
}

// ahead is a state as a leader returns it whose clock is ahead, of a step that was taken now.
func ahead(s State, now time.Time, by time.Duration) State {
	for _, at := range []*time.Time{&s.Began, &s.Steady} {
		if at.Equal(now) {
			*at = at.Add(by)
		}
	}
	return s
}

// TestRollouts drives rollouts of good and bad contents through clusters whose members come and go, with a leader that is
// lost between any two steps, or whose clock is ahead for a while.
func TestRollouts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		if why := drive(t, Next); why != "" {
			t.Fatal(why)
		}
	})
}

// drive carries a rollout out, and says which promise is not kept, "" if all are.
func drive(t *rapid.T, next nexter) (why string) {
	defer func() {
		if r := recover(); r != nil {
			b, is := r.(broken)
			if !is {
				panic(r)
			}
			why = string(b)
		}
	}()
	c, p := newCluster(t), drawPolicy(t)
	s := State{Phase: store.PhaseForward}
	if rapid.IntRange(0, 5).Draw(t, "back") == 0 { // as an operator might have it go
		s.Undone, s.Updated = true, firsts(instances.UpTo(len(c.members)), 3)
		for n := range s.Updated.All() {
			c.members[n].runsNew = true
		}
		s = Back(s, "undone")
	}
	s = c.toEnd(t, next, p, s)
	c.checkEnd(p, s)
	for resumed := 0; s.Paused; resumed++ { // as an operator does who wants it to go on all the same
		if resumed > len(c.members) {
			breaks("resumed %d times, and it does not go on: %+v", resumed, s)
		}
		s.Paused, s.Began, s.Steady, s.Setbacks = false, c.now, time.Time{}, 0
		s = c.toEnd(t, next, p, s)
		c.checkEnd(p, s)
	}
	return ""
}

// toEnd takes steps until the rollout is over.
func (c *cluster) toEnd(t *rapid.T, next nexter, p Policy, s State) State {
	moves, jumps := 20, 5
	for range 3000 {
		o := c.observe(s)
		is, wake := next(p, s, o, c.now)
		again, _ := next(p, s, o, c.now)
		if d := cmp.Diff(is, again); d != "" {
			breaks("not the same twice: %s", d)
		}
		c.checkStep(p, s, is, o)
		if rapid.IntRange(0, 9).Draw(t, "lost") > 0 { // else the leader is lost before it has written
			s = recorded(is)
		}
		if jumps > 0 && rapid.IntRange(0, 9).Draw(t, "clock") == 0 {
			jumps--
			s = ahead(s, c.now, time.Duration(rapid.IntRange(1, 100).Draw(t, "ahead"))*time.Hour)
		}
		if s.Paused || s.Phase != store.PhaseForward && s.Phase != store.PhaseBack {
			return s
		}
		c.observe(s) // members do at once what they are told
		c.now = c.now.Add(time.Duration(rapid.IntRange(1, 3000).Draw(t, "passes")) * time.Millisecond)
		if !c.restless() && !wake.IsZero() && wake.After(c.now) && rapid.Bool().Draw(t, "quiet") {
			c.now = wake
		}
		if n := rapid.IntRange(1, len(c.members)).Draw(t, "moves"); moves > 0 && rapid.IntRange(0, 5).Draw(t, "any") == 0 {
			moves--
			c.members[n].absent = !c.members[n].absent
		}
	}
	breaks("not over: %+v", s)
	return s
}

// recorded is a state as it is read again.
func recorded(s State) State {
	data, err := json.Marshal(s)
	if err != nil {
		breaks("cannot be kept: %v", err)
	}
	var again State
	if err := json.Unmarshal(data, &again); err != nil {
		breaks("cannot be kept: %v", err)
	}
	return again
}

// checkStep: members that are well are changed only if that leaves no more than the policy's number not well because of
// the rollout, and never while others are not. What has failed turns a rollout round at once, and others follow only when
// all have been well for as long as the policy says.
func (c *cluster) checkStep(p Policy, was, is State, o Observed) {
	limit := p.size(o.All.Len())
	some := changed(was, is, o)
	if some.Len() > limit {
		breaks("%v are changed at once, %d may be: %+v", some, limit, is)
	}
	taken := some.Intersect(o.Ready)
	touched := was.Updated.Union(was.Batch).Union(some).Minus(o.Absent)
	out := touched.Minus(o.Ready).Union(taken)
	if len(taken) > 0 && out.Len() > limit {
		breaks("%v are changed, and then %v are not well, %d may be: %+v", taken, out, limit, is)
	}
	if was.Paused && len(some) > 0 {
		breaks("%v are changed while it is paused", some)
	}
	if was.Phase != store.PhaseForward || was.Paused {
		return
	}
	if bad := was.Updated.Minus(o.Absent).Intersect(o.Bad); len(bad) > 0 && is.Phase != store.PhaseBack && is.Phase != store.PhaseFailed {
		breaks("%v have failed, and it goes on: %+v", bad, is)
	}
	have := was.Updated.Intersect(o.All).Minus(o.Absent)
	late := was.Steady.IsZero() && !c.now.Before(was.Began.Add(p.Patience))
	if waiting := have.Minus(o.Ready); late && len(waiting) > 0 && is.Phase == store.PhaseForward {
		breaks("%v are not well since %v, and it goes on: %+v", waiting, was.Began, is)
	}
	if follows := is.Updated.Minus(was.Updated); is.Phase == store.PhaseForward && len(have) > 0 && len(follows) > 0 {
		if rest := p.Hold + p.Delay; rest > 0 && (was.Steady.IsZero() || c.now.Before(was.Steady.Add(rest))) {
			breaks("%v follow at %v, and the others are well since %v: %+v", follows, c.now, was.Steady, p)
		}
	}
}

// checkEnd: it ended as it had to.
func (c *cluster) checkEnd(p Policy, s State) {
	all := instances.UpTo(len(c.members))
	switch s.Phase {
	case store.PhaseDone:
		if !s.Updated.Equal(all) {
			breaks("done, and %v are updated", s.Updated)
		}
		for n, m := range c.members {
			if c.fate != "good" && (!c.restless() || p.Hold > 4*time.Second) && m.runsNew && !m.absent && c.steady(s) {
				breaks("done with contents that are %s, which %d runs", c.fate, n)
			}
		}
	case store.PhaseFailed, store.PhaseUndone:
		if len(s.Updated) > 0 || s.Reason == "" {
			breaks("%s for the reason %q, and %v are updated", s.Phase, s.Reason, s.Updated)
		}
		if s.Undone != (s.Phase == store.PhaseUndone) {
			breaks("undone: %v, and it is %s", s.Undone, s.Phase)
		}
	default:
		if !s.Paused || s.Phase != store.PhaseBack || s.Reason == "" {
			breaks("it ended as %+v", s)
		}
		bad := false
		for n := range c.oldBad {
			bad = bad || c.oldBad[n]
		}
		if !bad && c.start < 30*time.Second {
			breaks("paused though the old contents are good: %+v", s)
		}
	}
}

// restless says whether members with new contents change again and again.
func (c *cluster) restless() bool { return c.fate == "flapping" || c.fate == "restarting" }

// steady says whether no member was absent, so that somebody must have seen all of them.
func (c *cluster) steady(State) bool {
	for _, m := range c.members {
		if m.absent {
			return false
		}
	}
	return true
}
