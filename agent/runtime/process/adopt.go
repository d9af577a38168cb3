package process

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/musterhq/muster/agent/unitfile"
)

// adopt takes up what an agent before this one left.
func (u *unit) adopt() {
	r := u.record
	if r.Running != nil {
		u.current = define(u.name, *r.Running, u.rt.config.Host)
	}
	if r.Boot != u.rt.boot {
		// No process of another boot lives, whatever has its number.
		if !r.resting() {
			r = record{Version: version, Phase: dead, Since: time.Now(), Ends: r.Ends}
		}
		r.Main, r.Control = nil, nil
		u.set(r)
		u.sweep()
		return
	}
	r.Deadline = machine{now: time.Now(), current: u.current.service}.clamp(r)
	u.set(r)
	u.sweep()
	for _, control := range []bool{true, false} {
		p := u.record.process(control)
		switch {
		case p == nil:
		case p.alive():
			_ = p.Keeper.signal(unix.SIGSTOP) // somebody may have woken it
		default:
			u.ended(*p, control)
		}
	}
	if u.current.service.Type == "notify" && u.record.mainRuns() {
		if err := u.listen(); err != nil {
			u.log.Warn("cannot hear what a unit says of itself", "error", err)
		}
	}
	if r.Phase == start && u.current.service.Type == "notify" && u.record.mainRuns() {
		u.apply(event{kind: ready}) // it may have said so while nobody listened
	}
}

// clamp is the deadline of a record from the disk: no later than if the phase began now, however the clock was set.
func (m machine) clamp(r record) time.Time {
	limit := r.limit(m.current)
	if r.Phase == autoRestart {
		limit = m.current.Restart.Delay
	}
	if r.Deadline.IsZero() || limit == unitfile.Infinity || r.Deadline.Before(m.now.Add(limit)) {
		return r.Deadline
	}
	return m.now.Add(limit)
}

// sweep removes exit statuses that no process will have.
func (u *unit) sweep() {
	entries, err := os.ReadDir(u.dir)
	if err != nil {
		u.log.Warn("cannot look for old exit statuses", "error", err)
	}
	for _, e := range entries {
		name := e.Name()
		if m, c := u.record.Main, u.record.Control; m != nil && m.Exit == name || c != nil && c.Exit == name {
			continue
		}
		if strings.HasPrefix(name, "exit-") {
			u.remove(name)
		}
	}
}

func (u *unit) remove(name string) {
	if err := os.Remove(u.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		u.log.Warn("cannot remove a file of a unit", "error", err)
	}
}
