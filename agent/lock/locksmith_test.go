package lock

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/store"
)

// keeper is a Keeper over an empty store with some hosts that live; the first three vote, and the first leads.
func keeper(t *testing.T, hosts ...string) (*Keeper, *store.Memory) {
	t.Helper()
	m := store.NewMemory(time.Now)
	t.Cleanup(func() { _ = m.Close() })
	k := &Keeper{Store: m, Now: func() time.Time { return noon }}
	var voters []Voter
	for i, id := range hosts {
		if i < 3 {
			voters = append(voters, Voter{Host: id, Healthy: true, Leader: i == 0})
		}
		record, err := store.Marshal(store.RosterRecord{Host: roster.Host{ID: id, Name: id, Provider: "p", Voter: i < 3}})
		if err != nil {
			t.Fatal(err)
		}
		alive, _ := store.Marshal(store.Alive{})
		if _, err := m.Commit(t.Context(), store.Commit{Ops: []store.Op{
			store.Put(store.RosterKey(id), record), store.Put(store.AliveKey(id), alive),
		}}); err != nil {
			t.Fatal(err)
		}
	}
	k.Voters = func(context.Context) ([]Voter, error) { return voters, nil }
	return k, m
}

// TestLocksmith does what locksmithctl does, in the words that it sends.
func TestLocksmith(t *testing.T) {
	k, _ := keeper(t, "v1", "v2", "v3", "w1")
	l, own := &Locksmith{Keeper: k}, &Locksmith{Keeper: k, Self: "w1"}
	if err := k.Lock(t.Context(), "op", store.LockHolder{ID: "w1", Kind: store.HolderOperator}, "operator", ""); err != nil {
		t.Fatal(err)
	}
	index := map[string]int64{}
	for i, step := range []struct {
		l        *Locksmith
		group    string
		stale    bool
		value    string
		refused  bool
		conflict bool
		after    string
	}{
		{l: own, group: "g", value: `{"semaphore":1,"max":1,"holders":null}`, refused: true},
		{l: own, group: DefaultGroup, value: `{"semaphore":1,"max":1,"holders":null}`, after: `{"semaphore":1,"max":1,"holders":null}`},
		{l: l, group: "g", value: `{"semaphore":1,"max":1,"holders":null}`, after: `{"semaphore":1,"max":1,"holders":null}`},
		{l: l, group: "g", value: `{"semaphore":0,"max":1,"holders":["x"]}`, after: `{"semaphore":0,"max":1,"holders":["x"]}`},
		{l: l, group: "g", value: `{"semaphore":-1,"max":1,"holders":["x","y"]}`, refused: true},
		{l: own, group: "g", value: `{"semaphore":1,"max":2,"holders":["x"]}`, refused: true},
		{l: l, group: "g", value: `{"semaphore":1,"max":2,"holders":["x"]}`, after: `{"semaphore":1,"max":2,"holders":["x"]}`},
		{l: l, group: "g", stale: true, value: `{"semaphore":0,"max":2,"holders":["x","y"]}`, conflict: true},
		{l: own, group: "g", value: `{"semaphore":0,"max":2,"holders":["x","y"]}`, refused: true},
		{l: own, group: "g", value: `{"semaphore":0,"max":2,"holders":["w1","x"]}`, after: `{"semaphore":0,"max":2,"holders":["w1","x"]}`},
		{l: own, group: "g", value: `{"semaphore":1,"max":2,"holders":["w1"]}`, refused: true},
		{l: own, group: "g", value: `{"semaphore":1,"max":2,"holders":["x"]}`, after: `{"semaphore":1,"max":2,"holders":["x"]}`},
		{l: l, group: "g", value: `{"semaphore":0,"max":1,"holders":["x"]}`, after: `{"semaphore":0,"max":1,"holders":["x"]}`},
		{l: l, group: "g", value: `{"semaphore":2,"max":2,"holders":null}`, refused: true},
		{l: l, group: "g", value: `{"semaphore":5,"max":1,"holders":["x"]}`, refused: true},
		{l: l, group: "g", value: `locked`, refused: true},
		{l: l, group: "a/b", value: `{"semaphore":1,"max":1,"holders":null}`, refused: true},
		{l: l, group: "g", value: `{"semaphore":1,"max":1,"holders":null}`, after: `{"semaphore":1,"max":1,"holders":null}`},
		{l: l, group: "g", value: `{"semaphore":0,"max":1,"holders":["v1"]}`, after: `{"semaphore":0,"max":1,"holders":["v1"]}`},
		{l: l, group: "h", value: `{"semaphore":0,"max":1,"holders":["v2"]}`, refused: true}, // quorum
		{l: l, group: "op", value: `{"semaphore":1,"max":1,"holders":null}`, refused: true},  // an operator's
	} {
		at := index[step.group]
		if step.group == "op" {
			_, at, _ = l.Semaphore(t.Context(), "op")
		}
		if step.stale {
			at--
		}
		err := step.l.CompareAndSwap(t.Context(), step.group, at, step.value)
		if refused(err) != step.refused || errors.Is(err, ErrIndex) != step.conflict || (err == nil) != (step.after != "") {
			t.Fatalf("step %d: %v", i, err)
		}
		value, now, err := l.Semaphore(t.Context(), step.group)
		if err != nil || step.after != "" && value != step.after {
			t.Fatalf("step %d: the lock is %s, %v", i, value, err)
		}
		index[step.group] = now
	}
}

