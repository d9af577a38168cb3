package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/agent/fleet"
	"github.com/musterhq/muster/agent/pause"
	"github.com/musterhq/muster/agent/schedule"
	"github.com/musterhq/muster/cluster/store"
)

// Rebalancing goes in batches: the scheduler moves some units, and when they run again the rebalancer lets it move more.
const (
	maxBatch      = 1000            // moves at a time, however many units there are
	settleEvery   = time.Second     // how often it is looked whether what moved runs
	settleTimeout = 2 * time.Minute // after which no more is moved
	// UnlimitedMoves is RebalanceRecord.Left when only the gain bounds the moves.
	UnlimitedMoves = 1 << 30
)

// joining collects hosts that join together.
var joining = store.Pace{Settle: 2 * time.Second, Bound: 10 * time.Second}

var rebalancingPrefixes = []string{store.KeyRebalance, store.KeyCluster, store.PrefixHosts, store.PrefixRoster}

// Rebalancer is the leader's duty to begin rebalancing when hosts have joined, and to go on with it as long as what moves
// runs again. What moves, the Scheduler decides and writes.
type Rebalancer struct {
	Store store.Store
	Log   *slog.Logger
}

// Run ends with ctx or when the store refuses for good.
func (r *Rebalancer) Run(ctx context.Context, fence store.Guard) error {
	between := pause.New(longestPause)
	for {
		err := store.Follow(ctx, r.Store, rebalancingPrefixes, joining, func(t *store.Tables) error {
			err := r.step(ctx, fence, fleet.View{Tables: t})
			if errors.Is(err, store.ErrConflict) {
				return nil // what changed comes next
			}
			return err
		})
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, store.ErrDenied):
			return err
		}
		r.Log.Warn("rebalancing begins anew", "err", err)
		if err := between.Wait(ctx); err != nil {
			return err
		}
	}
}

func (r *Rebalancer) step(ctx context.Context, fence store.Guard, v fleet.View) error {
	if v.Bad[store.KeyRebalance] != nil {
		return nil
	}
	record := v.Rebalance.Record
	seen, cause := joined(v, record.Seen)
	switch {
	case v.Rebalance.Revision == 0: // who was there before is not a host that joins
		record = store.RebalanceRecord{Seen: seen}
	case seen > record.Seen:
		if record.Seen = seen; v.Cluster.Record.RebalanceShare() > 0 {
			record.Left, record.Cause, record.Stopped = UnlimitedMoves, cause, ""
		}
	case record.Left == 0 || record.Go:
		return nil
	default:
		if err := r.proceed(ctx, &record); err != nil {
			return err
		}
	}
	return writeRebalance(ctx, r.Store, fence, v.Rebalance.Revision, record)
}

// joined is the revision of the last host that joined, and in words who did since some revision.
func joined(v fleet.View, since int64) (last int64, cause string) {
	n, name := 0, ""
	for id, h := range v.Hosts {
		if member, ok := v.Roster[id]; ok && h.Created > since {
			n++
			name = member.Record.Name
		}
		last = max(last, h.Created)
	}
	if n == 1 {
		return last, "host " + name + " joined"
	}
	return last, fmt.Sprintf("%d hosts joined", n)
}

// proceed waits until what moved runs, and says in the record how it goes on.
func (r *Rebalancer) proceed(ctx context.Context, record *store.RebalanceRecord) error {
	for {
		v, err := fleet.Load(ctx, r.Store, fleet.MovedPrefixes, false)
		if err != nil {
			return err
		}
		waits := v.Unsettled(record.Moved)
		switch {
		case waits == "":
			record.Go = true
			return nil
		case time.Since(record.At) > settleTimeout:
			r.Log.Warn("rebalancing stops: what it moved does not run", "unit", waits)
			record.Left, record.Stopped = 0, waits
			return nil
		}
		if err := pause.For(ctx, settleEvery); err != nil {
			return err
		}
	}
}

func writeRebalance(ctx context.Context, s store.Store, fence store.Guard, was int64, record store.RebalanceRecord) error {
	data, err := store.Marshal(record)
	if err != nil {
		return err
	}
	_, err = s.Commit(ctx, store.Commit{
		Guards: []store.Guard{fence, {Key: store.KeyRebalance, Kind: store.GuardModRevision, Revision: was}},
		Ops:    []store.Op{store.Put(store.KeyRebalance, data)},
	})
	return err
}

// rebalance is the next batch of moves, when it is their turn. They are recorded before they are made, so that no leader
// makes them twice; should none of them be made, the next ones are.
func (s *schedulerRound) rebalance(ctx context.Context, v fleet.View, after schedule.Snapshot) ([]schedule.Decision, error) {
	record := v.Rebalance.Record
	if !record.Go || v.Bad[store.KeyRebalance] != nil {
		return nil, nil
	}
	moves := schedule.Rebalance(after, batch(v.Cluster.Record, after, record.Left))
	record.Go, record.Moved, record.At = false, nil, time.Now().UTC()
	n := 0
	for _, d := range moves {
		n += max(d.Instances.Len(), 1)
		record.Moved = append(record.Moved, store.MovedUnit{
			Unit: d.Unit, Instances: d.Instances, From: d.From, To: d.To, Reason: d.Reason,
		})
	}
	if record.Left -= n; n == 0 {
		record.Left, record.Moved, record.At = 0, v.Rebalance.Record.Moved, v.Rebalance.Record.At
	}
	err := writeRebalance(ctx, s.Store, s.fence, v.Rebalance.Revision, record)
	if errors.Is(err, store.ErrConflict) {
		return nil, nil // it was changed, or done already
	}
	if err == nil {
		s.Log.Info("rebalances", "moves", n, "cause", record.Cause)
	}
	return moves, err
}

// batch is how much may move at a time: the cluster's share of all units, or of a template's instances.
func batch(c store.Cluster, after schedule.Snapshot, left int) schedule.Budget {
	share := c.RebalanceShare()
	if share == 0 { // it is not done by itself; who orders it gets the default
		share = store.DefaultRebalance
	}
	units := len(after.Placed)
	for _, span := range after.Spans {
		units += span.Instances.Len()
	}
	return schedule.Budget{Moves: min(left, maxBatch, max(units*share/100, 1)), TemplateShare: share}
}

// OrderRebalance orders moves. The leader makes them.
func (a *Admin) OrderRebalance(ctx context.Context, order api.RebalanceOrder) error {
	if order.MaxMoves < 0 {
		return badRequest("give a number of moves, or 0 for all that gain something", "%d moves", order.MaxMoves)
	}
	err := retry(func() error {
		item, err := a.Store.Get(ctx, store.KeyRebalance)
		if err != nil {
			return err
		}
		if item.ModRevision == 0 {
			return api.Errorf(http.StatusServiceUnavailable, "try again in a moment", "no voter leads the scheduling yet")
		}
		record, err := store.Unmarshal[store.RebalanceRecord](item.Value)
		if err != nil {
			return err
		}
		record.Cause, record.Stopped = "an operator ordered it", ""
		if record.Left = order.MaxMoves; record.Left == 0 {
			record.Left = UnlimitedMoves
		}
		data, err := store.Marshal(record)
		if err != nil {
			return err
		}
		_, err = a.Store.Commit(ctx, store.Commit{
			Guards: []store.Guard{unmodified(store.KeyRebalance, item)}, Ops: []store.Op{store.Put(store.KeyRebalance, data)},
		})
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot rebalance: %w", err)
	}
	return nil
}
