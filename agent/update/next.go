package update

import (
	"fmt"
	"slices"
	"time"
)

// How long the driver waits until a failed action is tried again, and until rules that said no are asked again.
const (
	firstRetry  = time.Second
	lastRetry   = 2 * time.Minute
	permitEvery = 5 * time.Second
	probeEvery  = 250 * time.Millisecond

	fetchTries = 4 // until the source is asked anew what it offers
)

// Next is what becomes of a host's updates with an event. The state is to be on stable storage before the actions are begun.
// A state that was read back is continued with Started.
func Next(s State, e Event) (State, []Action) {
	switch {
	case e.Kind == Started:
		return resume(s, e)
	case e.Kind == Configured:
		return configured(s, e), nil
	case e.Kind == Tick:
		return tick(s, e)
	case e.Phase != s.Phase:
		return s, nil
	case e.Kind == Erred:
		return erred(s, e)
	}
	return forward(s, e)
}

// configured takes over limits. With another engine all that was known of releases is void, for its versions are others'; the lock is
// given back as ever.
func configured(s State, e Event) State {
	if s.Engine != "" && s.Engine != e.Engine {
		s = State{V: s.V, Phase: Idle, Boot: s.Boot, Asked: s.Asked, Unproven: s.Unproven, Resumed: s.Resumed, History: s.History}
		if s.Asked {
			s.Phase = Releasing
		}
	}
	s.Limits, s.Engine = e.Limits, e.Engine
	return s
}

// forward is an action that has ended as it should.
func forward(s State, e Event) (State, []Action) {
	switch s.Phase {
	case Idle:
		return offered(s, e)
	case Fetching, Verifying:
		return fetched(s, e)
	case Staging:
		return enter(s, Staged, e.At, "")
	case Staged:
		return permitted(s, e)
	case Locking:
		if !e.May {
			return enter(s, Releasing, e.At, e.Reason) // it may have waited for long
		}
		return enter(s, Draining, e.At, "")
	case Draining:
		return enter(s, Confirming, e.At, "")
	case Confirming:
		return confirmed(s, e)
	case Switching:
		return enter(s, Rebooting, e.At, "")
	case Checking, Recovering:
		return probed(s, e)
	case Marking:
		if Compare(s.Booted, s.Floor) > 0 {
			s.Floor = s.Booted
		}
		s = noted(s, Updated, e.At, "")
		s.Target, s.Switched, s.Attempts, s.Boots = Offer{}, false, 0, 0
		return enter(s, Releasing, e.At, "")
	case Releasing:
		return released(s, e)
	case Forgetting:
		return forgotten(s, e)
	case Failed:
		return enter(s, Recovering, e.At, "the rollout goes on")
	}
	return s, nil
}

// enter begins a phase. The reason is for people. The lock is not given back by a host that was not well in this boot.
func enter(s State, p Phase, at time.Time, reason string) (State, []Action) {
	if p == Releasing && s.Unproven {
		p = Recovering
	}
	s.Phase, s.Since, s.Until, s.Errors, s.Reason = p, at, time.Time{}, 0, reason
	switch p {
	case Locking:
		s.Asked = true
	case Draining:
		s.Until = at.Add(s.Limits.orDefaults().Drain)
	case Switching:
		s.Switched = true
		s.Attempts++
	case Checking:
		s.Until = at.Add(s.Limits.orDefaults().Health)
	}
	return s, work(s)
}

// work is what is to be done in the phase.
func work(s State) []Action {
	kinds := map[Phase]ActionKind{
		Idle: Check, Fetching: Fetch, Verifying: Verify, Staging: Stage, Staged: Permit, Locking: Lock, Draining: Drain,
		Confirming: Confirm, Switching: Switch, Rebooting: Reboot, Checking: Probe, Marking: Good, Releasing: GiveBack,
		Forgetting: Forget, Failed: Hold, Recovering: Probe,
	}
	a := Action{Kind: kinds[s.Phase], Phase: s.Phase, Target: s.Target, Reason: s.Reason, Resumed: s.Resumed}
	if s.Phase == Draining {
		a.Deadline = s.Until
	}
	return []Action{a}
}

