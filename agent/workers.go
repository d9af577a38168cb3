package agent

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/musterhq/muster/agent/reconcile"
	"github.com/musterhq/muster/agent/runtime"
	"github.com/musterhq/muster/agent/unitfile"
	"github.com/musterhq/muster/cluster/store"
)

// work is how many units are worked on at once.
const work = 16

// room is how long units that are to start wait for those that are to stop. Most have stopped by then, and given back
// ports and memory; one that takes its time holds up nobody.
const room = time.Second

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
	w.checks.watch(ctx, observed)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.desired == nil {
		return lastRetry, nil
	}
	units, next := w.keepCustody(observed, w.busy)
	w.restIfResting(units)
	plan, still := reconcile.Plan(units, observed, w.begun)
	w.keep(still)
	tasks := byUnit(append(plan, w.restarts(plan)...))
	maps.DeleteFunc(w.failures, func(unit string, _ failure) bool { return tasks[unit] == nil })
	for unit := range tasks {
		wait := w.holdOff(unit)
		if wait > 0 {
			next = min(next, wait)
		}
		if wait > 0 || w.busy[unit] {
			delete(tasks, unit)
		}
	}
	w.begin(ctx, tasks)
	if len(plan) == 0 {
		w.prune()
	}
	return next, nil
}

// keep takes over what a plan says was started, but for units whose tasks are under way: they note it themselves. mu is
// held.
func (w *workers) keep(still reconcile.Started) {
	for unit, file := range w.begun {
		if w.busy[unit] {
			still[unit] = file
		}
	}
	if !maps.Equal(w.begun, still) {
		w.begun, w.unsaved = still, true
	}
}

// holdOff is how long a unit that failed still waits for another attempt. mu is held.
func (w *workers) holdOff(unit string) time.Duration {
	f, failed := w.failures[unit]
	if !failed || f.file != fileOf(w.desired, unit) {
		return 0
	}
	return max(0, time.Until(f.retry))
}

// begin starts a worker for each unit. mu is held.
func (w *workers) begin(ctx context.Context, tasks map[string][]reconcile.Task) {
	var stops sync.WaitGroup
	for _, list := range tasks {
		if list[0].Kind == reconcile.Stop {
			stops.Add(1)
		}
	}
	stopped := make(chan struct{})
	w.wg.Go(func() {
		stops.Wait()
		close(stopped)
	})
	for unit, list := range tasks {
		w.busy[unit] = true
		file := fileOf(w.desired, unit)
		w.wg.Go(func() {
			w.slots <- struct{}{}
			err := w.do(ctx, list, stops.Done, stopped)
			<-w.slots
			w.settle(ctx, unit, file, err)
			w.done <- unit
		})
	}
}

// do does a unit's tasks in order and stops at the first failure. It tells when it has made room, and lets others make
// theirs before it starts the unit.
func (e *executor) do(ctx context.Context, tasks []reconcile.Task, madeRoom func(), othersDid <-chan struct{}) error {
	e.setWorking(tasks[0].Unit, true)
	defer e.setWorking(tasks[0].Unit, false)
	for _, t := range tasks {
		if t.Kind == reconcile.Start {
			await(ctx, othersDid, room)
		}
		e.log.Info(t.Kind.String(), "unit", t.Unit, "reason", t.Reason)
		err := e.carryOut(ctx, t)
		if t.Kind == reconcile.Stop {
			madeRoom()
		}
		if err != nil {
			return fmt.Errorf("cannot %s %s: %w", t.Kind, t.Unit, err)
		}
		e.mu.Lock()
		e.begun.Done(t)
		e.unsaved = true
		e.mu.Unlock()
	}
	return nil
}

// setWorking notes that a unit is being worked on, or is no more.
func (e *executor) setWorking(unit string, begins bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if delete(e.working, unit); begins {
		e.working[unit] = true
	}
}

// await returns when done is closed, d has passed or ctx ends.
func await(ctx context.Context, done <-chan struct{}, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	case <-ctx.Done():
	}
}

func (e *executor) carryOut(ctx context.Context, t reconcile.Task) error {
	switch t.Kind {
	case reconcile.Load:
		return e.loadUnit(ctx, t)
	case reconcile.Start:
		return e.runtime.Start(ctx, t.Unit)
	case reconcile.Stop:
		return e.runtime.Stop(ctx, t.Unit)
	default:
		return e.runtime.Unload(ctx, t.Unit)
	}
}

func (e *executor) loadUnit(ctx context.Context, t reconcile.Task) error {
	content, err := e.files.get(ctx, t.File)
	if err != nil {
		return err
	}
	file, _, err := unitfile.Parse(t.Unit, content)
	if err != nil {
		return err
	}
	if file.IsContainer() {
		if file, err = e.containers.render(t.Unit, file); err != nil {
			return err
		}
	}
	if service, err := file.Service(t.Unit); err == nil {
		e.mu.Lock()
		e.custody.stops[t.Unit] = service.Timeout.Stop
		e.mu.Unlock()
	}
	return e.runtime.Load(ctx, runtime.Unit{Name: t.Unit, Hash: t.File, File: file})
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

// restarts plans for units that run and shall be restarted because they are unhealthy (HealthAction=restart), unless a
// plan changes them anyway. mu is held.
func (w *workers) restarts(plan []reconcile.Task) []reconcile.Task {
	unwell := w.checks.Unwell()
	for _, t := range plan {
		delete(unwell, t.Unit)
	}
	var tasks []reconcile.Task
	for _, u := range w.desired.Units {
		why, is := unwell[u.Name]
		if !is || u.Desired != store.DesiredLaunched {
			continue
		}
		reason := "it is unhealthy: " + why
		tasks = append(tasks, reconcile.Task{Kind: reconcile.Stop, Unit: u.Name, Reason: reason},
			reconcile.Task{Kind: reconcile.Start, Unit: u.Name, File: u.File, Reason: reason})
	}
	return tasks
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
