package netboot

import (
	"errors"
	"fmt"
)

// State is where a machine stands. The empty state is that of a machine that nothing is known of.
type State string

// The states of a machine.
const (
	Discovered  State = "discovered"  // it booted once; the operator has not accepted it
	Accepted    State = "accepted"    // the operator wants it; nothing was installed
	Installing  State = "installing"  // it may install, or load its memory, now
	Provisioned State = "provisioned" // it boots what was installed, or its memory anew
	Failed      State = "failed"      // its installation or wipe ended badly; Machine.Reason says why
	Released    State = "released"    // the cluster let go of it
)

// Mode says where an accepted machine has its system.
type Mode string

// The modes. The empty one counts as FromDisk.
const (
	FromDisk   Mode = "disk"   // installed once, booted from the disk
	FromMemory Mode = "memory" // loaded over the network at every boot
)

// MaxBoots is how often one attempt hands out its script before the system that it boots has reported. More than one,
// because a firmware may fetch a script, lose the network, and begin again.
const MaxBoots = 3

// Machine is what is remembered of a machine. It is saved before the answer that follows from it is sent.
type Machine struct {
	State   State  `json:"state"`
	Mode    Mode   `json:"mode,omitempty"`
	Arch    Arch   `json:"arch,omitempty"`    // that the inventory names; empty for any
	Attempt int    `json:"attempt,omitempty"` // number of the latest installation, wipe or release; reports carry it
	Boots   int    `json:"boots,omitempty"`   // how often the script of this attempt was handed out
	Begun   bool   `json:"begun,omitempty"`   // the system of this attempt reported that it runs
	Wipe    bool   `json:"wipe,omitempty"`    // the disks are to be wiped still
	Rescue  bool   `json:"rescue,omitempty"`  // the next boot is the rescue system's
	Reason  string `json:"reason,omitempty"`  // why it failed
}

// Event is something that happens to a machine besides a boot: one of the types below.
type Event interface {
	apply(Machine) (Machine, error)
}

type (
	// Discover is an unknown machine's first report.
	Discover struct{}
	// Accept is the operator's word that a discovered machine belongs to the inventory, or the inventory's own.
	Accept struct {
		Mode Mode
		Arch Arch
	}
	// Begin asks for one attempt to install, or to load the memory. It changes nothing while an attempt goes on.
	Begin struct{}
	// Started is the report of an attempt's system that it runs and is about to change the disk.
	Started struct{ Attempt int }
	// Finished is its report that the attempt succeeded and was verified.
	Finished struct{ Attempt int }
	// Broken is its report, or the waiting caller's word, that the attempt failed.
	Broken struct {
		Attempt int
		Reason  string
	}
	// Release lets go of a machine, whatever it does, and has its disks wiped when asked.
	Release struct{ Wipe bool }
	// Rescue makes the next boot the rescue system's, once.
	Rescue struct{}
)

var (
	// ErrRefused is wrapped when an event does not fit the state; its text says what to do first.
	ErrRefused = errors.New("refused")
	// ErrStale is wrapped for a report of an attempt that is not the machine's latest. It changes nothing.
	ErrStale = errors.New("report of an earlier attempt")
)

// Next returns what to remember of a machine after an event. On an error the machine is returned as it was. Repeating an
// event changes nothing more, so a report whose answer was lost may be sent again.
func Next(m Machine, e Event) (Machine, error) {
	next, err := e.apply(m)
	if err != nil {
		return m, fmt.Errorf("cannot apply %T to a machine that is %s: %w", e, m.State.name(), err)
	}
	return next, nil
}

func (s State) name() string {
	if s == "" {
		return "unknown"
	}
	return string(s)
}

func (Discover) apply(m Machine) (Machine, error) {
	if m.State == "" {
		m.State = Discovered
	}
	return m, nil
}

