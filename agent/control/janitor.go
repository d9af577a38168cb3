package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/musterhq/muster/agent/fleet"
	"github.com/musterhq/muster/agent/pause"
	"github.com/musterhq/muster/cluster/store"
)

// sweepEvery is how often the janitor looks.
const sweepEvery = 5 * time.Minute

// Janitor removes records that nothing needs any more: join tokens that have expired, unit files that no unit has, and
// what hosts wrote that have left since.
type Janitor struct {
	Store store.Store
	Now   func() time.Time
	Log   *slog.Logger
}

// Run sweeps now and then until ctx ends. What could not be removed is left for the next time.
func (j *Janitor) Run(ctx context.Context, fence store.Guard) error {
	for {
		if err := pause.For(ctx, sweepEvery); err != nil {
			return err
		}
		if err := j.Sweep(ctx, fence); err != nil && ctx.Err() == nil {
			j.Log.Warn("cannot remove old records", "err", err)
		}
	}
}

// Sweep removes what is not needed now.
func (j *Janitor) Sweep(ctx context.Context, fence store.Guard) error {
	// Files are read first: a unit that refers to one of them is then seen with it.
	files, err := j.Store.Range(ctx, store.PrefixFiles)
	if err != nil {
		return fmt.Errorf("cannot sweep: %w", err)
	}
	v, err := fleet.Load(ctx, j.Store, []string{
		store.PrefixReboots, store.PrefixUpdateHosts, store.PrefixOrders, store.PrefixTokens, store.PrefixStates, store.PrefixAlive, store.PrefixHosts, store.PrefixSchedule, store.PrefixUnits,
		store.PrefixRoster,
	}, false)
	if err != nil {
		return fmt.Errorf("cannot sweep: %w", err)
	}
	if len(v.Bad) > 0 {
		return errors.New("cannot sweep while there are records that cannot be read")
	}
	var old []store.Item
	old = append(old, j.expired(v)...)
	old = append(old, unreferenced(v, files.Items)...)
	old = append(old, orphans(v)...)
	return j.remove(ctx, fence, old)
}

func (j *Janitor) expired(v fleet.View) []store.Item {
	var old []store.Item
	now := j.Now()
	for hash, token := range v.Tokens {
		if !now.Before(token.Record.Expires) {
			old = append(old, store.Item{Key: store.TokenKey(hash), ModRevision: token.Revision})
		}
	}
	return old
}

func unreferenced(v fleet.View, files []store.Item) []store.Item {
	used := map[string]bool{}
	for _, u := range v.Units {
		used[store.FileKey(u.Record.File)] = true
		if roll := u.Record.Rollout; roll != nil { // to go back, or forth again
			used[store.FileKey(roll.From)], used[store.FileKey(roll.To)] = true, true
		}
	}
	for _, r := range v.Schedule {
		for _, u := range r.Record.Units {
			used[store.FileKey(u.File)] = true
		}
	}
	var old []store.Item
	for _, item := range files {
		if !used[item.Key] {
			old = append(old, item)
		}
	}
	return old
}

// orphans are records of hosts that are in the roster no more. Schedules are the scheduler's.
func orphans(v fleet.View) []store.Item {
	var old []store.Item
	add := func(id, key string, revision int64) {
		if _, member := v.Roster[id]; !member {
			old = append(old, store.Item{Key: key, ModRevision: revision})
		}
	}
	for id, parts := range v.StateParts {
		for n, r := range parts {
			add(id, store.PartKey(store.StatesKey(id), n), r.Revision)
		}
	}
	for id, r := range v.Hosts {
		add(id, store.HostKey(id), r.Revision)
	}
	for id, r := range v.Orders {
		add(id, store.OrderKey(id), r.Revision)
	}
	for id, r := range v.Reboots {
		add(id, store.RebootKey(id), r.Revision)
	}
	for id, r := range v.HostUpdates {
		add(id, store.UpdateHostKey(id), r.Revision)
	}
	for id, r := range v.Alive {
		add(id, store.AliveKey(id), r.Revision)
	}
	return old
}

// remove deletes items that have not changed since they were looked at, each by itself: one that has changed keeps none
// of the others.
func (j *Janitor) remove(ctx context.Context, fence store.Guard, items []store.Item) error {
	var failed error
	for _, item := range items {
		_, err := j.Store.Commit(ctx, store.Commit{
			Guards: []store.Guard{fence, unmodified(item.Key, item)}, Ops: []store.Op{store.Delete(item.Key)},
		})
		switch {
		case err == nil:
			j.Log.Debug("removed an old record", "key", item.Key)
		case !errors.Is(err, store.ErrConflict):
			return err
		default:
			failed = err
		}
	}
	return failed
}