// fetched goes on with files that are on the disk. Errors are counted until they are in the slot.
func fetched(s State, e Event) (State, []Action) {
	errors, to := s.Errors, Staging
	if s.Phase == Fetching {
		s.Target.Files, to = e.Files, Verifying
	}
	s, actions := enter(s, to, e.At, "")
	s.Errors = errors
	return s, actions
}

// refusal is why an offer is not for this host, "" if it is.
func (s State) refusal(o Offer, at time.Time) string {
	failure, failed := s.Failure(o.Version)
	switch {
	case o.Version == "":
		return "no release is offered"
	case !ValidVersion(o.Version):
		return fmt.Sprintf("%q is no version", o.Version)
	case !o.Expires.IsZero() && !at.Before(o.Expires):
		return "the metadata of release " + o.Version + " has expired"
	case o.Minimum != "" && Compare(o.Version, o.Minimum) < 0:
		return fmt.Sprintf("release %s is older than %s, which is the oldest that is allowed", o.Version, o.Minimum)
	case Compare(o.Version, s.Booted) == 0:
		return "up to date"
	case Compare(o.Version, s.Booted) < 0, Compare(o.Version, s.Floor) < 0:
		return "release " + o.Version + " is older than what was good here"
	case failed:
		return "release " + o.Version + " has failed here: " + failure.Reason
	}
	return ""
}

// offered takes up a release or goes on waiting for one.
func offered(s State, e Event) (State, []Action) {
	s.Failures = slices.DeleteFunc(slices.Clone(s.Failures), func(f Failure) bool { return f.At.Before(e.Retry) })
	if why := s.refusal(e.Offer, e.At); why != "" {
		s.Errors, s.Reason, s.Until = 0, why, e.At.Add(s.Limits.orDefaults().Interval)
		return s, nil
	}
	s.Target, s.From, s.Switched, s.Attempts, s.Boots = e.Offer, s.Booted, false, 0, 0
	errors := s.Errors
	s, actions := enter(s, Fetching, e.At, "")
	s.Errors = errors
	return s, actions
}

// stale is why the target is not to be booted any more, "" if it may be.
func stale(s State, e Event) string {
	if e.Offer.Version != s.Target.Version {
		return fmt.Sprintf("release %s is not offered any more", s.Target.Version)
	}
	return s.refusal(e.Offer, e.At)
}

// permitted is the word of the rules on a release that is staged.
func permitted(s State, e Event) (State, []Action) {
	if why := stale(s, e); why != "" {
		return enter(noted(s, Abandoned, e.At, why), Forgetting, e.At, why)
	}
	if !e.May {
		s.Errors, s.Reason, s.Until = 0, e.Reason, e.At.Add(permitEvery)
		if e.Again.After(s.Until) {
			s.Until = e.Again
		}
		return s, nil
	}
	s.Target.Expires, s.Target.Minimum, s.Resumed = e.Offer.Expires, e.Offer.Minimum, e.Resumed
	return enter(s, Locking, e.At, "")
}

// confirmed is the last word before the boot loader is told.
func confirmed(s State, e Event) (State, []Action) {
	told := s.Switched || e.Slots.Next == s.Target.Version
	switch why := stale(s, e); {
	case why != "":
		return enter(noted(s, Abandoned, e.At, why), Forgetting, e.At, why)
	case e.Slots.Other.Version != s.Target.Version:
		return enter(s, Forgetting, e.At, "the passive slot does not hold release "+s.Target.Version)
	case !e.May && told:
		return enter(s, Forgetting, e.At, e.Reason)
	case !e.May:
		return enter(s, Releasing, e.At, e.Reason)
	case !e.Held:
		return enter(s, Locking, e.At, "the reboot lock was taken away")
	case s.Attempts >= s.Limits.orDefaults().Tries:
		return failed(s, e.At, fmt.Sprintf("it was not booted in %d attempts", s.Attempts))
	}
	return enter(s, Switching, e.At, "")
}

