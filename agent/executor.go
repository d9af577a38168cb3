package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/musterhq/muster/agent/pause"
	"github.com/musterhq/muster/agent/reconcile"
	"github.com/musterhq/muster/agent/runtime"
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
	started startedUnits
	log     *slog.Logger
	changed func() // told when a state may have changed
	contact *contact
	gaveUp  func(left map[string]int64) // told which strict units have left
	look    signal                      // the contact has changed
	again   signal                      // the schedule must be read again, whatever the watch has told
	checks  *checks

	containers containers

	mu       sync.Mutex
	desired  *store.ScheduleRecord // nil as long as this host was never told anything; guarded by mu
	begun    reconcile.Started     // guarded by mu
	unsaved  bool                  // begun has changed; guarded by mu
	failures map[string]failure    // by unit; guarded by mu
	working  map[string]bool       // units that are being started or stopped from here; guarded by mu
	custody  custody               // guarded by mu
	resting  bool                  // the host is about to reboot; guarded by mu
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

// run ends with ctx; units go on.
func (e *executor) run(ctx context.Context) error {
	e.recall()
	g, ctx := errgroup.WithContext(ctx)
	updates := make(chan scheduled)
	g.Go(func() error { return e.follow(ctx, updates) })
	g.Go(func() error { return e.loop(ctx, updates) })
	g.Go(func() error { return e.checks.Run(ctx) })
	return g.Wait()
}

// recall takes up where the agent before this one left off.
func (e *executor) recall() {
	e.mu.Lock()
	defer e.mu.Unlock()
	var err error
	if e.desired, err = e.last.load(); err != nil {
		e.log.Warn("begin without the last schedule", "err", err)
	}
	if e.begun, err = e.started.load(); err != nil {
		e.log.Warn("units that have exited are started once more", "err", err)
	}
	e.failures, e.working = map[string]failure{}, map[string]bool{}
	e.custody = newCustody()
}

// follow delivers the host's schedule now and whenever it is written. A schedule that is not there, or is deleted, says
// nothing: an empty store stops no unit.
func (e *executor) follow(ctx context.Context, updates chan<- scheduled) error {
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

func (e *executor) watch(ctx context.Context, updates chan<- scheduled) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	key := store.ScheduleKey(e.id) // and what is below it
	view, err := e.store.Range(ctx, key)
	if err != nil {
		return err
	}
	tables := store.NewTables()
	if tables.Read(view); len(view.Items) > 0 {
		if err := e.deliver(ctx, tables, updates); err != nil {
			return err
		}
	}
	changes := e.store.Watch(ctx, key, view.Revision)
	for {
		change, ok, again := e.told(changes)
		switch {
		case !ok:
			return errors.New("the watch ended")
		case change.Err != nil:
			return change.Err
		case !again:
			tables.Apply(change)
		default: // A watch may be behind: what it has not told yet must be known before strict units are held again.
			if view, err = e.store.Range(ctx, key); err != nil {
				e.again.raise()
				return err
			}
			if view.Revision < tables.Revision {
				continue
			}
			tables = store.NewTables()
			tables.Read(view)
		}
		if err := e.deliver(ctx, tables, updates); err != nil {
			return err
		}
	}
}

// told is the next change of the schedule. When there is none, and the schedule is to be read again, it says so.
func (e *executor) told(changes <-chan store.Change) (change store.Change, ok, again bool) {
	select {
	case change, ok = <-changes:
		return change, ok, false
	default:
	}
	select {
	case change, ok = <-changes:
		return change, ok, false
	case <-e.again:
		return change, true, true
	}
}

// scheduled is this host's schedule as of a revision.
type scheduled struct {
	record   store.ScheduleRecord
	revision int64
}

