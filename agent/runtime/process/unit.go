package process

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"sync"
	"time"

	"github.com/musterhq/muster/agent/runtime"
)

// unit is one supervised unit. Its loop owns everything but what mu guards.
type unit struct {
	rt   *Runtime
	name string
	dir  string
	log  *slog.Logger

	requests chan request
	events   chan message
	closed   chan struct{} // when the loop has ended

	mu     sync.Mutex // guards what follows for readers; only the loop writes
	loaded definition
	record record

	current definition // what the unit was started with
	watches map[bool]watch
	job     activity
	timer   *time.Timer
	waiters []chan<- error
	notify  *notifySocket
	tasks   sync.WaitGroup

	noted int64 // size of the log whose time is noted; boundLog's
}

// request is a call of the Runtime interface.
type request struct {
	what  eventKind
	load  *definition
	end   bool // Unload
	reply chan error
}

// message is news for the loop from one of its goroutines.
type message struct {
	event
	of  id  // the process that ended or speaks
	job int // number of the job that is done
}

// activity is a goroutine that may be replaced by another one.
type activity struct {
	number int
	key    string
	cancel context.CancelFunc
}

// watch waits for the end of a process.
type watch struct {
	id
	cancel context.CancelFunc
}

// errClosed is returned for calls after Close.
var errClosed = errors.New("the runtime is closed")

// do asks the loop and waits for its answer.
func (u *unit) do(ctx context.Context, r request) error {
	r.reply = make(chan error, 1)
	select {
	case u.requests <- r:
	case <-u.closed:
		return u.gone()
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-r.reply:
		return err
	case <-u.closed:
		select {
		case err := <-r.reply:
			return err
		default:
			return u.gone()
		}
	case <-ctx.Done():
		return ctx.Err()
	}
}

// gone says why the loop has ended.
func (u *unit) gone() error {
	if u.rt.ctx.Err() != nil {
		return errClosed
	}
	return fmt.Errorf("%s: %w", u.name, runtime.ErrNotLoaded)
}

// loop supervises until ctx ends or the unit is unloaded.
func (u *unit) loop(ctx context.Context, adopted func()) {
	ctx, cancel := context.WithCancel(ctx)
	u.timer = time.NewTimer(time.Hour)
	defer u.finish(cancel)
	u.adopt()
	u.pursue(ctx)
	adopted()
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-u.requests:
			if u.serve(r) {
				return
			}
		case m := <-u.events:
			u.hear(m)
		case <-u.timer.C:
			if d := u.record.Deadline; !d.IsZero() && !time.Now().Before(d) {
				u.apply(event{kind: expired})
			}
		}
		u.pursue(ctx)
	}
}

func (u *unit) finish(cancel context.CancelFunc) {
	cancel()
	u.timer.Stop()
	u.hush()
	u.tasks.Wait()
	close(u.closed)
}

// serve answers a request and says whether the unit is unloaded.
func (u *unit) serve(r request) (end bool) {
	var err error
	switch {
	case r.load != nil:
		err = u.load(*r.load)
	case r.end:
		if !u.record.resting() {
			err = fmt.Errorf("cannot unload %s: %w", u.name, runtime.ErrActive)
			break
		}
		err = u.rt.forgetUnit(u)
		end = err == nil
	case r.what == asked:
		err = u.start()
	case r.what == refused:
		u.apply(event{kind: refused})
		if !u.record.resting() {
			u.waiters = append(u.waiters, r.reply)
			return false
		}
	case r.what == reloaded:
		switch {
		case u.record.Phase != running:
			err = fmt.Errorf("cannot reload %s: %w", u.name, runtime.ErrNotActive)
		case len(u.current.service.Exec.Reload) == 0:
			err = fmt.Errorf("cannot reload %s: %w", u.name, runtime.ErrNoReload)
		default:
			u.apply(event{kind: reloaded})
		}
	}
	r.reply <- err
	return end
}

