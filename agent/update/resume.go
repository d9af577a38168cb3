package update

import (
	"fmt"
	"time"
)

// resume goes on after the agent has started, with what the slots tell of what happened meanwhile.
func resume(s State, e Event) (State, []Action) {
	if s.Phase == "" {
		s.Phase = Idle
	}
	rebooted := s.Boot != e.Boot
	s.Boot, s.Booted, s.Errors = e.Boot, e.Slots.Booted.Version, 0
	s.Unproven = s.Asked && (s.Unproven || rebooted)
	target := s.Target.Version
	switch s.Phase {
	case Idle:
		s.Until = time.Time{}
		return s, work(s)
	case Fetching, Verifying, Staging:
		return enter(s, Fetching, e.At, s.Reason) // what a power cut left of the files is not known
	case Staged:
		if e.Slots.Other.Version != target {
			return enter(s, Fetching, e.At, "the passive slot does not hold release "+target)
		}
		return enter(s, Staged, e.At, s.Reason)
	case Releasing, Recovering:
		return enter(s, Releasing, e.At, s.Reason)
	case Forgetting, Failed:
		return resumeForgetting(s, e)
	}
	if s.Booted == target {
		return booted(s, e)
	}
	if s.fellBack(e.Slots) {
		return failed(s, e.At, fmt.Sprintf("the host fell back to %s: %s", s.Booted, orWord(s.Reason, "the release did not come up")))
	}
	if rebooted {
		return enter(s, Recovering, e.At, "the host rebooted before its time")
	}
	return enter(s, Locking, e.At, s.Reason)
}

// resumeForgetting goes on with emptying a slot, unless a power cut had it booted before.
func resumeForgetting(s State, e Event) (State, []Action) {
	_, known := s.Failure(s.Target.Version)
	switch {
	case s.Target.Version == "" || !s.Switched:
	case s.Booted == s.Target.Version:
		return booted(s, e)
	case s.fellBack(e.Slots) && !known:
		return failed(s, e.At, fmt.Sprintf("the host fell back to %s", s.Booted))
	}
	return s, work(s)
}

// booted is a host that runs the target, for the first time or once more.
func booted(s State, e Event) (State, []Action) {
	s.Boots++
	return enter(s, Checking, e.At, "")
}

// fellBack reports whether the boot loader has given the target up. It was told for sure if the phase is after the switch;
// a power cut in the switch itself may have been before or after that.
func (s State) fellBack(slots Slots) bool {
	if slots.Next == s.Target.Version {
		return false
	}
	switch s.Phase {
	case Rebooting, Checking, Marking:
		return true
	}
	return s.Switched && slots.Other.Version == s.Target.Version && slots.Other.TriesLeft == 0
}

func orWord(s, word string) string {
	if s == "" {
		return word
	}
	return s
}
