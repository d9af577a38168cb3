package keys

import (
	"context"
	"fmt"
	"hash/maphash"
	"strconv"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// attempts bounds how often a write is decided anew since others were faster.
const attempts = 64

// dirGrace is for how many seconds a directory's lease outlives it, so that the host that wrote it ends it, at one revision.
const dirGrace = 2

// Do carries a write out and returns its event once the mirror has it. It fails with an Error: a refusal, or CodeRaft, after
// which the write may have happened or not.
func (s *Store) Do(ctx context.Context, w Write) (Event, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	e, err := s.do(ctx, w)
	if err != nil {
		return Event{}, s.fail(err)
	}
	return e, nil
}

func (s *Store) do(ctx context.Context, w Write) (Event, error) {
	if err := s.await(ctx, func() bool { return s.ready || s.tooBig }); err != nil {
		return Event{}, err
	}
	if err := s.room(w); err != nil {
		return Event{}, err
	}
	if w.Kind == Post { // hosts must take turns, so let the requests of one do so here
		lock := s.locks[maphash.String(seed, w.Key)%uint64(len(s.locks))]
		select {
		case lock <- struct{}{}:
			defer func() { <-lock }()
		case <-ctx.Done():
			return Event{}, ctx.Err()
		}
	}
	t := &attempt{store: s, write: w, id: s.idBase + strconv.FormatInt(s.ids.Add(1), 36)}
	defer t.end()
	return t.run(ctx)
}

var seed = maphash.MakeSeed()

// room refuses what would make keys too many for hosts' mirrors.
func (s *Store) room(w Write) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	switch {
	case s.tooBig:
		return errTooBig
	case w.Kind != Delete && s.tree.bytes+int64(len(w.Value)) > s.limit:
		return fmt.Errorf("the keys are full (%d MiB): delete some", s.limit>>20)
	}
	return nil
}

// attempt is a write under way.
type attempt struct {
	store   *Store
	write   Write
	id      string
	life    life
	old     clientv3.LeaseID // that the node had, and nothing else
	dir     bool             // the node is a directory
	unknown bool             // whether the lease is the node's now
}

func (t *attempt) run(ctx context.Context) (Event, error) {
	done := t.store.expect(t.id)
	sure := false // the mirror is up to date
	for range attempts {
		p, revision, refusal := t.decide()
		if refusal == nil && t.wantsLease() {
			if err := t.grant(ctx); err != nil {
				return Event{}, err
			}
			continue
		}
		if refusal != nil && sure {
			return Event{}, refusal
		}
		if refusal != nil {
			if err := t.store.Sync(ctx); err != nil {
				return Event{}, err
			}
			sure = true
			continue
		}
		newer, err := t.commit(ctx, p)
		if err != nil {
			return Event{}, err
		}
		if newer == 0 {
			return t.answer(ctx, done)
		}
		t.store.log.Debug("a write is decided anew", "key", t.write.Key, "revision", revision)
		if err := t.store.reach(ctx, newer); err != nil {
			return Event{}, err
		}
		sure = true
	}
	return Event{}, fmt.Errorf("others changed %s %d times in the meantime: try again", t.write.Key, attempts)
}

// decide makes a plan from what the mirror has.
func (t *attempt) decide() (*plan, int64, *Error) {
	s := t.store
	s.mu.RLock()
	defer s.mu.RUnlock()
	t.old = 0
	t.dir = t.write.Dir
	if e := s.tree.get(t.write.Key); e != nil && t.write.Kind != Post {
		t.old = e.ownLease()
		t.dir = t.dir || e.isDir()
	}
	p, refusal := decider{tree: s.tree, revision: s.revision, id: t.id}.decide(t.write, t.life)
	return p, s.revision, refusal
}

func (t *attempt) wantsLease() bool {
	return t.write.TTL != nil && t.write.Kind != Delete && t.life.lease == 0
}

// grant takes a lease out. Its time begins now, and so may end before the node's as clients see it, never after.
func (t *attempt) grant(ctx context.Context) error {
	ttl := max(1, int64(*t.write.TTL/time.Second))
	if t.dir {
		ttl += dirGrace
	}
	lease, err := t.store.client.Grant(ctx, ttl)
	if err != nil {
		return fmt.Errorf("cannot get a lease: %w", err)
	}
	t.life = life{lease: lease.ID, expires: t.store.now().Add(*t.write.TTL), early: time.Duration(lease.TTL)*time.Second > *t.write.TTL}
	return nil
}

// commit carries a plan out. If what it was decided on holds no more it returns a revision to decide it anew at.
func (t *attempt) commit(ctx context.Context, p *plan) (newer int64, err error) {
	resp, err := t.store.client.Txn(clientv3.WithRequireLeader(ctx)).If(p.guards...).Then(p.ops...).Commit()
	if err != nil {
		t.unknown = true
		return 0, fmt.Errorf("cannot write %s: %w", t.write.Key, err)
	}
	if !resp.Succeeded {
		return resp.Header.Revision, nil
	}
	t.unknown = true
	return 0, nil
}

// answer waits until the mirror has the write.
func (t *attempt) answer(ctx context.Context, done <-chan Event) (Event, error) {
	if t.old != 0 {
		t.store.discard(t.old)
	}
	select {
	case e := <-done:
		if t.life.early {
			t.store.endEarly(ending{path: e.Node.Key, revision: e.Index, at: t.life.expires})
		}
		return e, nil
	case <-ctx.Done():
		return Event{}, ctx.Err()
	}
}

// end forgets the attempt. A lease that became nobody's is given back.
func (t *attempt) end() {
	t.store.unexpect(t.id)
	if t.life.lease != 0 && !t.unknown {
		t.store.discard(t.life.lease)
	}
}

// expect has the event of a write told to its attempt, once.
func (s *Store) expect(id string) <-chan Event {
	done := make(chan Event, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.results[id] = done
	return done
}

func (s *Store) unexpect(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.results, id)
}
