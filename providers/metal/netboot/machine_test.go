package netboot

import (
	"errors"
	"fmt"
	"testing"
)

func TestNext(t *testing.T) {
	working := Machine{State: Installing, Attempt: 2, Boots: 1}
	begun := Machine{State: Installing, Attempt: 2, Boots: 1, Begun: true}
	wiping := Machine{State: Released, Attempt: 2, Boots: 1, Begun: true, Wipe: true}
	for _, tt := range []struct {
		name  string
		from  Machine
		event Event
		want  Machine
		err   error
	}{
		{"first report", Machine{}, Discover{}, Machine{State: Discovered}, nil},
		{"report of a known one", begun, Discover{}, begun, nil},
		{"accept", Machine{State: Discovered}, Accept{FromMemory, ARM64}, Machine{State: Accepted, Mode: FromMemory, Arch: ARM64}, nil},
		{"accept unseen", Machine{}, Accept{}, Machine{State: Accepted}, nil},
		{"accept again", begun, Accept{}, begun, nil},
		{"change while it works", begun, Accept{Mode: FromMemory}, begun, ErrRefused},
		{
			"change of a released one",
			Machine{State: Released, Attempt: 4},
			Accept{Mode: FromMemory},
			Machine{State: Released, Attempt: 4, Mode: FromMemory},
			nil,
		},
		{"begin", Machine{State: Accepted}, Begin{}, Machine{State: Installing, Attempt: 1}, nil},
		{"begin once more", begun, Begin{}, begun, nil},
		{"begin unknown", Machine{}, Begin{}, Machine{}, ErrRefused},
		{"begin unaccepted", Machine{State: Discovered}, Begin{}, Machine{State: Discovered}, ErrRefused},
		{"begin installed", Machine{State: Provisioned, Attempt: 2}, Begin{}, Machine{State: Provisioned, Attempt: 2}, ErrRefused},
		{"begin after failure", Machine{State: Failed, Attempt: 2, Reason: "disk full"}, Begin{}, Machine{State: Installing, Attempt: 3}, nil},
		{"begin during a wipe", wiping, Begin{}, wiping, ErrRefused},
		{"begin after a wipe that failed", Machine{State: Failed, Wipe: true}, Begin{}, Machine{State: Failed, Wipe: true}, ErrRefused},
		{"started", working, Started{2}, begun, nil},
		{"started again", begun, Started{2}, begun, nil},
		{"started, not booted", Machine{State: Installing, Attempt: 2}, Started{2}, Machine{State: Installing, Attempt: 2}, ErrRefused},
		{"started, stale", working, Started{1}, working, ErrStale},
		{"finished", begun, Finished{2}, Machine{State: Provisioned, Attempt: 2}, nil},
		{"finished again", Machine{State: Provisioned, Attempt: 2}, Finished{2}, Machine{State: Provisioned, Attempt: 2}, nil},
		{"finished, not started", working, Finished{2}, working, ErrRefused},
		{"finished, stale", begun, Finished{1}, begun, ErrStale},
		{"finished after it failed", Machine{State: Failed, Attempt: 2}, Finished{2}, Machine{State: Failed, Attempt: 2}, ErrRefused},
		{"wiped", wiping, Finished{2}, Machine{State: Released, Attempt: 2}, nil},
		{"broken", begun, Broken{2, "disk full"}, Machine{State: Failed, Attempt: 2, Reason: "disk full"}, nil},
		{
			"broken again",
			Machine{State: Failed, Attempt: 2, Reason: "disk full"},
			Broken{2, "other"},
			Machine{State: Failed, Attempt: 2, Reason: "disk full"},
			nil,
		},
		{"broken wipe", wiping, Broken{2, "no disk"}, Machine{State: Failed, Attempt: 2, Wipe: true, Reason: "no disk"}, nil},
		{"broken after it ended", Machine{State: Provisioned, Attempt: 2}, Broken{2, "x"}, Machine{State: Provisioned, Attempt: 2}, ErrRefused},
		{"release", begun, Release{}, Machine{State: Released, Attempt: 3}, nil},
		{"release and wipe", Machine{State: Provisioned, Attempt: 2}, Release{Wipe: true}, Machine{State: Released, Attempt: 3, Wipe: true}, nil},
		{"release again", wiping, Release{Wipe: true}, wiping, nil},
		{"release with the wipe asked for before", wiping, Release{}, wiping, nil},
		{"release without the wipe that failed", Machine{State: Failed, Wipe: true, Attempt: 3}, Release{}, Machine{State: Released, Attempt: 4}, nil},
		{"release what is not ours", Machine{State: Discovered}, Release{}, Machine{State: Discovered}, ErrRefused},
		{"rescue", Machine{State: Provisioned}, Rescue{}, Machine{State: Provisioned, Rescue: true}, nil},
		{"rescue while it works", begun, Rescue{}, begun, ErrRefused},
		{"rescue an unknown one", Machine{}, Rescue{}, Machine{}, ErrRefused},
	} {
		got, err := Next(tt.from, tt.event)
		if !errors.Is(err, tt.err) || (tt.err == nil) != (err == nil) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.err)
		}
		if got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

// history is a machine with what its script has told it so far.
type history struct {
	machine  Machine
	handed   int  // scripts of the latest attempt that change the disk
	reported bool // the latest attempt's system said that it runs
}

// TestEveryHistory goes through all that can happen to a machine in its first attempts, in every order.
func TestEveryHistory(t *testing.T) {
	const attempts = 3
	seen := map[history]bool{}
	queue := []history{{}}
	for len(queue) > 0 {
		h := queue[0]
		queue = queue[1:]
		if seen[h] || h.machine.Attempt > attempts {
			continue
		}
		seen[h] = true
		queue = append(queue, boot(t, h, AMD64), boot(t, h, ARM64))
		for _, e := range events(h.machine.Attempt) {
			queue = append(queue, happen(t, h, e))
		}
	}
	if len(seen) < 200 {
		t.Errorf("only %d histories", len(seen))
	}
}

