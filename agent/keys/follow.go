package keys

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/musterhq/muster/agent/pause"
)

const (
	pageKeys    = 1000
	longest     = 5 * time.Second        // between attempts to watch
	probePause  = 100 * time.Millisecond // until a sign of life is asked for again
	silence     = 4 * time.Second        // after which a watch that does not answer is given up
	lookupLimit = time.Second            // for asking for a sign of life, or whether a lease has ended
	retryTooBig = time.Minute            // before keys that were too many are counted again
)

var (
	errSilent = errors.New("the store has fallen silent")
	errTooBig = errors.New("the keys are too big for this host's memory: delete some through etcd's version 3")
)

// follow keeps the mirror up to date.
func (s *Store) follow(ctx context.Context) error {
	between := pause.New(longest)
	for {
		err := s.followOnce(ctx)
		var followed bool
		s.change(func() { followed, s.lost = !s.lost, true })
		if ctx.Err() != nil {
			return nil
		}
		if followed {
			between.Reset()
		}
		s.log.Warn("the keys cannot be followed; reads go on with what is known", "err", err)
		wait := between.Wait
		if errors.Is(err, errTooBig) {
			wait = func(ctx context.Context) error { return pause.For(ctx, retryTooBig) }
		}
		if wait(ctx) != nil {
			return nil
		}
	}
}

// followOnce watches from where the mirror is. A mirror that has been away for too long reads everything anew.
func (s *Store) followOnce(ctx context.Context) error {
	revision, err := s.begin(ctx)
	for err == nil {
		err = s.watch(ctx, revision)
		if errors.Is(err, rpctypes.ErrCompacted) {
			revision, err = s.loadNow(ctx)
		}
	}
	return err
}

// begin returns the revision up to which the mirror is. One that has nothing yet begins a history's length before now, if the
// store still knows what was then.
func (s *Store) begin(ctx context.Context) (int64, error) {
	s.mu.RLock()
	revision, blank := s.revision, !s.ready || s.tooBig
	s.mu.RUnlock()
	if !blank {
		return revision, nil
	}
	now, err := s.current(ctx)
	if err != nil {
		return 0, err
	}
	revision = max(0, now-HistorySize)
	err = s.load(ctx, revision)
	if errors.Is(err, rpctypes.ErrCompacted) {
		return s.loadNow(ctx)
	}
	return revision, err
}

// current is the store's revision, linearizably.
func (s *Store) current(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	resp, err := s.client.Get(clientv3.WithRequireLeader(ctx), eventKey, clientv3.WithCountOnly())
	if err != nil {
		return 0, fmt.Errorf("cannot read the store's revision: %w", err)
	}
	return resp.Header.Revision, nil
}

func (s *Store) loadNow(ctx context.Context) (int64, error) {
	revision, err := s.current(ctx)
	if err != nil {
		return 0, err
	}
	return revision, s.load(ctx, revision)
}

// load reads everything as it was at a revision and puts it in the place of what the mirror had. Those who wait are told
// the differences, as far as they can be known; the history begins anew.
func (s *Store) load(ctx context.Context, revision int64) error {
	t := newTree()
	for from := First; revision > 0; {
		page, err := s.page(ctx, from, revision)
		if err != nil {
			return err
		}
		for _, kv := range page.Kvs {
			t.set(changeOf(&clientv3.Event{Type: clientv3.EventTypePut, Kv: kv}))
		}
		if t.bytes > 2*s.limit {
			return s.giveUp(t.bytes)
		}
		if !page.More {
			break
		}
		from = string(page.Kvs[len(page.Kvs)-1].Key) + "\x00"
	}
	s.replace(t, revision)
	return nil
}

func (s *Store) page(ctx context.Context, from string, revision int64) (*clientv3.GetResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	page, err := s.client.Get(ctx, from, clientv3.WithRange(End), clientv3.WithLimit(pageKeys), clientv3.WithRev(revision))
	if err != nil {
		return nil, fmt.Errorf("cannot read the keys: %w", err)
	}
	return page, nil
}

func changeOf(e *clientv3.Event) change {
	return change{
		key: string(e.Kv.Key), deleted: e.Type == mvccpb.Event_DELETE, value: e.Kv.Value, mod: e.Kv.ModRevision,
		create: e.Kv.CreateRevision, lease: e.Kv.Lease,
	}
}
