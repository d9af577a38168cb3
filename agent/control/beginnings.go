package control

import (
	"context"
	"errors"
	"time"

	"github.com/musterhq/muster/agent/fleet"
	"github.com/musterhq/muster/cluster/store"
)

// refilled is how long nobody may have submitted units until the leader tells hosts that have no schedule that theirs is
// empty. Operators who fill a store that has lost everything do not do it all at once, and what runs goes on until then.
const refilled = 30 * time.Second

// beginnings knows, by this leader's monotonic clock, for how long a store that was empty has had what it has. A leader that
// is new begins to count anew. It is for one goroutine.
type beginnings struct {
	fresh time.Time // since when it has been Cluster.Fresh, zero if it is not

	units, count int64     // the last revision of a unit, and how many there are
	still        time.Time // since when that is so
}

// age says whether the store has been there for so long that no strict unit runs any more by a schedule that was lost, and
// when to look again.
func (b *beginnings) age(c store.Cluster, now time.Time) (over bool, due time.Time) {
	if !c.Fresh {
		b.fresh = time.Time{}
		return false, due
	}
	if b.fresh.IsZero() {
		b.fresh = now
	}
	hold := longestHold
	if lease := time.Duration(c.LeaseMillis) * time.Millisecond; lease > 0 {
		hold = SessionTTL(lease) + Doubt
	}
	due = b.fresh.Add(hold)
	return !now.Before(due), due
}

// complete adds empty schedules for the hosts that live and have none: a host goes on with what it last knew until it is
// told otherwise, and nobody else will tell it. Nobody is told before there are units again, and all have been there for a
// while. due is when to look again.
func (b *beginnings) complete(v fleet.View, want map[string]store.ScheduleRecord, now time.Time) (due time.Time) {
	units, count := int64(0), int64(0)
	for _, u := range v.Units {
		if units = max(units, u.Revision); u.Record.Desired != store.DesiredInactive {
			count++
		}
	}
	if units != b.units || count != b.count || b.still.IsZero() {
		b.units, b.count, b.still = units, count, now
	}
	if count == 0 {
		return due
	}
	over := b.still.Add(refilled)
	for id := range v.Roster {
		if _, told := v.Schedule[id]; told || !v.Ready(id) {
			continue
		}
		if _, wanted := want[id]; wanted {
			continue
		}
		if now.Before(over) {
			return over
		}
		want[id] = store.ScheduleRecord{V: store.RecordVersion, Units: []store.ScheduledUnit{}}
	}
	return due
}

// grown notes in the cluster's record that the store is not fresh any more.
func (s *schedulerRound) grown(ctx context.Context, v fleet.View) error {
	record := v.Cluster.Record
	record.Fresh = false
	data, err := store.Marshal(record)
	if err != nil {
		return err
	}
	_, err = s.Store.Commit(ctx, store.Commit{
		Guards: []store.Guard{s.fence, {Key: store.KeyCluster, Kind: store.GuardModRevision, Revision: v.Cluster.Revision}},
		Ops:    []store.Op{store.Put(store.KeyCluster, data)},
	})
	if errors.Is(err, store.ErrConflict) {
		return nil // what changed comes next
	}
	return err
}
