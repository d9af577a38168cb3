package lock

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/musterhq/muster/agent/pause"
	"github.com/musterhq/muster/cluster/store"
)

// TestEtcd makes histories of locks over three members of etcd, each a process, one of which is killed or cut off from the
// clients every now and then, while two leaders that are not fenced off answer. There are 20 of them, and 1,000 with
// MUSTER_LONG=1 (make lab-lock). Each must be one that a semaphore could have.
func TestEtcd(t *testing.T) {
	count, atOnce := 20, 20
	if os.Getenv("MUSTER_LONG") != "" {
		count, atOnce = 1000, 50
	}
	m := startMembers(t)
	ctx, cancel := context.WithCancel(t.Context())
	var around sync.WaitGroup
	for range 2 {
		s := m.dial(ctx, true)
		around.Go(func() { lead(ctx, s) })
	}
	around.Go(func() { m.harass(ctx) })
	var stores []store.Store
	for range 6 {
		stores = append(stores, m.dial(ctx, true))
	}
	began, turns := time.Now(), 0
	for first := 0; first < count; first += atOnce {
		var wg sync.WaitGroup
		batch := make([]*history, atOnce)
		for n := range batch {
			batch[n] = newHistory(ctx, first+n, stores[n%len(stores)])
			wg.Go(batch[n].run)
		}
		wg.Wait()
		for _, h := range batch {
			if result := h.record.linearizable(); result != porcupine.Ok {
				t.Fatalf("history %d is %s\n%s", h.number, result, h.record)
			}
			turns += h.turns()
		}
		if err := batch[0].forget(ctx); err != nil {
			t.Fatal(err)
		}
		t.Logf("%d histories with %d turns after %v", first+atOnce, turns, time.Since(began).Round(time.Second))
	}
	cancel()
	around.Wait()
	if turns < count {
		t.Error("hosts had hardly any turns")
	}
}

// lead answers until ctx ends.
func lead(ctx context.Context, s store.Store) {
	for ctx.Err() == nil {
		_ = answerAll(ctx, s)
		_ = pause.For(ctx, 50*time.Millisecond)
	}
}

// harass kills a member or cuts a member off from clients. The next one is not killed before the last has come back, however
// long that takes, so that there is a quorum most of the time.
func (m *members) harass(ctx context.Context) {
	rng := rand.New(rand.NewPCG(1, 1))
	for pause.For(ctx, time.Duration(1000+rng.IntN(4000))*time.Millisecond) == nil {
		i := rng.IntN(len(m.specs))
		if rng.IntN(2) == 0 {
			m.kill(i)
			_ = pause.For(ctx, time.Duration(rng.IntN(800))*time.Millisecond)
			m.start(i)
			m.answers(ctx, i)
			continue
		}
		m.links[i].set(true)
		_ = pause.For(ctx, time.Duration(rng.IntN(1500))*time.Millisecond)
		m.links[i].set(false)
	}
}

// answers returns when a member knows a leader.
func (m *members) answers(ctx context.Context, i int) {
	for ctx.Err() == nil {
		s, err := store.DialEtcd(ctx, store.EtcdConfig{Endpoints: []string{m.endpoint(i)}, Timeout: time.Second})
		if err == nil {
			_, err = s.Get(ctx, store.KeyLock)
			_ = s.Close()
		}
		if err == nil {
			return
		}
	}
}

// history is what happens to one group.
type history struct {
	ctx    context.Context
	number int
	group  string
	store  store.Store
	record *record
}

const historyHosts = 3

func newHistory(ctx context.Context, number int, s store.Store) *history {
	began := time.Now()
	return &history{
		ctx: ctx, number: number, group: fmt.Sprintf("g%d", number), store: s,
		record: &record{now: func() int64 { return int64(time.Since(began)) + 1 }},
	}
}

func (h *history) id(n int) string { return fmt.Sprintf("%s-h%d", h.group, n) }

// run ends after half a minute at the latest; what is under way then has no answer.
func (h *history) run() {
	ctx, cancel := context.WithTimeout(h.ctx, 30*time.Second)
	defer cancel()
	var ids []string
	for n := range historyHosts {
		ids = append(ids, h.id(n))
	}
	if h.retry(ctx, func() error { return enrol(ctx, h.store, ids) }) != nil {
		return
	}
	var wg sync.WaitGroup
	for n := range historyHosts {
		wg.Go(func() { h.host(ctx, n, rand.New(rand.NewPCG(uint64(h.number), uint64(n)))) })
	}
	wg.Go(func() { h.client(ctx, historyHosts) })
	wg.Go(func() { h.operator(ctx, historyHosts+1) })
	wg.Wait()
}

