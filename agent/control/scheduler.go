package control

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/musterhq/muster/agent/fleet"
	"github.com/musterhq/muster/agent/pause"
	"github.com/musterhq/muster/agent/schedule"
	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/store"
)

// schedulingPrefixes is what scheduling is decided from, each before those that it refers to: a host or a unit that
// appears in one is in the next. What hosts say of their units is not among it.
var schedulingPrefixes = []string{
	store.KeyRebalance, store.KeyCluster, store.PrefixSchedule, store.PrefixUnits, store.PrefixAlive, store.PrefixHosts,
	store.PrefixOrders, store.PrefixRoster,
}

// pace collects what comes together: the units of one `muster up`, the hosts of one cloud.
var pace = store.Pace{Settle: 10 * time.Millisecond, Bound: 100 * time.Millisecond}

// Scheduler keeps the hosts' schedules as they should be.
type Scheduler struct {
	Store store.Store
	Log   *slog.Logger
}

// Run decides and writes after every change, until ctx ends or a write is refused for good. After a conflict it reads
// everything again; a leader that was deposed meets one at every write until its leadership ends.
func (s *Scheduler) Run(ctx context.Context, fence store.Guard) error {
	if err := s.await(ctx); err != nil {
		return err
	}
	absent, begun := newAbsences(), &beginnings{}
	between := pause.New(longestPause)
	for {
		round := &schedulerRound{
			Scheduler: s, fence: fence, rules: fleet.NewRules(), unseen: map[string]change{}, alarm: newAlarm(), absent: absent,
			begun: begun,
		}
		err := store.Follow(ctx, punctual{doubting{s.Store}, round.alarm}, schedulingPrefixes, pace, func(t *store.Tables) error {
			return round.step(ctx, fleet.View{Tables: t})
		})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, store.ErrDenied) {
			return err
		}
		s.Log.Warn("scheduling begins anew", "err", err)
		if round.wrote {
			between.Reset()
		}
		if err := between.Wait(ctx); err != nil {
			return err
		}
	}
}

// await gives hosts that a new leader finds without a session the time of Doubt: it cannot know since when.
func (s *Scheduler) await(ctx context.Context) error {
	v, err := fleet.Load(ctx, s.Store, []string{store.PrefixAlive, store.PrefixHosts, store.PrefixRoster}, false)
	if err != nil {
		return err
	}
	silent := func(h roster.Host) bool { return v.Seen(h.ID) && !v.Ready(h.ID) }
	if !slices.ContainsFunc(v.Members(), silent) {
		return nil
	}
	return pause.For(ctx, Doubt)
}

// schedulerRound is what lasts from one reading of everything to the next.
type schedulerRound struct {
	*Scheduler
	fence  store.Guard
	rules  *fleet.Rules
	unseen map[string]change // what was written and has not come back yet, by host
	absent *absences
	begun  *beginnings
	wrote  bool
	alarm  alarm // when an order of operators is due, or strict units of a lost host may move
}

// step decides from the view and writes what changed. It waits until the view has what it wrote itself.
func (s *schedulerRound) step(ctx context.Context, v fleet.View) error {
	now := time.Now()
	gone, due := s.absent.gone(v, now) // of every view, since a host may be back in one only
	maps.DeleteFunc(s.unseen, func(id string, c change) bool { return c.in(v) })
	if len(s.unseen) > 0 {
		return nil
	}
	if err := v.Schedulable(); err != nil {
		return err
	}
	rules, err := s.rules.Of(ctx, s.Store, v)
	if err != nil {
		return err
	}
	grown, again := s.begun.age(v.Cluster.Record, now)
	if grown {
		return s.grown(ctx, v)
	}
	due = earlier(earlier(v.NextDeadline(now), due), again)
	snapshot := v.Snapshot(rules, now)
	decisions := schedule.Decide(snapshot)
	after := schedule.After(snapshot, decisions)
	moves, err := s.rebalance(ctx, v, after)
	if err != nil {
		return err
	}
	after = schedule.After(after, moves)
	want := v.Schedules(after, schedule.GlobalHosts(after), s.rules.SameRun, gone)
	s.alarm.set(earlier(due, s.begun.complete(v, want, now)))
	changes := diff(v, want)
	if len(changes) == 0 {
		return nil
	}
	for _, d := range slices.Concat(decisions, moves) {
		s.Log.Debug("decided", "unit", d.Unit, "instances", d.Instances, "kind", d.Kind, "from", d.From, "to", d.To, "reason", d.Reason)
	}
	if err := s.writeAll(ctx, changes); err != nil {
		return err
	}
	s.Log.Info("wrote schedules", "hosts", len(changes), "decisions", len(decisions), "units", len(snapshot.Units))
	return nil
}