// TestKeeper is what clients and operators are told.
func TestKeeper(t *testing.T) {
	k, m := keeper(t, "v1", "v2", "v3", "w1", "w2")
	ctx := t.Context()
	client := func(id, host string) store.LockHolder {
		return store.LockHolder{ID: id, Kind: store.HolderFleetLock, Host: host}
	}
	lock := func(group string, h store.LockHolder) bool {
		t.Helper()
		err := k.Lock(ctx, group, h, "FleetLock", "")
		if err != nil && !refused(err) {
			t.Fatal(err)
		}
		return err == nil
	}
	for i, h := range []store.LockHolder{client("a", ""), client("a", ""), client("b", ""), client("a", "w1")} {
		if lock("g", h) != (i < 2) {
			t.Errorf("the lock of one place, which a has: %+v", h)
		}
	}
	if err := k.Unlock(ctx, "g", client("a", "w1"), "FleetLock", ""); !refused(err) {
		t.Errorf("given back for another host: %v", err)
	}
	if err := k.Unlock(ctx, "g", client("a", ""), "FleetLock", ""); err != nil {
		t.Error(err)
	}
	if err := k.Unlock(ctx, "g", client("a", ""), "FleetLock", ""); err != nil {
		t.Errorf("again: %v", err)
	}
	claim := &Claim{Store: m, Host: "w1", Boot: "1"}
	if _, err := claim.Ask(ctx, "g", "test"); err != nil {
		t.Fatal(err)
	}
	if lock("g", client("b", "")) {
		t.Error("a client overtakes a host that waits")
	}
	if !lock("v", client("c", "v2")) || lock("w", client("d", "v3")) {
		t.Error("two voters of three are out")
	}
	if was, err := k.Force(ctx, "v", "c", "operator", "it burnt"); err != nil || was.Host != "v2" {
		t.Errorf("forced %+v, %v", was, err)
	}
	if !lock("w", client("d", "v3")) {
		t.Error("a voter is refused when no other is out")
	}
	if err := k.SetMax(ctx, "a/b", 1, "operator", ""); !refused(err) {
		t.Error(err)
	}
}

// TestClaim is a host's way through its own boots.
func TestClaim(t *testing.T) {
	_, m := keeper(t, "v1", "v2", "v3", "w1")
	ctx := t.Context()
	answer := func() {
		t.Helper()
		tables, err := Load(ctx, m)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := Answer(ctx, m, tables, nil, anybody, noon); err != nil {
			t.Fatal(err)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	first := &Claim{Store: m, Host: "w1", Boot: "1"}
	ticket, err := first.Ask(ctx, "g", "update")
	must(err)
	if again, err := first.Ask(ctx, "g", "update"); err != nil || again != ticket {
		t.Errorf("asked again: %d, %v", again, err)
	}
	answer()
	must(first.Await(ctx, ticket))
	second := &Claim{Store: m, Host: "w1", Boot: "2"}
	if _, err := second.Ask(ctx, "g", "update"); !errors.Is(err, ErrHeldBefore) {
		t.Errorf("asked while it holds since an earlier boot: %v", err)
	}
	must(second.Unwell(ctx, "no network"))
	answer()
	if holds, err := first.Holds(ctx, ticket); err != nil || !holds {
		t.Errorf("not well, and the lock is gone: %v", err)
	}
	if _, err := second.Ask(ctx, "g", "update"); !errors.Is(err, ErrHeldBefore) {
		t.Errorf("asked while it is not well: %v", err)
	}
	must(second.Release(ctx, "healthy"))
	must(second.Release(ctx, "healthy"))
	answer()
	if holds, err := first.Holds(ctx, ticket); err != nil || holds {
		t.Errorf("given back and still held: %v", err)
	}
	next, err := second.Ask(ctx, "g", "update")
	must(err)
	if next <= ticket {
		t.Errorf("ticket %d after %d", next, ticket)
	}
	answer()
	_, err = m.Commit(ctx, store.Commit{Ops: []store.Op{store.Delete(store.RebootKey("w1"))}})
	must(err)
	if err := second.Release(ctx, "healthy"); !errors.Is(err, store.ErrConflict) {
		t.Errorf("it did not see that its record was removed: %v", err)
	}
	must(second.Release(ctx, "healthy"))
	answer()
	if holds, err := second.Holds(ctx, next); err != nil || holds {
		t.Errorf("it cannot give back what it holds without its record: %v", err)
	}
}
