package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/musterhq/muster/agent/pause"
	"github.com/musterhq/muster/agent/reconcile"
	"github.com/musterhq/muster/agent/runtime"
	"github.com/musterhq/muster/agent/unitfile"
	"github.com/musterhq/muster/cluster/store"
)

// executor makes the units of this host what its schedule says. It watches the schedule, which it also keeps on disk, and
// the runtime; after every change of either it works out anew what is to be done. Units are independent of each other:
// one that takes long to stop holds up no other.
type executor struct {
	store   store.Store
	id      string
	runtime runtime.Runtime
	files   files
	last    lastSchedule
	log     *slog.Logger
	changed func() // told when a state may have changed

	mu       sync.Mutex
	desired  *store.ScheduleRecord // nil as long as this host was never told anything; guarded by mu
	failures map[string]failure    // by unit; guarded by mu
}

// failure is why a unit could not be made what it should be, and when that is tried again.
type failure struct {
	err   error
	file  string // that was wanted
	retry time.Time
	wait  time.Duration
}

// How long it takes until what failed is tried again.
const (
	firstRetry = time.Second
	lastRetry  = 30 * time.Second
)

// work is how many units are worked on at once.
const work = 16

// run ends with ctx; units go on.
func (e *executor) run(ctx context.Context) error {
	e.failures = map[string]failure{}
	desired, err := e.last.load()
	if err != nil {
		e.log.Warn("begin without the last schedule", "err", err)
	}
	e.set(desired)
	g, ctx := errgroup.WithContext(ctx)
	updates := make(chan store.ScheduleRecord)
	g.Go(func() error { return e.follow(ctx, updates) })
	g.Go(func() error { return e.loop(ctx, updates) })
	return g.Wait()
}

func (e *executor) set(desired *store.ScheduleRecord) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.desired = desired
}

// follow delivers the host's schedule now and whenever it is written. A schedule that is not there, or is deleted, says
// nothing: an empty store stops no unit.
func (e *executor) follow(ctx context.Context, updates chan<- store.ScheduleRecord) error {
	between := pause.New(longestPause)
	for {
		err := e.watch(ctx, updates)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		e.log.Warn("cannot follow this host's schedule; units go on", "err", err)
		if err := between.Wait(ctx); err != nil {
			return err
		}
	}
}

func (e *executor) watch(ctx context.Context, updates chan<- store.ScheduleRecord) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	key := store.ScheduleKey(e.id)
	view, err := e.store.Range(ctx, key)
	if err != nil {
		return err
	}
	for _, item := range view.Items {
		if err := e.deliver(ctx, item, updates); err != nil {
			return err
		}
	}
	for change := range e.store.Watch(ctx, key, view.Revision) {
		if change.Err != nil {
			return change.Err
		}
		for _, event := range change.Events {
			if event.Deleted {
				e.log.Warn("this host's schedule is gone; units go on")
				continue
			}
			if err := e.deliver(ctx, event.Item, updates); err != nil {
				return err
			}
		}
	}
	return errors.New("the watch ended")
}

func (e *executor) deliver(ctx context.Context, item store.Item, updates chan<- store.ScheduleRecord) error {
	record, err := store.Unmarshal[store.ScheduleRecord](item.Value)
	if err != nil {
		return fmt.Errorf("cannot use the schedule: %w", err)
	}
	select {
	case updates <- record:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// loop owns the workers: at most one for each unit.
func (e *executor) loop(ctx context.Context, updates <-chan store.ScheduleRecord) error {
	w := &workers{executor: e, busy: map[string]bool{}, done: make(chan string), slots: make(chan struct{}, work)}
	defer w.wait()
	retry := time.NewTimer(0)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case record := <-updates:
			e.accept(record)
		case <-e.runtime.Changed():
		case unit := <-w.done:
			delete(w.busy, unit)
		case <-retry.C:
		}
		e.changed()
		next, err := w.dispatch(ctx)
		if err != nil {
			e.log.Warn("cannot see what runs", "err", err)
			next = firstRetry
		}
		retry.Reset(next)
	}
}

// accept takes a schedule. It is kept on disk before anything is done about it.
func (e *executor) accept(record store.ScheduleRecord) {
	if err := e.last.save(record); err != nil {
		e.log.Error("a start without the store would go back to an older schedule", "err", err)
	}
	e.set(&record)
}

// workers are the goroutines that do tasks.
type workers struct {
	*executor
	busy  map[string]bool // owned by the loop
	done  chan string     // names of units whose tasks are over
	slots chan struct{}
	wg    sync.WaitGroup
}

// wait lets every worker end, after the loop has.
func (w *workers) wait() {
	go func() {
		w.wg.Wait()
		close(w.done)
	}()
	for range w.done {
		continue
	}
}

