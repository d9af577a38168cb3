package lock

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"iter"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/store"
)

var (
	histories = flag.Int("histories", 300, "how many random histories of the lock to try")
	firstSeed = flag.Uint64("history", 0, "the seed of the first of them")
)

// TestHistories has hosts, clients, an operator and two leaders, neither of which is fenced off, use a lock at the same
// time: every call of the store may lose its request or its answer, or be carried out later, hosts crash and boot, and a
// seed decides who goes on when. Each history must be one that a semaphore could have.
func TestHistories(t *testing.T) {
	var next atomic.Uint64
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for n := next.Add(1) - 1; n < uint64(*histories) && !t.Failed(); n = next.Add(1) - 1 {
				try(t, *firstSeed+n)
			}
		})
	}
	wg.Wait()
	t.Logf("%d histories", min(next.Load(), uint64(*histories)))
}

func try(t *testing.T, seed uint64) {
	w := newWorld(t.Context(), seed, mutant{})
	w.run()
	if result := w.history.linearizable(); result != porcupine.Ok {
		t.Errorf("seed %d is %s; repeat it with -history %d -histories 1\n%s", seed, result, seed, w.history)
	}
	if w.stuck != "" {
		t.Errorf("seed %d: %s\n%s", seed, w.stuck, w.history)
	}
}

// TestMutants plants the faults that a reboot lock must not have. Each must be found.
func TestMutants(t *testing.T) {
	const most = 3000
	for name, m := range map[string]mutant{
		"a TTL": {ttl: true}, "no compare": {noCompare: true}, "ABA": {aba: true}, "release before health": {early: true},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(most) {
				w := newWorld(t.Context(), seed, m)
				w.run()
				if w.history.linearizable() == porcupine.Illegal {
					t.Logf("found by history %d", seed)
					return
				}
			}
			t.Errorf("not found by %d histories", most)
		})
	}
}

// mutant is a fault that is planted.
type mutant struct {
	ttl       bool // who holds for long is released
	noCompare bool // commits do not compare revisions
	aba       bool // a host's ticket is always the same
	early     bool // a boot counts as health
}

const group = "g"

// world is what one seed decides.
type world struct {
	ctx     context.Context
	rng     *rand.Rand
	store   *store.Memory
	clock   int64
	history *record
	mutant  mutant
	actors  []*actor
	later   []store.Commit // that were sent, and whose sender has given up
	closing map[*porcupine.Operation]store.LockHolder
	seen    int64 // the revision of the lock that close has seen
	calm    bool  // nothing fails any more
	stuck   string
}

// actor is a program of its own, which goes on for one call of the store at a time.
type actor struct {
	next func() (struct{}, bool)
	stop func()
	over bool
	// leads is whether it goes on for as long as the others do.
	leads bool
}

func newWorld(ctx context.Context, seed uint64, m mutant) *world {
	w := &world{
		ctx: ctx, rng: rand.New(rand.NewPCG(seed, 7)), store: store.NewMemory(time.Now), mutant: m,
		closing: map[*porcupine.Operation]store.LockHolder{},
	}
	w.history = &record{now: w.tick}
	hosts := 2 + w.rng.IntN(3)
	for i := range hosts {
		data, _ := store.Marshal(store.RosterRecord{Host: roster.Host{ID: id(i), Name: id(i)}})
		alive, _ := store.Marshal(store.Alive{})
		_, _ = w.store.Commit(ctx, store.Commit{Ops: []store.Op{
			store.Put(store.RosterKey(id(i)), data), store.Put(store.AliveKey(id(i)), alive),
		}})
		w.add(func(s store.Store) { w.host(s, i) })
	}
	for i := range 1 + w.rng.IntN(2) {
		w.add(func(s store.Store) { w.client(s, hosts+i) })
	}
	w.add(func(s store.Store) { w.operator(s, hosts) })
	for range 2 {
		w.add(w.leader)
		w.actors[len(w.actors)-1].leads = true
	}
	return w
}

func id(n int) string { return fmt.Sprintf("h%d", n) }

func (w *world) tick() int64 { w.clock++; return w.clock }

func (w *world) add(program func(s store.Store)) {
	a := &actor{}
	a.next, a.stop = iter.Pull(func(yield func(struct{}) bool) {
		program(&turns{Store: w.store, w: w, yield: func() bool { return yield(struct{}{}) }})
	})
	w.actors = append(w.actors, a)
}