func (u *unit) load(d definition) error {
	if err := writeJSON(u.path(unitFile), loaded{Version: version, Name: u.name, contents: d.contents}); err != nil {
		return fmt.Errorf("cannot load %s: %w", u.name, err)
	}
	u.mu.Lock()
	u.loaded = d
	u.mu.Unlock()
	u.rt.touch()
	return nil
}

func (u *unit) start() error {
	if !u.loaded.known() {
		return fmt.Errorf("cannot start %s: %w", u.name, runtime.ErrNotLoaded)
	}
	if u.loaded.problem != "" {
		return fmt.Errorf("cannot start %s: %w: %s", u.name, runtime.ErrLoad, u.loaded.problem)
	}
	if u.loaded.strict {
		if _, err := u.rt.guarded(); err != nil {
			return fmt.Errorf("cannot start %s: %w", u.name, err)
		}
	}
	u.apply(event{kind: asked})
	if r := u.record; r.Phase == failed && r.Result.Kind == startLimit {
		return fmt.Errorf("cannot start %s: %w: at most %d starts in %s", u.name, runtime.ErrStartLimit,
			u.loaded.service.Limit.Burst, u.loaded.service.Limit.Interval)
	}
	return nil
}

// hear takes news that may be out of date.
func (u *unit) hear(m message) {
	r := u.record
	switch m.kind {
	case ended:
		if p := r.process(m.control); p != nil && p.id == m.of {
			u.ended(*p, m.control)
		}
	case gone:
		if m.job == u.job.number {
			u.settle()
			u.apply(m.event)
		}
	case ready, said:
		if u.speaks(m.of) {
			u.apply(m.event)
		}
	}
}

// settle takes the exits of processes that were killed, whose own news are still on the way.
func (u *unit) settle() {
	for _, control := range []bool{true, false} {
		if p := u.record.process(control); p != nil && !p.alive() {
			u.ended(*p, control)
		}
	}
}

func (u *unit) ended(p proc, control bool) {
	u.apply(event{kind: ended, control: control, exit: u.collect(p)})
}

// process is the one that runs in a role, nil for none.
func (r record) process(control bool) *proc {
	if control {
		return r.Control
	}
	if r.MainExit != nil {
		return nil
	}
	return r.Main
}

// apply takes one step and makes it last. An error says that the disk does not have it.
func (u *unit) apply(e event) {
	if err := u.take(e); err != nil {
		u.log.Error("cannot record the state of a unit", "error", err)
	}
}

func (u *unit) take(e event) error {
	m := machine{now: time.Now(), current: u.current.service, next: u.loaded}
	before, after := u.record, m.step(u.record, e)
	if reflect.DeepEqual(before, after) {
		return nil
	}
	after.Boot = u.rt.boot
	err := writeJSON(u.path(stateFile), after)
	for _, p := range []struct{ before, after *proc }{{before.Main, after.Main}, {before.Control, after.Control}} {
		if p.before != nil && (p.after == nil || p.after.id != p.before.id) {
			u.forget(*p.before)
		}
	}
	if after.Running != nil && (before.Running == nil || *after.Running != *before.Running) {
		u.current = define(u.name, *after.Running, u.rt.config.Host)
	}
	u.set(after) // last, so that who sees a unit at rest finds no process of it
	if before.Phase != after.Phase {
		u.log.Debug("unit changed", "from", before.Phase, "to", after.Phase, "reason", after.Result.Text)
	}
	if after.Ends != before.Ends {
		u.answer(after)
	}
	u.rt.touch()
	return err
}

func (u *unit) set(r record) {
	u.mu.Lock()
	u.record = r
	u.mu.Unlock()
}

// answer tells those who wait for the unit's end.
func (u *unit) answer(r record) {
	var err error
	if r.GaveUp {
		err = fmt.Errorf("cannot stop %s: a process of it does not end", u.name)
	}
	for _, w := range u.waiters {
		w <- err
	}
	u.waiters = nil
}
