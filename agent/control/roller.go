package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/musterhq/muster/agent/fleet"
	"github.com/musterhq/muster/agent/pause"
	"github.com/musterhq/muster/agent/rollout"
	"github.com/musterhq/muster/cluster/instances"
	"github.com/musterhq/muster/cluster/store"
)

// Roller is the leader's duty to drive rollouts. It follows what hosts report only while there is one.
type Roller struct {
	Store store.Store
	Now   func() time.Time
	Log   *slog.Logger
}

var (
	errRollouts   = errors.New("there are rollouts to drive")
	errNoRollouts = errors.New("there are no rollouts to drive")
)

// Run drives rollouts until ctx ends or a write is refused for good.
func (r *Roller) Run(ctx context.Context, fence store.Guard) error {
	between := pause.New(longestPause)
	for {
		err := store.Follow(ctx, r.Store, []string{store.PrefixUnits}, pace, func(t *store.Tables) error {
			if len(active(fleet.View{Tables: t})) > 0 {
				return errRollouts
			}
			return nil
		})
		if errors.Is(err, errRollouts) {
			err = r.drive(ctx, fence)
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, store.ErrDenied):
			return err
		case errors.Is(err, errNoRollouts):
			between.Reset()
			continue
		}
		r.Log.Warn("rollouts are looked at anew", "err", err)
		if err := between.Wait(ctx); err != nil {
			return err
		}
	}
}

