package control

import (
	"context"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"time"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/cluster/store"
)

// MaxVoters is the most that a cluster may have: more would be slower and hardly safer.
const MaxVoters = 7

// Configure changes what of the cluster's settings may change while it runs.
func (a *Admin) Configure(ctx context.Context, settings api.Settings) (api.Outcome, error) {
	if err := checkSettings(settings); err != nil {
		return api.Unchanged, err
	}
	outcome := api.Unchanged
	err := retry(func() (err error) {
		outcome, err = a.configure(ctx, settings)
		return err
	})
	if err == nil && settings.Barred != nil {
		var barred bool
		if barred, err = a.bar(ctx, *settings.Barred); barred {
			outcome = api.Changed
		}
	}
	if err == nil && settings.Update != nil {
		var changed bool
		if changed, err = a.configureUpdate(ctx, *settings.Update); changed {
			outcome = api.Changed
		}
	}
	if err != nil {
		return api.Unchanged, fmt.Errorf("cannot change the cluster's settings: %w", err)
	}
	return outcome, nil
}

func checkSettings(s api.Settings) error {
	if p := s.RebalancePercent; p != nil && (*p < 0 || *p > 100) {
		return badRequest("give 0 to 100", "%d percent of the units cannot move", *p)
	}
	if n := s.Voters; n != nil && (*n < 0 || *n > MaxVoters) {
		return badRequest("1, 3, 5 or 7 is possible", "there cannot be %d voters", *n)
	}
	if b := s.Backups; b != nil {
		if err := b.Validate(); err != nil {
			return badRequest("`muster schema` tells what is possible", "%v", err)
		}
	}
	if d := s.VoterGrace; d != nil && *d < 0 {
		return badRequest("give a duration, 0 for never", "a grace of %s is none", *d)
	}
	return nil
}

func (a *Admin) configure(ctx context.Context, settings api.Settings) (api.Outcome, error) {
	item, err := a.Store.Get(ctx, store.KeyCluster)
	if err != nil {
		return api.Unchanged, err
	}
	if item.ModRevision == 0 {
		return api.Unchanged, api.Errorf(http.StatusServiceUnavailable, "try again in a moment", "no voter leads the scheduling yet")
	}
	was, err := store.Unmarshal[store.Cluster](item.Value)
	if err != nil {
		return api.Unchanged, err
	}
	record := configured(was, settings)
	if reflect.DeepEqual(was, record) {
		return api.Unchanged, nil
	}
	data, err := store.Marshal(record)
	if err != nil {
		return api.Unchanged, err
	}
	_, err = a.Store.Commit(ctx, store.Commit{
		Guards: []store.Guard{unmodified(store.KeyCluster, item)}, Ops: []store.Op{store.Put(store.KeyCluster, data)},
	})
	return api.Changed, err
}

// configured is the record with settings. Defaults are not written where a record has none.
func configured(record store.Cluster, s api.Settings) store.Cluster {
	if s.RebalancePercent != nil && record.RebalanceShare() != *s.RebalancePercent {
		record.RebalancePercent = s.RebalancePercent
	}
	if s.Voters != nil {
		record.Voters = *s.Voters
	}
	if s.Backups != nil && record.BackupSchedule() != *s.Backups {
		record.Backups = s.Backups
	}
	if s.VoterGrace != nil && record.VoterGrace() != s.VoterGrace.Truncate(time.Millisecond) {
		record.VoterGraceMillis = new(s.VoterGrace.Milliseconds())
	}
	return record
}

// bar has exactly these hosts never vote. Those that vote go on until they are told to stop (OrderSeat).
func (a *Admin) bar(ctx context.Context, ids []string) (changed bool, err error) {
	members, err := a.roster(ctx)
	if err != nil {
		return false, err
	}
	for _, h := range members {
		if h.Barred == slices.Contains(ids, h.ID) {
			continue
		}
		changed = true
		err := retry(func() error {
			item, member, err := a.member(ctx, h.ID)
			if err != nil {
				return err
			}
			member.Barred = !h.Barred
			data, err := store.Marshal(member)
			if err != nil {
				return err
			}
			_, err = a.Store.Commit(ctx, store.Commit{
				Guards: []store.Guard{unmodified(item.Key, item)}, Ops: []store.Op{store.Put(item.Key, data)},
			})
			return err
		})
		if err != nil && !api.IsNotFound(err) {
			return changed, err
		}
	}
	return changed, nil
}
