package simulation

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/musterhq/muster/agent/health"
	"github.com/musterhq/muster/agent/runtime"
)

// units is what a machine runs, whoever supervises it.
type units struct {
	machine *machine
	slow    time.Duration // how long stopping takes longer than it should

	mu     sync.Mutex
	known  map[string]*unit // guarded by mu, and changed at the world's turn only
	guard  watchman         // guarded by mu
	excess time.Duration    // how much longer than it may musterd has strict units held; guarded by mu
}

// unit is one unit. It has processes from its start until it has stopped.
type unit struct {
	runtime.Status
	alive   bool
	run     int // grows with each start
	basis   int // which schedule its host was told last when it was started
	waiting []func()

	strict bool // what is loaded is Singleton=strict
	alone  bool // what runs is
	well   bool // what a health check of it says
}

func newUnits(m *machine) *units {
	return &units{machine: m, known: map[string]*unit{}, guard: newWatchman()}
}

// supervised is a machine's units as one musterd sees them.
type supervised struct {
	*units
	process *process
}

var _ runtime.Runtime = supervised{}

// prompt is how long the supervisor takes for anything at most, and soon how long it does.
const prompt = 20 * time.Millisecond

func (u *units) soon() time.Duration { return u.machine.between(time.Millisecond, prompt) }

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
			k.Hash, k.strict = u.Hash, u.File.Muster(u.Name).Strict
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
		s.whenStopped(name, func() { s.machine.spring(s.known[name], func() { done(s.begin(name)) }) })
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

// spring begins to start a unit, unless all of the machine stands still in just this moment.
func (m *machine) spring(k *unit, start func()) {
	if trap := m.trap; trap != nil && k != nil && k.strict {
		m.trap = nil
		trap()
	}
	m.local(start)
}

// begin has a unit run.
func (s supervised) begin(name string) error {
	m := s.machine
	k := s.known[name]
	if k == nil || k.alive {
		return nil
	}
	if k.strict {
		if err := s.admit(); err != nil {
			return err
		}
	}
	s.set(name, func(k *unit) {
		k.Active, k.Sub, k.RunningHash, k.Since = "activating", "start", k.Hash, time.Now()
		k.alive, k.alone, k.well, k.basis = true, k.strict, !sick(m.files[k.Hash]), len(m.told)-1
		k.run++
	})
	if k.alone {
		m.check.alone(m, name)
		s.watch()
	}
	boot, run := m.boot, k.run
	m.after(s.soon(), func() {
		m.local(func() {
			if m.boot == boot && k.run == run && k.Active == "activating" {
				s.set(name, func(k *unit) { k.Active, k.Sub, k.Since = "active", "running", time.Now() })
				m.check.active(m, k)
			}
		})
	})
	return nil
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
	k, boot, run := u.known[name], m.boot, u.known[name].run
	m.after(m.between(5*time.Millisecond, 300*time.Millisecond)+u.slow, func() {
		m.local(func() {
			if m.boot == boot && k.run == run && k.alive {
				m.tell("%s: %s has stopped", m.host.Name, name)
				u.over(name, "inactive", "dead")
			}
		})
	})
}

// over notes that a unit has no processes any more.
func (u *units) over(name, active, sub string) {
	var waiting []func()
	u.set(name, func(k *unit) {
		k.Active, k.Sub, k.RunningHash, k.Since = active, sub, "", time.Now()
		k.alive, k.alone = false, false
		waiting, k.waiting = k.waiting, nil
	})
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
	u.guard = newWatchman()
	u.machine.boot++
}

// List returns what the supervisor knows at this moment.
func (u *units) List(context.Context) ([]runtime.Status, error) {
	u.machine.shake()
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

// ask makes a health check: whether a unit's contents are any good.
func (p *process) ask(ctx context.Context, t health.Target, _ []string) (string, error) {
	m := p.machine
	r := &request{process: p, label: "ask " + t.Unit}
	r.carry = func(twins []*request) {
		m.after(m.runtime.soon(), func() {
			m.local(func() {
				var err error
				if k := m.runtime.known[t.Unit]; k == nil || !k.well {
					err = errSick
					m.saw("health checks that failed")
				}
				p.answer(twins, func(*request) any { return err })
			})
		})
	}
	m.post(r)
	_, err := await[struct{}](ctx, r)
	return "", err
}

var errSick = errors.New("it is sick")