// deliver hands on the schedule as it stands in all of its parts, with every instance under its own name.
func (e *executor) deliver(ctx context.Context, tables *store.Tables, updates chan<- scheduled) error {
	for _, err := range tables.Bad {
		return fmt.Errorf("cannot use the schedule: %w", err)
	}
	entry, there := tables.Schedule[e.id]
	if !there {
		e.log.Warn("this host's schedule is gone; units go on")
		return nil
	}
	record := store.ScheduleRecord{Units: slices.Collect(entry.Record.Each())}
	select {
	case updates <- scheduled{record: record, revision: tables.Revision}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// loop owns the workers: at most one for each unit.
func (e *executor) loop(ctx context.Context, updates <-chan scheduled) error {
	w := &workers{executor: e, busy: map[string]bool{}, done: make(chan string), slots: make(chan struct{}, work)}
	defer w.wait()
	retry := time.NewTimer(0)
	defer retry.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case is := <-updates:
			e.accept(is)
		case <-e.look:
		case <-e.runtime.Changed():
		case <-e.checks.Changed():
		case unit := <-w.done:
			delete(w.busy, unit)
		case <-retry.C:
		}
		e.remember()
		next, err := w.dispatch(ctx)
		if err != nil {
			e.log.Warn("cannot see what runs", "err", err)
			next = firstRetry
		}
		e.changed() // now, for what was decided is reported, too
		retry.Reset(next)
	}
	return ctx.Err()
}

// accept takes a schedule. It is kept on disk before anything is done about it.
func (e *executor) accept(is scheduled) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.desired == nil || !slices.EqualFunc(e.desired.Units, is.record.Units, store.ScheduledUnit.Equal) {
		if err := e.last.save(is.record); err != nil {
			e.log.Error("a start without the store would go back to an older schedule", "err", err)
		}
	}
	e.custody.accept(e.desired, is)
	e.desired = &is.record
}

// remember keeps on disk what was started.
func (e *executor) remember() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.unsaved {
		return
	}
	if err := e.started.save(e.begun); err != nil {
		e.log.Error("after a restart units that have exited would be started once more", "err", err)
	}
	e.unsaved = false
}

// states is what is reported of the units here: what the runtime says, and what keeps scheduled units from being there.
func (e *executor) states(ctx context.Context) ([]store.UnitState, error) {
	e.mu.Lock()
	others := e.leftToOthers()
	e.mu.Unlock()
	observed, err := e.runtime.List(ctx)
	if err != nil {
		return nil, err
	}
	e.checks.watch(ctx, observed)
	e.mu.Lock()
	defer e.mu.Unlock()
	stillOthers := e.leftToOthers()
	states := make([]store.UnitState, 0, len(observed))
	loaded := make(map[string]bool, len(observed))
	for _, s := range observed {
		loaded[s.Name] = true
		state := store.UnitState{
			Name: s.Name, File: cmp.Or(s.RunningHash, s.Hash), Load: s.Load, Active: s.Active, Sub: s.Sub, Reason: s.Reason,
			Since: s.Since,
		}
		if f, failed := e.failures[s.Name]; failed {
			state.Reason = f.err.Error()
		} else if why := e.custody.withheld[s.Name]; why != "" {
			state.Sub, state.Reason = store.SubCutOff, why
		} else if s.Active == "active" && others[s.Name] && stillOthers[s.Name] {
			state.Reason = store.StartedElsewise
		}
		e.checks.tell(&state)
		states = append(states, state)
	}
	for unit, f := range e.failures {
		if !loaded[unit] {
			states = append(states, store.UnitState{
				Name: unit, File: f.file, Load: "error", Active: "inactive", Sub: "dead", Reason: f.err.Error(),
				Since: f.retry.Add(-f.wait),
			})
		}
	}
	slices.SortFunc(states, func(a, b store.UnitState) int { return cmp.Compare(a.Name, b.Name) })
	return states, nil
}

// leftToOthers are the units that shall only be loaded, and that nothing here has started or is about to: who runs
// afterwards was started by something else. What runs and is asked for this only then may have been stopped since. mu is
// held.
func (e *executor) leftToOthers() map[string]bool {
	others := map[string]bool{}
	if e.desired == nil {
		return others
	}
	for _, u := range e.desired.Units {
		_, ours := e.begun[u.Name]
		if u.Desired == store.DesiredLoaded && u.Instances == nil && !ours && !e.working[u.Name] {
			others[u.Name] = true
		}
	}
	return others
}