// run lets the actors go on in an order of chance, at last without faults, until there is nothing left to do.
func (w *world) run() {
	for step := range 600 {
		w.calm = step > 300
		if len(w.later) > 0 && w.rng.IntN(8) == 0 {
			w.arrive(w.rng.IntN(len(w.later)))
		}
		a := w.actors[w.rng.IntN(len(w.actors))]
		if !a.over {
			_, more := a.next()
			a.over = !more
		}
		w.close()
		if w.finished() {
			break
		}
	}
	w.settled()
	for _, a := range w.actors {
		a.stop()
	}
	_ = w.store.Close()
}

// finished says whether only leaders are left.
func (w *world) finished() bool {
	return !slices.ContainsFunc(w.actors, func(a *actor) bool { return !a.over && !a.leads })
}

// arrive carries out a commit whose sender has given up.
func (w *world) arrive(i int) {
	c := w.later[i]
	w.later = append(w.later[:i], w.later[i+1:]...)
	_, _ = w.store.Commit(w.ctx, c)
}

// close ends the releases of hosts that a leader has answered.
func (w *world) close() {
	if len(w.closing) == 0 {
		return
	}
	item, _ := w.store.Get(w.ctx, store.LockKey(group))
	if item.ModRevision == w.seen {
		return
	}
	w.seen = item.ModRevision
	g, _ := store.Unmarshal[store.LockRecord](item.Value)
	for op, h := range w.closing {
		now, found := Holder(g, h.ID)
		if !found || now.Ticket != h.Ticket || now.Boot != h.Boot {
			w.history.end(op, done)
			delete(w.closing, op)
		}
	}
}

// settled checks that nobody waits for a place that is free.
func (w *world) settled() {
	t, err := Load(w.ctx, w.store)
	if err != nil {
		w.stuck = err.Error()
		return
	}
	for range 3 {
		if _, _, err = Answer(w.ctx, w.store, t, nil, anybody, noon); err == nil {
			break
		}
		t, _ = Load(w.ctx, w.store)
	}
	t, _ = Load(w.ctx, w.store)
	if d := Decide(ViewOf(t, nil, noon), batch); err != nil || len(d.Steps) > 0 {
		w.stuck = fmt.Sprintf("not settled: %v %+v", err, d)
	}
}

// anybody is a fence that does not fence.
var anybody = store.Guard{Key: store.PrefixLeader + "none", Kind: store.GuardCreateRevision}

// turns is the store as one actor has it.
type turns struct {
	store.Store
	w     *world
	yield func() bool
}

var errLost = fmt.Errorf("%w: lost", store.ErrUnavailable)

func (s *turns) fails(in int) bool { return !s.w.calm && s.w.rng.IntN(in) == 0 }

func (s *turns) Range(ctx context.Context, prefix string) (store.View, error) {
	if !s.yield() || s.fails(40) {
		return store.View{}, errLost
	}
	return s.Store.Range(ctx, prefix)
}

func (s *turns) Get(ctx context.Context, key string) (store.Item, error) {
	if !s.yield() || s.fails(40) {
		return store.Item{}, errLost
	}
	return s.Store.Get(ctx, key)
}

func (s *turns) Commit(ctx context.Context, c store.Commit) (int64, error) {
	if s.w.mutant.noCompare {
		c.Guards = nil
	}
	switch {
	case !s.yield(), s.fails(25):
		return 0, errLost
	case s.fails(25):
		s.w.later = append(s.w.later, c)
		return 0, errLost
	case s.fails(25):
		_, _ = s.Store.Commit(ctx, c)
		return 0, errLost
	}
	return s.Store.Commit(ctx, c)
}

// host updates itself a few times: it asks, waits, reboots and gives the lock back, or gives up in between.
func (w *world) host(s store.Store, n int) {
	boot := 1
	for range 1 + w.rng.IntN(3) {
		claim := &Claim{Store: s, Host: id(n), Boot: fmt.Sprint(boot)}
		op := w.history.begin(n, call{verb: acquire, id: n})
		ticket, got := w.obtain(claim)
		if got {
			w.history.end(op, done)
		}
		if w.rng.IntN(2) == 0 { // it reboots, and with it all that it knew goes
			boot++
			claim = &Claim{Store: s, Host: id(n), Boot: fmt.Sprint(boot)}
			for range w.rng.IntN(16) { // that it is not well yet must not go unseen
				_ = claim.Unwell(w.ctx, "boots")
			}
		} else {
			for range w.rng.IntN(4) {
				_, _ = claim.Holds(w.ctx, ticket)
			}
		}
		w.giveBack(s, claim, n, ticket, got)
	}
}