func (e Accept) apply(m Machine) (Machine, error) {
	switch m.State {
	case "", Discovered, Accepted:
		return Machine{State: Accepted, Mode: e.Mode, Arch: e.Arch, Attempt: m.Attempt, Rescue: m.Rescue}, nil
	}
	if m.Mode == e.Mode && m.Arch == e.Arch {
		return m, nil
	}
	if m.State == Released && !m.Wipe {
		m.Mode, m.Arch = e.Mode, e.Arch
		return m, nil
	}
	return m, fmt.Errorf("%w: release the machine before its mode or architecture changes", ErrRefused)
}

func (Begin) apply(m Machine) (Machine, error) {
	switch {
	case m.State == Installing:
		return m, nil
	case m.State == Failed && m.Wipe:
		return m, fmt.Errorf("%w: its disks were to be wiped and are not (%s); release it again, with or without the wipe",
			ErrRefused, m.Reason)
	case m.State == Released && m.Wipe:
		return m, fmt.Errorf("%w: its disks are being wiped; wait until that is done", ErrRefused)
	case m.State == Accepted, m.State == Failed, m.State == Released:
		return m.attempt(Installing), nil
	case m.State == Provisioned:
		return m, fmt.Errorf("%w: it is installed; release it before it installs again", ErrRefused)
	}
	return m, fmt.Errorf("%w: accept it first", ErrRefused)
}

// attempt returns the machine in a state that begins a new attempt, so that no report of an earlier one counts.
func (m Machine) attempt(state State) Machine {
	return Machine{State: state, Mode: m.Mode, Arch: m.Arch, Attempt: m.Attempt + 1}
}

// working tells whether an attempt's reports are waited for.
func (m Machine) working() bool { return m.State == Installing || m.State == Released && m.Wipe }

func (e Started) apply(m Machine) (Machine, error) {
	switch {
	case e.Attempt != m.Attempt:
		return m, ErrStale
	case m.State == Provisioned: // a later boot from memory
		return m, nil
	case !m.working():
		return m, fmt.Errorf("%w: no attempt goes on", ErrRefused)
	case m.Boots == 0:
		return m, fmt.Errorf("%w: this attempt has not been booted", ErrRefused)
	}
	m.Begun = true
	return m, nil
}

func (e Finished) apply(m Machine) (Machine, error) {
	switch {
	case e.Attempt != m.Attempt:
		return m, ErrStale
	case m.State == Provisioned, m.State == Released && !m.Wipe:
		return m, nil
	case !m.working():
		return m, fmt.Errorf("%w: no attempt goes on", ErrRefused)
	case !m.Begun:
		return m, fmt.Errorf("%w: this attempt has not started", ErrRefused)
	}
	if m.State == Installing {
		m.State = Provisioned
	}
	m.Wipe, m.Begun, m.Boots = false, false, 0
	return m, nil
}

func (e Broken) apply(m Machine) (Machine, error) {
	switch {
	case e.Attempt != m.Attempt:
		return m, ErrStale
	case m.State == Failed:
		return m, nil
	case !m.working():
		return m, fmt.Errorf("%w: no attempt goes on", ErrRefused)
	}
	return m.fail(e.Reason), nil
}

func (m Machine) fail(reason string) Machine {
	m.State, m.Reason, m.Begun, m.Boots = Failed, reason, false, 0
	return m
}

func (e Release) apply(m Machine) (Machine, error) {
	switch {
	case m.State == "", m.State == Discovered:
		return m, fmt.Errorf("%w: it was never accepted", ErrRefused)
	case m.State == Released && (m.Wipe || !e.Wipe):
		return m, nil
	}
	m = m.attempt(Released)
	m.Wipe = e.Wipe
	return m, nil
}

func (Rescue) apply(m Machine) (Machine, error) {
	switch {
	case m.State == "", m.State == Discovered:
		return m, fmt.Errorf("%w: accept it first", ErrRefused)
	case m.working():
		return m, fmt.Errorf("%w: wait until its disk is done", ErrRefused)
	}
	m.Rescue = true
	return m, nil
}
