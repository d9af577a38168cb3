package simulation

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/musterhq/muster/agent/runtime"
)

// units is what a machine runs, whoever supervises it.
type units struct {
	machine *machine
	slow    time.Duration // how long stopping takes longer than it should

	mu    sync.Mutex
	known map[string]*unit // guarded by mu, and changed at the world's turn only
}

// unit is one unit. It has processes from its start until it has stopped.
type unit struct {
	runtime.Status
	alive   bool
	basis   int // which schedule its host was told last when it was started
	waiting []func()
}

func newUnits(m *machine) *units { return &units{machine: m, known: map[string]*unit{}} }

// supervised is a machine's units as one musterd sees them.
type supervised struct {
	*units
	process *process
}

var _ runtime.Runtime = supervised{}

// soon is how long the supervisor takes for anything.
func (u *units) soon() time.Duration { return u.machine.between(time.Millisecond, 20*time.Millisecond) }

// order has something done that a musterd asks for, and waits until it is.
func (s supervised) order(ctx context.Context, label string, do func(done func(error))) error {
	m := s.machine
	r := &request{process: s.process, label: label}
	r.carry = func(twins []*request) {
		m.after(s.soon(), func() {
			m.local(func() {
				m.tell("%s: %s", m.host.Name, label)
				do(func(err error) { s.process.answer(twins, func(*request) any { return err }) })
			})
		})
	}
	m.post(r)
	_, err := await[struct{}](ctx, r)
	return err
}

func (s supervised) Load(ctx context.Context, u runtime.Unit) error {
	return s.order(ctx, fmt.Sprintf("load %s %.8s", u.Name, u.Hash), func(done func(error)) {
		s.set(u.Name, func(k *unit) {
			if k.Load == "" {
				k.Status = runtime.Status{Name: u.Name, Load: "loaded", Active: "inactive", Sub: "dead", Since: time.Now()}
			}
			k.Hash = u.Hash
		})
		done(nil)
	})
}

func (s supervised) Start(ctx context.Context, name string) error {
	return s.order(ctx, "start "+name, func(done func(error)) {
		if s.known[name] == nil {
			done(runtime.ErrNotLoaded)
			return
		}
		s.whenStopped(name, func() {
			s.begin(name)
			done(nil)
		})
	})
}

// whenStopped goes on at once unless a unit is on its way down.
func (u *units) whenStopped(name string, then func()) {
	if k := u.known[name]; k != nil && k.Active == "deactivating" {
		k.waiting = append(k.waiting, then)
		return
	}
	then()
}

// begin has a unit run.
func (u *units) begin(name string) {
	m := u.machine
	if k := u.known[name]; k == nil || k.alive {
		return
	}
	u.set(name, func(k *unit) {
		k.Active, k.Sub, k.RunningHash, k.Since = "activating", "start", k.Hash, time.Now()
		k.alive, k.basis = true, len(m.told)-1
	})
	boot := m.boot
	m.after(u.soon(), func() {
		m.local(func() {
			if k := u.known[name]; m.boot == boot && k != nil && k.Active == "activating" {
				u.set(name, func(k *unit) { k.Active, k.Sub, k.Since = "active", "running", time.Now() })
				m.check.active(m, name)
			}
		})
	})
}

func (s supervised) Stop(ctx context.Context, name string) error {
	return s.order(ctx, "stop "+name, func(done func(error)) {
		k := s.known[name]
		switch {
		case k == nil:
			done(runtime.ErrNotLoaded)
		case !k.alive:
			done(nil)
		default:
			s.machine.check.stopping(s.machine, k)
			s.cease(name)
			s.whenStopped(name, func() { done(nil) })
		}
	})
}

// cease begins to stop a unit that has processes.
func (u *units) cease(name string) {
	m := u.machine
	if u.known[name].Active == "deactivating" {
		return
	}
	u.set(name, func(k *unit) { k.Active, k.Sub, k.Since = "deactivating", "stop-sigterm", time.Now() })
	boot := m.boot
	m.after(m.between(5*time.Millisecond, 300*time.Millisecond)+u.slow, func() {
		m.local(func() {
			if m.boot == boot && u.known[name] != nil {
				u.stopped(name)
			}
		})
	})
}

// stopped notes that a unit has no processes any more.
func (u *units) stopped(name string) {
	var waiting []func()
	u.set(name, func(k *unit) {
		k.Active, k.Sub, k.RunningHash, k.alive, k.Since = "inactive", "dead", "", false, time.Now()
		waiting, k.waiting = k.waiting, nil
	})
	u.machine.tell("%s: %s has stopped", u.machine.host.Name, name)
	for _, f := range waiting {
		f()
	}
}

func (s supervised) Unload(ctx context.Context, name string) error {
	return s.order(ctx, "unload "+name, func(done func(error)) {
		if k := s.known[name]; k != nil && k.alive {
			done(runtime.ErrActive)
			return
		}
		s.mu.Lock()
		delete(s.known, name)
		s.mu.Unlock()
		s.announce()
		done(nil)
	})
}

// set changes what is known of a unit.
func (u *units) set(name string, change func(*unit)) {
	u.mu.Lock()
	k := u.known[name]
	if k == nil {
		k = &unit{}
		u.known[name] = k
	}
	change(k)
	u.mu.Unlock()
	u.announce()
}

// announce has musterd look, a moment later: it may do so while it is told how the change ended.
func (u *units) announce() {
	m := u.machine
	if p := m.process; p != nil {
		m.after(time.Millisecond, func() {
			p.do(func() {
				select {
				case p.changed <- struct{}{}:
				default:
				}
			})
		})
	}
}

// power takes all units away, as a boot does.
func (u *units) power() {
	u.mu.Lock()
	defer u.mu.Unlock()
	clear(u.known)
	u.machine.boot++
}

// List returns what the supervisor knows at this moment.
func (u *units) List(context.Context) ([]runtime.Status, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	list := make([]runtime.Status, 0, len(u.known))
	for _, k := range u.known {
		list = append(list, k.Status)
	}
	slices.SortFunc(list, func(a, b runtime.Status) int { return cmp.Compare(a.Name, b.Name) })
	return list, nil
}

func (s supervised) Changed() <-chan struct{} { return s.process.changed }

// Logs has none.
func (u *units) Logs(context.Context, string, runtime.LogQuery, func([]runtime.LogEntry) error) error {
	return nil
}

// Close leaves units running.
func (u *units) Close() error { return nil }