// obtain asks and waits, for a while.
func (w *world) obtain(c *Claim) (ticket int64, got bool) {
	for range 15 {
		var err error
		if ticket, err = c.Ask(w.ctx, group, ""); errors.Is(err, ErrHeldBefore) {
			return 0, false
		}
		if w.mutant.aba {
			ticket = 1
		}
		if err != nil {
			continue
		}
		if holds, err := c.Holds(w.ctx, ticket); err == nil && holds {
			return ticket, true
		}
	}
	return ticket, false
}

func (w *world) giveBack(s store.Store, c *Claim, n int, ticket int64, held bool) {
	t, err := Load(w.ctx, w.store)
	was, found := Holder(t.Locks[group].Record, id(n))
	op := w.history.begin(n, call{verb: release, id: n})
	for range 30 {
		if err = c.Release(w.ctx, ""); err == nil {
			break
		}
	}
	if err == nil && found && held && was.Ticket == ticket {
		w.closing[op] = was
	}
}

// client is one of FleetLock.
func (w *world) client(s store.Store, n int) {
	k := &Keeper{Store: s, Now: func() time.Time { return noon }}
	holder := store.LockHolder{ID: id(n), Kind: store.HolderFleetLock}
	for range 1 + w.rng.IntN(4) {
		op := w.history.begin(n, call{verb: acquire, id: n, again: true})
		w.answer(op, k.Lock(w.ctx, group, holder, "FleetLock", ""))
		if op.Output == busy || op.Return == 0 && op.Output != unclear {
			continue
		}
		op = w.history.begin(n, call{verb: release, id: n})
		w.answer(op, k.Unlock(w.ctx, group, holder, "FleetLock", ""))
	}
}

// answer notes what a keeper said.
func (w *world) answer(op *porcupine.Operation, err error) {
	switch {
	case err == nil:
		w.history.end(op, done)
	case refused(err) && (strings.Contains(err.Error(), "places are held") || strings.Contains(err.Error(), "maximum is 0")):
		w.history.end(op, busy)
	}
}

// operator changes the maximum, and forces.
func (w *world) operator(s store.Store, hosts int) {
	const n = 15
	k := &Keeper{Store: s, Now: func() time.Time { return noon }}
	for range w.rng.IntN(4) {
		if w.rng.IntN(2) == 0 {
			op := w.history.begin(n, call{verb: setMax, max: 1 + w.rng.IntN(2)})
			w.answer(op, k.SetMax(w.ctx, group, op.Input.(call).max, "operator", ""))
			continue
		}
		op := w.history.begin(n, call{verb: force, id: w.rng.IntN(hosts)})
		_, err := k.Force(w.ctx, group, id(op.Input.(call).id), "operator", "")
		w.answer(op, err)
	}
}

// leader answers, as long as there is anybody. Another one does too.
func (w *world) leader(s store.Store) {
	for range 200 {
		t, err := Load(w.ctx, s)
		if err != nil {
			continue
		}
		w.spoil(s, t)
		_, _, _ = Answer(w.ctx, s, t, nil, anybody, noon)
	}
}

// spoil is what mutants do to the leader.
func (w *world) spoil(s store.Store, t *store.Tables) {
	lock := t.Locks[group]
	if w.mutant.aba {
		for id, r := range t.Reboots {
			r.Record.Ticket = 1
			t.Reboots[id] = r
		}
	}
	for _, h := range lock.Record.Holders {
		r := t.Reboots[h.ID]
		if w.mutant.early && r.Record.Boot != h.Boot && r.Record.Ticket >= h.Ticket {
			r.Record.Wants, r.Record.Healthy = false, true
			t.Reboots[h.ID] = r
		}
		if w.mutant.ttl && w.rng.IntN(12) == 0 {
			delete(t.Roster, h.ID) // as good as gone
		}
	}
}