// probed is how the host does after a boot.
func probed(s State, e Event) (State, []Action) {
	s.Unproven = s.Unproven && !e.May
	switch {
	case e.May && s.Phase == Checking:
		return enter(s, Marking, e.At, "")
	case e.May:
		return enter(s, Releasing, e.At, s.Reason)
	case s.Phase == Checking && !e.At.Before(s.Until):
		s.Reason = e.Reason
		return unwell(s, e.At)
	}
	s.Reason = e.Reason
	if s.Phase == Recovering {
		s.Until = e.At.Add(permitEvery)
		return s, nil
	}
	return s, work(s)
}

// unwell is a release that is not well in time: the boot loader tries again, or what was before.
func unwell(s State, at time.Time) (State, []Action) {
	why := "not well in time: " + s.Reason
	if s.Boots > s.Limits.orDefaults().Tries {
		s.Switched = false // it does not boot the other slot by itself, and is asked no more
		return failed(s, at, why)
	}
	return enter(s, Rebooting, at, why)
}

// failed gives a release up that did not do here.
func failed(s State, at time.Time, why string) (State, []Action) {
	s.Failures = slices.DeleteFunc(slices.Clone(s.Failures), func(f Failure) bool { return f.Version == s.Target.Version })
	s.Failures = append(s.Failures, Failure{Version: s.Target.Version, At: at, Reason: why})
	s.Failures = s.Failures[max(0, len(s.Failures)-historySize):]
	return enter(noted(s, FellBack, at, why), Forgetting, at, why)
}

// forgotten goes on after the passive slot was emptied.
func forgotten(s State, e Event) (State, []Action) {
	_, bad := s.Failure(s.Target.Version)
	s.Target, s.Switched, s.Attempts, s.Boots = Offer{}, false, 0, 0
	switch {
	case bad:
		return enter(s, Failed, e.At, s.Reason)
	case s.Asked:
		return enter(s, Releasing, e.At, s.Reason)
	}
	return enter(s, Idle, e.At, s.Reason)
}

// released goes on when the host does not hold the lock any more.
func released(s State, e Event) (State, []Action) {
	s.Asked = false
	if s.Target.Version != "" {
		return enter(s, Staged, e.At, s.Reason)
	}
	return enter(s, Idle, e.At, "")
}

// tick looks at a phase whose time has come.
func tick(s State, e Event) (State, []Action) {
	over := !s.Until.IsZero() && !e.At.Before(s.Until)
	switch {
	case over && s.Phase == Draining:
		return enter(s, Confirming, e.At, "units are left: their time is up")
	case over && s.Phase == Checking:
		if s.Reason == "" {
			s.Reason = "it was not found out whether the host is well"
		}
		return unwell(s, e.At)
	case s.Phase == Draining, s.Phase == Checking:
		return s, nil
	case s.Phase == Idle, s.Phase == Staged, over:
		s.Until = time.Time{} // until the action has ended
		return s, work(s)
	}
	return s, nil
}

// erred has the action tried again, later each time.
func erred(s State, e Event) (State, []Action) {
	s.Reason = e.Reason
	if s.Phase == Checking {
		return s, work(s)
	}
	if s.Phase == Draining {
		return enter(s, Confirming, e.At, "units could not be moved away: "+e.Reason)
	}
	wait := firstRetry
	for range min(s.Errors, 10) {
		wait = min(2*wait, lastRetry)
	}
	s.Errors++
	s.Until = e.At.Add(wait)
	switch s.Phase {
	case Fetching, Verifying, Staging:
		s.Phase = Fetching // what was fetched may be what is wrong
		if s.Errors%fetchTries == 0 {
			s.Phase, s.Target = Idle, Offer{} // or it is not what is offered any more
		}
	}
	return s, nil
}

func noted(s State, what string, at time.Time, why string) State {
	s.History = append(slices.Clone(s.History), Outcome{At: at, What: what, From: s.From, To: s.Target.Version, Reason: why})
	s.History = s.History[max(0, len(s.History)-historySize):]
	return s
}
