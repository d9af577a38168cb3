package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/musterhq/muster/agent/pause"
	"github.com/musterhq/muster/cluster/store"
)

// Steward is the leader's part in hosts' updates: it drains a host that holds the reboot lock and says that it is about to
// reboot, takes that back when the host is done, counts how far releases are, and holds the rollout when a release fails on more
// hosts than may be borne. What operators ordered of a host meanwhile is theirs: it is not taken back.
type Steward struct {
	Store store.Store
	Now   func() time.Time
	Log   *slog.Logger
}

// stewardPrefixes are what it follows.
var stewardPrefixes = []string{store.PrefixUpdate, store.PrefixOrders, store.PrefixRoster, store.PrefixAlive}

// Run ends with ctx or when the store refuses for good.
func (s *Steward) Run(ctx context.Context, fence store.Guard) error {
	between := pause.New(longestPause)
	for {
		err := store.Follow(ctx, s.Store, stewardPrefixes, grantPace, func(t *store.Tables) error { return s.step(ctx, t, fence) })
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, store.ErrDenied):
			return err
		}
		s.Log.Debug("hosts' updates are looked at anew", "err", err)
		if err := between.Wait(ctx); err != nil {
			return err
		}
	}
}

// step commits what there is to do, one host at a time: hosts that are updated are few.
func (s *Steward) step(ctx context.Context, t *store.Tables, fence store.Guard) error {
	for id, h := range t.HostUpdates {
		if _, member := t.Roster[id]; !member {
			continue
		}
		want, change := ordered(t.Orders[id], h.Record, s.Now())
		if !change {
			continue
		}
		op := store.Delete(store.OrderKey(id))
		if want != nil {
			data, err := store.Marshal(*want)
			if err != nil {
				return err
			}
			op = store.Put(store.OrderKey(id), data)
		}
		guard := store.Guard{Key: store.OrderKey(id), Kind: store.GuardModRevision, Revision: t.Orders[id].Revision}
		if _, err := s.Store.Commit(ctx, store.Commit{Guards: []store.Guard{fence, guard}, Ops: []store.Op{op}}); err != nil {
			return fmt.Errorf("cannot order host %s: %w", id, err)
		}
	}
	if err := s.count(ctx, t, fence); err != nil {
		return err
	}
	return s.hold(ctx, t, fence)
}

// ordered is what is to be ordered of a host that updates, nil for nothing, and whether that is a change.
func ordered(is store.Entry[store.OrderRecord], h store.UpdateHostRecord, now time.Time) (want *store.OrderRecord, change bool) {
	there := is.Revision != 0
	switch {
	case h.Drain && there && is.Record.Order == store.OrderDrain, !h.Drain && (!there || !is.Record.Update):
		return nil, false
	case h.Drain:
		// No deadline: what fits nowhere else stays the host's, which stops it before it reboots and has it back afterwards.
		return &store.OrderRecord{Order: store.OrderDrain, Since: now.UTC(), Update: true, Was: is.Record.Order}, true
	case is.Record.Was != "":
		return &store.OrderRecord{Order: is.Record.Was, Since: now.UTC()}, true
	}
	return nil, true
}

// hold stops the rollout for the first host on which a release failed since an operator resumed it last.
func (s *Steward) hold(ctx context.Context, t *store.Tables, fence store.Guard) error {
	g := t.Updates[store.UpdateGroup]
	if g.Record.Hold != nil {
		return nil
	}
	for id, h := range t.HostUpdates {
		_, member := t.Roster[id]
		if h.Record.Failed == "" || h.Record.Resumed < g.Record.Resumed || !member || borne(g.Record, id, h.Record) {
			continue
		}
		after := g.Record
		after.Hold = &store.UpdateHold{Version: h.Record.Failed, Host: id, Reason: h.Record.Reason, At: s.Now().UTC()}
		after = withEvent(after, store.UpdateEvent{At: s.Now().UTC(), What: "held", By: id, Reason: h.Record.Failed + ": " + h.Record.Reason})
		data, err := store.Marshal(after)
		if err != nil {
			return err
		}
		key := store.UpdateKey(store.UpdateGroup)
		guard := store.Guard{Key: key, Kind: store.GuardModRevision, Revision: g.Revision}
		if _, err := s.Store.Commit(ctx, store.Commit{Guards: []store.Guard{fence, guard}, Ops: []store.Op{store.Put(key, data)}}); err != nil {
			return fmt.Errorf("cannot hold the rollout: %w", err)
		}
		s.Log.Warn("the rollout of hosts' updates is held", "version", h.Record.Failed, "host", id, "reason", h.Record.Reason)
		return nil
	}
	return nil
}

// withEvent is a record whose history has one more event.
func withEvent(r store.UpdateRecord, e store.UpdateEvent) store.UpdateRecord {
	old := r.History[max(0, len(r.History)-store.UpdateHistory+1):]
	r.History = append(append([]store.UpdateEvent{}, old...), e)
	return r
}
