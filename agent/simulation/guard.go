package simulation

import (
	"maps"
	"slices"
	"time"

	"github.com/musterhq/muster/agent/partition"
	"github.com/musterhq/muster/agent/runtime"
	"github.com/musterhq/muster/agent/runtime/guard"
)

// watchman is the guard of a machine, a process beside musterd: it goes on while that is frozen or gone, and stands still
// only with all of the machine. What it does at a moment is guard.Look's decision.
type watchman struct {
	until time.Duration // what the file says
	held  bool          // there is one
	file  int           // grows when it is removed
	looks bool          // there is something to guard
}

func newWatchman() watchman { return watchman{file: 1} }

var _ runtime.Holder = supervised{}

// Holds implements runtime.Holder.
func (s supervised) Holds() bool { return true }

// Held implements runtime.Holder.
func (s supervised) Held() (time.Duration, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.guard.until, s.guard.held
}

// kill is how long after it was heard last a host may hold strict units.
var kill = partition.Times{TTL: sessionTTL}.Kill()

// Hold implements runtime.Holder. What it is told may be no more than the store has granted.
func (s supervised) Hold(until time.Duration) (killed bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.process.until = until
	if heard := s.machine.reading(s.machine.heard); until > heard+kill+time.Millisecond {
		s.excess = until - heard - kill
	}
	strict := false
	for _, k := range s.known {
		strict = strict || k.strict
	}
	return strict && s.tell(), nil
}

// tell has the file say what musterd said last, and says whether the guard has removed it since. mu is held.
func (s supervised) tell() (killed bool) {
	p := s.process
	killed = p.file != 0 && p.file != s.guard.file
	p.file = s.guard.file
	s.guard.until, s.guard.held = p.until, true
	return killed
}

// admit says whether a strict unit may be started now, and has the guard know of it.
func (s supervised) admit() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.machine.clock() >= s.process.until && s.machine.Mutant != LateStart {
		return runtime.ErrNotHeld
	}
	s.tell()
	return nil
}

// watch has the guard look from now on.
func (u *units) watch() {
	if !u.guard.looks && u.machine.Mutant != NoGuard {
		u.guard.looks = true
		u.look()
	}
}

// look is what the guard does every now and then, as long as there are strict units.
func (u *units) look() {
	m := u.machine
	now := m.clock()
	u.mu.Lock()
	due, wait := guard.Look(u.guard.until, u.guard.held, now)
	late := now - u.guard.until
	if due {
		u.guard.held = false
		u.guard.file++
	}
	names := slices.DeleteFunc(slices.Sorted(maps.Keys(u.known)), func(name string) bool { return !u.known[name].alone })
	u.mu.Unlock()
	if u.guard.looks = len(names) > 0; !u.guard.looks {
		return
	}
	if due {
		for _, name := range names {
			u.kill(name, late)
		}
	}
	boot := m.boot
	m.after(max(m.real(wait), time.Microsecond), func() {
		m.local(func() {
			if m.boot == boot {
				u.look()
			}
		})
	})
}

// kill ends a unit, as soon as the kernel does. When all of a machine stood still, a guard that is late is the first that
// goes on.
func (u *units) kill(name string, late time.Duration) {
	m := u.machine
	k, run, boot := u.known[name], u.known[name].run, m.boot
	end := func() {
		if m.boot == boot && k.run == run && k.alive {
			m.tell("%s: the guard has killed %s", m.host.Name, name)
			m.saw("kills by a guard")
			u.over(name, "failed", "failed")
		}
	}
	if late > time.Second {
		end()
		return
	}
	m.after(m.between(time.Millisecond, 50*time.Millisecond), func() { m.local(end) })
}