// dispatch gives every unit that is not being worked on what is to be done for it, and says when to look again.
func (w *workers) dispatch(ctx context.Context) (next time.Duration, err error) {
	observed, err := w.runtime.List(ctx)
	if err != nil {
		return 0, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.desired == nil {
		return lastRetry, nil
	}
	tasks := byUnit(reconcile.Tasks(wanted(*w.desired), observed))
	maps.DeleteFunc(w.failures, func(unit string, _ failure) bool { return tasks[unit] == nil })
	next = lastRetry
	for unit, list := range tasks {
		if f, failed := w.failures[unit]; failed && f.file == fileOf(w.desired, unit) {
			if wait := time.Until(f.retry); wait > 0 {
				next = min(next, wait)
				continue
			}
		}
		if !w.busy[unit] {
			w.begin(ctx, unit, list, fileOf(w.desired, unit))
		}
	}
	if len(tasks) == 0 {
		w.prune()
	}
	return next, nil
}

func (w *workers) begin(ctx context.Context, unit string, tasks []reconcile.Task, file string) {
	w.busy[unit] = true
	w.wg.Go(func() {
		w.slots <- struct{}{}
		err := w.do(ctx, tasks)
		<-w.slots
		w.settle(ctx, unit, file, err)
		w.done <- unit
	})
}

// do does a unit's tasks in order and stops at the first failure.
func (e *executor) do(ctx context.Context, tasks []reconcile.Task) error {
	for _, t := range tasks {
		e.log.Info(t.Kind.String(), "unit", t.Unit, "reason", t.Reason)
		var err error
		switch t.Kind {
		case reconcile.Load:
			err = e.loadUnit(ctx, t)
		case reconcile.Start:
			err = e.runtime.Start(ctx, t.Unit)
		case reconcile.Stop:
			err = e.runtime.Stop(ctx, t.Unit)
		case reconcile.Unload:
			err = e.runtime.Unload(ctx, t.Unit)
		}
		if err != nil {
			return fmt.Errorf("cannot %s %s: %w", t.Kind, t.Unit, err)
		}
	}
	return nil
}

func (e *executor) loadUnit(ctx context.Context, t reconcile.Task) error {
	content, err := e.files.get(ctx, t.Hash)
	if err != nil {
		return err
	}
	file, _, err := unitfile.Parse(t.Unit, content)
	if err != nil {
		return err
	}
	return e.runtime.Load(ctx, runtime.Unit{Name: t.Unit, Hash: t.Hash, File: file})
}

// settle notes how a unit's tasks ended.
func (e *executor) settle(ctx context.Context, unit, file string, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err == nil || ctx.Err() != nil {
		delete(e.failures, unit)
		return
	}
	wait := firstRetry
	if was, again := e.failures[unit]; again && was.file == file {
		wait = min(2*was.wait, lastRetry)
	}
	e.failures[unit] = failure{err: err, file: file, retry: time.Now().Add(wait), wait: wait}
	e.log.Warn("a unit is not as it should be", "unit", unit, "err", err, "retry", wait)
}

// prune removes files that no unit has. mu is held.
func (e *executor) prune() {
	keep := make(map[string]bool, len(e.desired.Units))
	for _, u := range e.desired.Units {
		keep[u.File] = true
	}
	if err := e.files.prune(keep); err != nil {
		e.log.Warn("unit files are left over", "err", err)
	}
}

// states is what is reported of the units here: what the runtime says, and what keeps scheduled units from being there.
func (e *executor) states(ctx context.Context) ([]store.UnitState, error) {
	observed, err := e.runtime.List(ctx)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	states := make([]store.UnitState, 0, len(observed))
	loaded := make(map[string]bool, len(observed))
	for _, s := range observed {
		loaded[s.Name] = true
		state := store.UnitState{
			Name: s.Name, File: cmp.Or(s.RunningHash, s.Hash), Load: s.Load, Active: s.Active, Sub: s.Sub, Reason: s.Reason, Since: s.Since,
		}
		if f, failed := e.failures[s.Name]; failed {
			state.Reason = f.err.Error()
		}
		states = append(states, state)
	}
	for unit, f := range e.failures {
		if !loaded[unit] {
			states = append(states, store.UnitState{
				Name: unit, File: f.file, Load: "error", Active: "inactive", Sub: "dead", Reason: f.err.Error(), Since: f.retry.Add(-f.wait),
			})
		}
	}
	slices.SortFunc(states, func(a, b store.UnitState) int { return cmp.Compare(a.Name, b.Name) })
	return states, nil
}

func wanted(record store.ScheduleRecord) []reconcile.Unit {
	units := make([]reconcile.Unit, len(record.Units))
	for i, u := range record.Units {
		units[i] = reconcile.Unit{Name: u.Name, Hash: u.File, Launched: u.Desired == store.DesiredLaunched}
	}
	return units
}

func byUnit(tasks []reconcile.Task) map[string][]reconcile.Task {
	units := map[string][]reconcile.Task{}
	for _, t := range tasks {
		units[t.Unit] = append(units[t.Unit], t)
	}
	return units
}

func fileOf(record *store.ScheduleRecord, unit string) string {
	for _, u := range record.Units {
		if u.Name == unit {
			return u.File
		}
	}
	return ""
}