// forget empties the store, which would grow with each batch, and with it what every change reads.
func (h *history) forget(ctx context.Context) error {
	return h.retry(ctx, func() error {
		_, err := h.store.Commit(ctx, store.Commit{Ops: []store.Op{store.DeletePrefix(store.Prefix)}})
		return err
	})
}

// turns counts how often hosts had the lock.
func (h *history) turns() int {
	n := 0
	for _, op := range h.record.operations {
		if in := op.Input.(call); in.verb == acquire && in.id < historyHosts && op.Output == done {
			n++
		}
	}
	return n
}

// retry repeats a call until it succeeds, is refused or ctx ends.
func (h *history) retry(ctx context.Context, f func() error) error {
	for {
		err := f()
		if err == nil || refused(err) || errors.Is(err, ErrHeldBefore) {
			return err
		}
		if pause.For(ctx, 20*time.Millisecond) != nil {
			return err
		}
	}
}

// host has the lock three times, and reboots every other time.
func (h *history) host(ctx context.Context, n int, rng *rand.Rand) {
	boot := 1
	for range 3 {
		claim := &Claim{Store: h.store, Host: h.id(n), Boot: fmt.Sprint(boot)}
		op := h.record.begin(n, call{verb: acquire, id: n})
		var ticket int64
		if h.retry(ctx, func() (err error) {
			if ticket, err = claim.Ask(ctx, h.group, ""); err == nil {
				err = claim.Await(ctx, ticket)
			}
			return err
		}) != nil {
			return
		}
		h.record.end(op, done)
		_ = pause.For(ctx, time.Duration(rng.IntN(20))*time.Millisecond)
		if rng.IntN(2) == 0 {
			boot++
		}
		after := &Claim{Store: h.store, Host: h.id(n), Boot: fmt.Sprint(boot)}
		_ = after.Unwell(ctx, "boots") // or not: nobody waits for it
		op = h.record.begin(n, call{verb: release, id: n})
		if h.retry(ctx, func() error { return after.Release(ctx, "") }) != nil {
			return
		}
		if h.retry(ctx, func() error {
			holds, err := claim.Holds(ctx, ticket)
			if holds {
				err = errors.New("held still")
			}
			return err
		}) != nil {
			return
		}
		h.record.end(op, done)
	}
}

// client is one of FleetLock.
func (h *history) client(ctx context.Context, n int) {
	k := &Keeper{Store: h.store, Now: time.Now}
	holder := store.LockHolder{ID: h.id(n), Kind: store.HolderFleetLock}
	for range 10 {
		op := h.record.begin(n, call{verb: acquire, id: n, again: true})
		err := k.Lock(ctx, h.group, holder, "FleetLock", "")
		if err == nil {
			h.record.end(op, done)
		}
		if refused(err) {
			h.drop(op)
			_ = pause.For(ctx, 10*time.Millisecond)
			continue
		}
		op = h.record.begin(n, call{verb: release, id: n})
		if h.retry(ctx, func() error { return k.Unlock(ctx, h.group, holder, "FleetLock", "") }) != nil {
			return
		}
		h.record.end(op, done)
	}
}

// drop takes an operation that did nothing out of the history.
func (h *history) drop(op *porcupine.Operation) {
	h.record.mu.Lock()
	defer h.record.mu.Unlock()
	for i, other := range h.record.operations {
		if other == op {
			h.record.operations = append(h.record.operations[:i], h.record.operations[i+1:]...)
			return
		}
	}
}

// operator changes the maximum.
func (h *history) operator(ctx context.Context, n int) {
	k := &Keeper{Store: h.store, Now: time.Now}
	for most := range 3 {
		op := h.record.begin(n, call{verb: setMax, max: most%2 + 1})
		if k.SetMax(ctx, h.group, most%2+1, "operator", "") == nil {
			h.record.end(op, done)
		}
		_ = pause.For(ctx, 100*time.Millisecond)
	}
}
