//go:build lab

package image

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/musterhq/muster/agent/control"
	"github.com/musterhq/muster/agent/update"
	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/store"
)

// rolloutStops decides, as the host's driver does, what follows from the slots that a host told of after it had switched to a
// version: it forgets that and waits for an operator, and the leader holds the rollout.
func rolloutStops(t *testing.T, version string, slots update.Slots) {
	t.Helper()
	now := time.Now()
	before := update.State{
		V: 1, Phase: update.Rebooting, Boot: "a", Booted: "2", From: "2", Target: update.Offer{Version: version}, Asked: true, Switched: true, Attempts: 1,
	}
	forgets, actions := update.Next(before, update.Event{Kind: update.Started, At: now, Boot: "b", Slots: slots})
	if len(actions) != 1 || actions[0].Kind != update.Forget || actions[0].Target.Version != version {
		t.Fatalf("the host does %+v", actions)
	}
	waits, actions := update.Next(forgets, update.Event{Kind: update.Done, Phase: forgets.Phase, At: now})
	if len(actions) != 1 || actions[0].Kind != update.Hold || waits.Phase != update.Failed {
		t.Fatalf("the host does %+v", actions)
	}
	if hold := heldBy(t, waits); hold == nil || hold.Version != version || hold.Host != "h" {
		t.Fatalf("the rollout is held by %+v", hold)
	}
	t.Logf("%s: the rollout is held: %s", version, waits.Reason)
}

// heldBy tells the leader of a host's state, and returns why it holds the rollout then.
func heldBy(t *testing.T, s update.State) *store.UpdateHold {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	m := store.NewMemory(time.Now)
	defer m.Close()
	failure, _ := s.Failure(s.Failures[len(s.Failures)-1].Version)
	member, err := store.Marshal(store.RosterRecord{Host: roster.Host{ID: "h", Name: "node-1", Provider: "lab"}})
	host, bad := store.Marshal(store.UpdateHostRecord{Engine: "ab", Version: s.Booted, Phase: string(s.Phase), Failed: failure.Version, Reason: failure.Reason})
	group, worse := store.Marshal(store.UpdateRecord{})
	if err = errors.Join(err, bad, worse); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Commit(ctx, store.Commit{Ops: []store.Op{
		store.Put(store.RosterKey("h"), member), store.Put(store.UpdateHostKey("h"), host), store.Put(store.UpdateKey(store.UpdateGroup), group),
	}}); err != nil {
		t.Fatal(err)
	}
	steward := &control.Steward{Store: m, Now: time.Now, Log: slog.New(slog.DiscardHandler)}
	ended := make(chan error, 1)
	go func() { ended <- steward.Run(ctx, store.Guard{Key: "/none"}) }()
	var hold *store.UpdateHold
	err = store.Follow(ctx, m, []string{store.PrefixUpdate}, store.Pace{}, func(t *store.Tables) error {
		if hold = t.Updates[store.UpdateGroup].Record.Hold; hold != nil {
			cancel()
		}
		return nil
	})
	<-ended
	if hold == nil {
		t.Fatal(err)
	}
	return hold
}
