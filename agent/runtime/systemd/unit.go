package systemd

import (
	"strings"

	"github.com/godbus/dbus/v5"

	"github.com/musterhq/muster/agent/runtime"
)

// unit is one that muster loaded. It is guarded by Runtime.mu.
type unit struct {
	name string
	stored
	// barred says why there can be no such unit here, "" when it can. There are no files of it then.
	barred string
	// unread is that systemd may not have read the files, or links of [Install] may be missing.
	unread bool

	properties
	news chan struct{} // closed at the next signal
	seen int           // signals
	ran  commands      // asked for when the reason of a failure is only there
	job  string        // how its last job ended
	// starting is the job of a Start that systemd has not yet begun with, 0 for none.
	starting uint32
	// refused is InactiveExitMonotonic when systemd refused to start the unit once more, 0 when it did not.
	refused uint64
}

func newUnit(name string) *unit { return &unit{name: name, news: make(chan struct{})} }

// told takes in a signal.
func (u *unit) told(changed map[string]dbus.Variant) {
	u.merge(changed)
	u.seen++
	if !u.failing() {
		u.ran = nil
	}
	if !u.atRest() {
		u.starting = 0
	}
	close(u.news)
	u.news = make(chan struct{})
}

// jobEnded takes in how a job ended. One that failed without the unit having done anything was refused.
func (u *unit) jobEnded(id uint32, result string) {
	if id == u.starting {
		if result == "failed" && u.ActiveState == "failed" {
			u.refused = u.InactiveExitMonotonic
		}
		u.starting = 0
	}
	if result != lost {
		u.job = result
	}
}

// limited says whether the unit was started too often: systemd says so only of a unit that had not failed before
// (Result=). Otherwise the unit has left the state of rest, after its main process had ended, for a restart that did not
// come, or a start was refused.
func (u *unit) limited() bool {
	if u.ActiveState != "failed" {
		return false
	}
	noRestart := u.MainEndedMonotonic != 0 && u.MainEndedMonotonic < u.InactiveExitMonotonic
	return u.Result == startLimitHit || noRestart || u.refused != 0 && u.refused == u.InactiveExitMonotonic
}

// status is what the agent is told. A unit that shall start is on its way, even if systemd has others to start before.
func (u *unit) status() runtime.Status {
	s := runtime.Status{
		Name: u.name, Hash: u.hash, Load: "loaded", Active: u.ActiveState, Sub: u.SubState, Reason: u.reason(u.ran), Since: u.since(),
	}
	switch {
	case u.starting != 0 && u.atRest():
		s.Active, s.Sub, s.Reason = "activating", "start", ""
	case s.Active == "":
		s.Active, s.Sub = "inactive", "dead"
	case u.limited() && s.Reason != results[startLimitHit]:
		s.Reason = strings.TrimSuffix(results[startLimitHit]+": "+s.Reason, ": ")
	}
	switch {
	case !u.atRest():
		s.RunningHash = u.history.running(u.started())
	case s.Active == "activating":
		s.RunningHash = u.hash
	}
	if words, ok := jobResults[u.job]; ok && s.Reason == "" && s.Active == "inactive" {
		s.Reason = words
	}
	if why := u.unfit(); why != "" {
		s.Load, s.Reason = "error", why
	}
	if u.barred == "" && u.LoadState == notFound {
		s.Load = notFound
	}
	return s
}

// jobResults are those that leave a unit inactive without a result of its own (org.freedesktop.systemd1(5), JobRemoved).
var jobResults = map[string]string{
	"dependency":  "a unit that it requires did not start",
	"timeout":     "it waited too long for other units",
	"assert":      "an assertion of [Unit] is not met",
	"unsupported": "this host's systemd or kernel has no units of this type",
}

// unfit says why the unit cannot be run here, "" if it can.
func (u *unit) unfit() string {
	switch {
	case u.barred != "":
		return u.barred
	case u.LoadState == "" || u.LoadState == loaded:
		return ""
	case u.LoadState == notFound:
		return "its file is gone from the host"
	case u.LoadState == "masked":
		return "it is masked on the host"
	case u.LoadError != "":
		return u.LoadError
	}
	return "systemd says " + u.LoadState
}

// Words of systemd's LoadState.
const (
	loaded   = "loaded"
	notFound = "not-found"
)
