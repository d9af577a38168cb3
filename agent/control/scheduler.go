package control

import (
	"cmp"
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
	store.PrefixSchedule, store.PrefixUnits, store.PrefixAlive, store.PrefixHosts, store.PrefixRoster,
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
	between := pause.New(longestPause)
	for {
		round := &schedulerRound{Scheduler: s, fence: fence, rules: fleet.NewRules(), unseen: map[string]change{}}
		err := store.Follow(ctx, doubting{s.Store}, schedulingPrefixes, pace, func(t *store.Tables) error {
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
	wrote  bool
}

// step decides from the view and writes what changed. It waits until the view has what it wrote itself.
func (s *schedulerRound) step(ctx context.Context, v fleet.View) error {
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
	snapshot := v.Snapshot(rules)
	decisions := schedule.Decide(snapshot)
	after := schedule.After(snapshot, decisions)
	changes := diff(v, v.Schedules(after.Placed, schedule.GlobalHosts(after)))
	if len(changes) == 0 {
		return nil
	}
	for _, d := range decisions {
		s.Log.Debug("decided", "unit", d.Unit, "kind", d.Kind, "from", d.From, "to", d.To, "reason", d.Reason)
	}
	for _, batch := range batches(changes) {
		if err := s.write(ctx, batch); err != nil {
			return err
		}
	}
	s.Log.Info("wrote schedules", "hosts", len(changes), "decisions", len(decisions), "units", len(snapshot.Units))
	return nil
}

// write commits some hosts' records.
func (s *schedulerRound) write(ctx context.Context, batch []change) error {
	c := store.Commit{Guards: []store.Guard{s.fence}}
	for _, ch := range batch {
		key := store.ScheduleKey(ch.host)
		c.Guards = append(c.Guards, store.Guard{Key: key, Kind: store.GuardModRevision, Revision: ch.revision})
		if ch.gone {
			c.Guards = append(c.Guards, store.Guard{Key: store.RosterKey(ch.host), Kind: store.GuardModRevision})
			c.Ops = append(c.Ops, store.Delete(key))
			continue
		}
		data, err := store.Marshal(ch.record)
		if err != nil {
			return err
		}
		c.Ops = append(c.Ops, store.Put(key, data))
	}
	revision, err := s.Store.Commit(ctx, c)
	if err != nil {
		return err
	}
	s.wrote = true
	for _, ch := range batch {
		ch.revision = revision
		s.unseen[ch.host] = ch
	}
	return nil
}

// change is what becomes of one host's record.
type change struct {
	host     string
	revision int64 // of the record that it replaces, 0 for none; then its own
	record   store.ScheduleRecord
	gone     bool // the host has left the roster
	gains    bool // the record has units that it had not
}

// in says whether a view has the change, which was written at its revision.
func (c change) in(v fleet.View) bool {
	record, there := v.Schedule[c.host]
	return there && record.Revision >= c.revision || c.gone && !there
}

// diff compares the records with those that are to be. Records that only lose units come first, so that units leave
// before they arrive even when the changes are too many for one commit.
func diff(v fleet.View, want map[string]store.ScheduleRecord) []change {
	var changes []change
	for id, record := range want {
		was := v.Schedule[id]
		if was.Revision != 0 && slices.Equal(was.Record.Units, record.Units) {
			continue
		}
		changes = append(changes, change{host: id, revision: was.Revision, record: record, gains: gains(was.Record, record)})
	}
	for id, was := range v.Schedule {
		if _, stays := want[id]; !stays {
			changes = append(changes, change{host: id, revision: was.Revision, gone: true})
		}
	}
	slices.SortFunc(changes, func(a, b change) int {
		if a.gains != b.gains {
			if b.gains {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.host, b.host)
	})
	return changes
}

func gains(was, is store.ScheduleRecord) bool {
	return slices.ContainsFunc(is.Units, func(u store.ScheduledUnit) bool {
		_, had := slices.BinarySearchFunc(was.Units, u.Name, func(w store.ScheduledUnit, name string) int {
			return cmp.Compare(w.Name, name)
		})
		return !had
	})
}

// batches cuts changes into commits. Each has the fence and at most two guards a change.
func batches(changes []change) [][]change {
	return slices.Collect(slices.Chunk(changes, (store.MaxOps-1)/2))
}