func events(attempt int) []Event {
	all := []Event{
		Discover{}, Accept{}, Accept{Mode: FromMemory}, Accept{Arch: ARM64}, Begin{}, Release{}, Release{Wipe: true}, Rescue{},
	}
	for _, n := range []int{attempt - 1, attempt} {
		all = append(all, Started{n}, Finished{n}, Broken{n, "full"})
	}
	return all
}

func happen(t *testing.T, h history, e Event) history {
	t.Helper()
	next, err := Next(h.machine, e)
	if err != nil && next != h.machine {
		t.Errorf("%T was refused and changed %+v into %+v", e, h.machine, next)
	}
	if again, err := Next(next, e); err == nil && again != next {
		t.Errorf("%+v: %T twice: %+v, then %+v", h.machine, e, next, again)
	}
	if next.State == Installing && h.machine.State != Installing && e != (Begin{}) {
		t.Errorf("%+v: %T began an installation", h.machine, e)
	}
	started, ok := e.(Started)
	switch {
	case next.Attempt != h.machine.Attempt:
		return history{machine: next}
	case ok && err == nil && started.Attempt == next.Attempt && h.machine.State == Installing:
		h.reported = true
	}
	h.machine = next
	return h
}

func boot(t *testing.T, h history, arch Arch) history {
	t.Helper()
	d, next := Decide(h.machine, Request{MAC: "52:54:00:00:00:01", Arch: arch, Firmware: UEFI})
	if d.Reason == "" {
		t.Errorf("%+v: no reason for %s", h.machine, d.Action)
	}
	if next.Attempt != h.machine.Attempt {
		t.Errorf("%+v: a boot began an attempt", h.machine)
	}
	if d.Action == ActionInstall || d.Action == ActionWipe {
		h.handed++
		if want := map[Action]State{ActionInstall: Installing, ActionWipe: Released}[d.Action]; h.machine.State != want {
			t.Errorf("%+v: %s", h.machine, d.Action)
		}
	}
	switch {
	case h.handed > MaxBoots:
		t.Errorf("%+v: attempt %d handed out %d times", h.machine, next.Attempt, h.handed)
	case d.Action == ActionInstall && h.reported:
		t.Errorf("%+v: installs again while it installs", h.machine)
	case d.Action == ActionWipe && !h.machine.Wipe:
		t.Errorf("%+v: wiped unasked", h.machine)
	case (h.machine.State == "" || h.machine.State == Discovered) && d.Action != ActionDiscover:
		t.Errorf("%+v: %s of a machine that nobody accepted", h.machine, d.Action)
	case h.machine.Arch != "" && h.machine.Arch != arch && d.Action != ActionDiscover:
		t.Errorf("%+v: %s as %s", h.machine, d.Action, arch)
	}
	h.machine = next
	return h
}

func TestDecide(t *testing.T) {
	for _, tt := range []struct {
		from Machine
		want Action
		next State
	}{
		{Machine{}, ActionDiscover, ""},
		{Machine{State: Discovered}, ActionDiscover, Discovered},
		{Machine{State: Accepted}, ActionDiscover, Accepted},
		{Machine{State: Accepted, Rescue: true}, ActionRescue, Accepted},
		{Machine{State: Installing, Attempt: 1}, ActionInstall, Installing},
		{Machine{State: Installing, Attempt: 1, Mode: FromMemory}, ActionMemory, Installing},
		{Machine{State: Installing, Attempt: 1, Boots: MaxBoots - 1}, ActionInstall, Installing},
		{Machine{State: Installing, Attempt: 1, Boots: MaxBoots}, ActionDiscover, Failed},
		{Machine{State: Installing, Attempt: 1, Boots: 1, Begun: true}, ActionDiscover, Failed},
		{Machine{State: Installing, Attempt: 1, Arch: ARM64}, ActionDiscover, Installing},
		{Machine{State: Provisioned, Attempt: 1}, ActionLocalDisk, Provisioned},
		{Machine{State: Provisioned, Attempt: 1, Mode: FromMemory}, ActionMemory, Provisioned},
		{Machine{State: Provisioned, Attempt: 1, Rescue: true}, ActionRescue, Provisioned},
		{Machine{State: Failed, Attempt: 1, Reason: "disk full"}, ActionDiscover, Failed},
		{Machine{State: Released}, ActionDiscover, Released},
		{Machine{State: Released, Wipe: true, Attempt: 2}, ActionWipe, Released},
		{Machine{State: Released, Wipe: true, Attempt: 2, Boots: 1, Begun: true}, ActionWipe, Released},
		{Machine{State: Released, Wipe: true, Attempt: 2, Boots: MaxBoots}, ActionDiscover, Failed},
	} {
		d, next := Decide(tt.from, Request{Arch: AMD64})
		if d.Action != tt.want || next.State != tt.next {
			t.Errorf("%+v: %s, then %s; want %s, then %s", tt.from, d.Action, next.State, tt.want, tt.next)
		}
		if next.Rescue {
			t.Errorf("%+v: the rescue is not over", tt.from)
		}
	}
}

// An error names the state and what to do, since the operator reads it as it is.
func TestRefusalsSayWhatToDo(t *testing.T) {
	_, err := Next(Machine{State: Provisioned}, Begin{})
	want := "cannot apply netboot.Begin to a machine that is provisioned: refused: it is installed; release it before it installs again"
	if fmt.Sprint(err) != want {
		t.Errorf("%v, want %s", err, want)
	}
}