// active names the units that have a rollout under way, sorted.
func active(v fleet.View) []string {
	var names []string
	for name, u := range v.Units {
		if u.Record.Rollout.Active() {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// drive takes every step until no rollout is under way.
func (r *Roller) drive(ctx context.Context, fence store.Guard) error {
	round := &rollerRound{Roller: r, fence: fence, rules: fleet.NewRules(), written: map[string]int64{}}
	due := newAlarm()
	return store.Follow(ctx, punctual{r.Store, due}, fleet.StatusPrefixes, pace, func(t *store.Tables) error {
		v := fleet.View{Tables: t}
		if len(active(v)) == 0 {
			return errNoRollouts
		}
		wake, err := round.step(ctx, v)
		if !wake.IsZero() {
			wake = time.Now().Add(wake.Sub(r.Now())) // by the clock that timers have
		}
		due.set(wake)
		return err
	})
}

// rollerRound is what lasts from one reading of everything to the next.
type rollerRound struct {
	*Roller
	fence   store.Guard
	rules   *fleet.Rules
	written map[string]int64 // unit → revision of the last write, until the view has it
}

// step takes the next step of each rollout, and says when another is due though nothing changes.
func (r *rollerRound) step(ctx context.Context, v fleet.View) (wake time.Time, err error) {
	if err := v.Schedulable(); err != nil {
		return wake, err
	}
	if _, err := r.rules.Of(ctx, r.Store, v); err != nil {
		return wake, err
	}
	maps.DeleteFunc(r.written, func(name string, revision int64) bool {
		u, there := v.Units[name]
		return !there || u.Revision >= revision
	})
	for _, name := range active(v) {
		if r.written[name] != 0 {
			continue
		}
		at, err := r.advance(ctx, v, name)
		if err != nil {
			return wake, fmt.Errorf("cannot go on with the rollout of %s: %w", name, err)
		}
		if wake.IsZero() || !at.IsZero() && at.Before(wake) {
			wake = at
		}
	}
	return wake, nil
}

// advance takes the next step of one rollout.
func (r *rollerRound) advance(ctx context.Context, v fleet.View, name string) (wake time.Time, err error) {
	record := v.Units[name].Record
	was, roll := *record.Rollout, v.Roll(name, r.rules.SameRun)
	state, wake := rollout.Next(policyOf(was), observed(was, roll), roll.Observed, r.Now())
	is := stored(was, state)
	is.Updated, is.Batch = members(was.Kind, roll.Names, state)
	if !is.Active() {
		is.Ended = r.Now()
	}
	if same(was, is) && (was.Kind != store.RollFamily || state.Updated.Equal(roll.Updated)) {
		return wake, nil
	}
	if was.Phase == store.PhaseForward && is.Phase != store.PhaseForward && is.Phase != store.PhaseDone {
		record.File, record.Replicas, record.Partition = is.From, is.Replicas, is.Partition
		r.Log.Warn("a rollout goes back", "unit", name, "reason", is.Reason)
	}
	r.Log.Info("rollout", "unit", name, "phase", is.Phase, "updated", state.Updated.Len(), "of", roll.All.Len(), "paused", is.Paused)
	record.Rollout = &is
	return wake, r.write(ctx, v, name, record, roll, state.Updated)
}

// maxInstances is how many instances' records one commit changes, beside that of their template.
const maxInstances = store.MaxOps - 2

// write writes the record of a unit, and those of the instances of a family whose contents change.
func (r *rollerRound) write(ctx context.Context, v fleet.View, name string, record store.UnitRecord, roll fleet.Roll, updated instances.Set) error {
	var ops []store.Op
	guards := []store.Guard{r.fence}
	put := func(name string, record store.UnitRecord) error {
		data, err := store.Marshal(record)
		key := store.UnitKey(name)
		ops = append(ops, store.Put(key, data))
		guards = append(guards, store.Guard{Key: key, Kind: store.GuardModRevision, Revision: v.Units[name].Revision})
		return err
	}
	for i, member := range roll.Names {
		if record.Rollout.Kind != store.RollFamily || updated.Has(i+1) == roll.Updated.Has(i+1) {
			continue
		}
		instance := v.Units[member].Record
		if instance.File = record.Rollout.From; updated.Has(i + 1) {
			instance.File = record.Rollout.To
		}
		if err := put(member, instance); err != nil {
			return err
		}
		if len(ops) == maxInstances {
			if _, err := r.Store.Commit(ctx, store.Commit{Guards: guards, Ops: ops}); err != nil {
				return err
			}
			ops, guards = nil, []store.Guard{r.fence}
		}
	}
	if err := put(name, record); err != nil {
		return err
	}
	revision, err := r.Store.Commit(ctx, store.Commit{Guards: guards, Ops: ops})
	r.written[name] = revision
	return err
}

func policyOf(r store.Rollout) rollout.Policy {
	p := rollout.Policy{Parallel: r.Parallel, Percent: r.Percent, Delay: r.Delay, Patience: r.Patience}
	if !r.Health {
		p.Hold = holdFor
	}
	return p
}

// observed is the state of a rollout among members as they are numbered now.
func observed(r store.Rollout, roll fleet.Roll) rollout.State {
	s := stateOf(r, roll.Updated)
	for i, name := range roll.Names {
		if r.Batch.HasName(name) {
			s.Batch = s.Batch.Union(instances.Set{{First: i + 1, Last: i + 1}})
		}
	}
	return s
}

func stateOf(r store.Rollout, updated instances.Set) rollout.State {
	return rollout.State{
		Phase: r.Phase, Paused: r.Paused, Undone: r.Undone, Reason: r.Reason, Updated: updated, Batch: r.Batch.Numbers,
		Began: r.Began, Steady: r.Steady, Mark: r.Mark, Setbacks: r.Setbacks,
	}
}

// stored is a rollout with another state, but for who its members are.
func stored(r store.Rollout, s rollout.State) store.Rollout {
	r.Phase, r.Paused, r.Undone, r.Reason = s.Phase, s.Paused, s.Undone, s.Reason
	r.Began, r.Steady, r.Mark, r.Setbacks = s.Began, s.Steady, s.Mark, s.Setbacks
	return r
}

// members are those of a state that have the new contents and that were changed last, as they are recorded.
func members(kind store.RolloutKind, names []string, s rollout.State) (updated, batch store.Members) {
	if kind != store.RollHosts && kind != store.RollFamily {
		return store.Members{Numbers: s.Updated}, store.Members{Numbers: s.Batch}
	}
	for n := range s.Batch.All() {
		batch.Names = append(batch.Names, names[n-1])
	}
	if kind == store.RollHosts { // instances of a family have records that say it
		n := 0
		updated = store.MembersAmong(names, func(string) bool { n++; return s.Updated.Has(n) })
	}
	return updated, batch
}

// same says whether two states of a rollout are written alike.
func same(a, b store.Rollout) bool {
	alike := func(a, b store.Members) bool {
		return a.Upto == b.Upto && slices.Equal(a.Except, b.Except) && slices.Equal(a.Names, b.Names) && a.Numbers.Equal(b.Numbers)
	}
	return a.Phase == b.Phase && a.Paused == b.Paused && a.Reason == b.Reason && a.Setbacks == b.Setbacks &&
		a.Began.Equal(b.Began) && a.Steady.Equal(b.Steady) && a.Mark.Equal(b.Mark) &&
		alike(a.Updated, b.Updated) && alike(a.Batch, b.Batch)
}
