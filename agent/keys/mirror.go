package keys

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// watch takes over what happens after a revision, until the watch ends or falls silent. It begins with the revision itself:
// etcd gives no sign of life of watches that begin in the future.
func (s *Store) watch(ctx context.Context, after int64) error {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	changes := s.client.Watch(ctx, First, clientv3.WithRange(End), clientv3.WithRev(max(1, after)), clientv3.WithCreatedNotify())
	tick := time.NewTicker(probePause)
	defer tick.Stop()
	s.change(func() { s.asked = s.now() })
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case resp, ok := <-changes:
			if !ok {
				return errSilent
			}
			if err := s.take(ctx, resp); err != nil {
				return err
			}
			if resp.Created {
				s.askForLife(ctx) // how far there is to go
			}
		case <-s.probes:
			s.askForLife(ctx)
		case <-tick.C:
			if err := s.checkLife(ctx); err != nil {
				return err
			}
		}
	}
}

// askForLife has the store tell up to which revision it has told everything. It says nothing while a watch lags behind, and
// so is asked again.
func (s *Store) askForLife(ctx context.Context) {
	s.change(func() {
		if s.asked.IsZero() {
			s.asked = s.now()
		}
	})
	ctx, cancel := context.WithTimeout(ctx, lookupLimit)
	defer cancel()
	if err := s.client.RequestProgress(ctx); err != nil {
		s.log.Debug("cannot ask the store for a sign of life", "err", err)
	}
}

// checkLife asks again while an answer is due, and now and then when nothing happens.
func (s *Store) checkLife(ctx context.Context) error {
	s.mu.RLock()
	asked, contact := s.asked, s.contact
	s.mu.RUnlock()
	switch now := s.now(); {
	case !asked.IsZero() && now.Sub(asked) > silence:
		return errSilent
	case !asked.IsZero() || now.Sub(contact) > quiet:
		s.askForLife(ctx)
	}
	return nil
}

// quiet is after how long without events the store is asked for a sign of life. It is long: hosts are many, and a read asks
// by itself (Store.probe).
const quiet = 15 * time.Second

// take applies what a watch says. A response has whole revisions.
func (s *Store) take(ctx context.Context, resp clientv3.WatchResponse) error {
	if err := resp.Err(); err != nil {
		return fmt.Errorf("the watch has ended: %w", err)
	}
	events := resp.Events
	for len(events) > 0 {
		revision := events[0].Kv.ModRevision
		n := slices.IndexFunc(events, func(e *clientv3.Event) bool { return e.Kv.ModRevision != revision })
		if n < 0 {
			n = len(events)
		}
		b := batch{revision: revision}
		for _, e := range events[:n] {
			b.changes = append(b.changes, changeOf(e))
		}
		events = events[n:]
		if revision <= s.State().Index {
			continue // known
		}
		if err := s.apply(ctx, b); err != nil {
			return err
		}
	}
	s.change(func() {
		s.contact, s.lost = s.now(), false
		s.term, s.cluster = resp.Header.RaftTerm, resp.Header.ClusterId
		if resp.IsProgressNotify() {
			s.revision, s.ready, s.asked = max(s.revision, resp.Header.Revision), true, time.Time{}
		}
	})
	return nil
}

func (s *Store) apply(ctx context.Context, b batch) error {
	ended := s.endedLeases(ctx, b)
	var bytes int64
	s.change(func() {
		events, id := s.tree.apply(b, func(lease int64) bool { return ended[lease] })
		s.revision = b.revision
		for _, e := range events {
			s.history.add(e)
		}
		if done := s.results[id]; done != nil && len(events) == 1 {
			done <- events[0] // has room for one, and is told once
			delete(s.results, id)
		}
		bytes = s.tree.bytes
	})
	if bytes > 2*s.limit {
		return s.giveUp(bytes)
	}
	return nil
}

// endedLeases tells which leases of values that were deleted by others than version 2 are no more.
func (s *Store) endedLeases(ctx context.Context, b batch) map[int64]bool {
	if _, noted := noteOf(b.changes); noted {
		return nil
	}
	ended := map[int64]bool{}
	for _, c := range b.changes {
		prefix, path, ok := kindOf(c.key)
		if !c.deleted || !ok || prefix != Values {
			continue
		}
		e := s.tree.get(path) // only this goroutine changes the tree
		if e == nil || e.lease == 0 || e.described() {
			continue
		}
		if _, known := ended[e.lease]; !known {
			ended[e.lease] = s.hasEnded(ctx, e.lease)
		}
	}
	return ended
}

func (s *Store) hasEnded(ctx context.Context, lease int64) bool {
	ctx, cancel := context.WithTimeout(ctx, lookupLimit)
	defer cancel()
	resp, err := s.client.TimeToLive(ctx, clientv3.LeaseID(lease))
	return err != nil || resp.TTL <= 0
}

// replace puts another tree in the place of the mirror's. Those who wait are told how it differs.
func (s *Store) replace(t *tree, revision int64) {
	s.change(func() {
		if s.ready {
			for _, e := range s.tree.differences(t, revision) {
				s.history.add(e)
			}
		}
		s.history.begin(revision + 1)
		s.tree, s.revision, s.tooBig = t, revision, false
	})
}

// differences are the events that may have made a tree what another one is at a revision: the last one of each file.
func (t *tree) differences(to *tree, revision int64) (events []Event) {
	for path, e := range to.byPath {
		before := t.get(path)
		if !e.exists() || e.isDir() || before.exists() && (before.isDir() || before.mod == e.mod) {
			continue
		}
		events = append(events, Event{Action: ActionSet, Node: e.node(), PrevNode: before.node(), Index: e.mod})
	}
	for path, e := range t.byPath {
		if prev := e.node(); prev != nil && path != "/" && !to.get(path).exists() {
			events = append(events, Event{Action: ActionDelete, Node: gone(path, prev, revision), PrevNode: prev, Index: revision})
		}
	}
	slices.SortFunc(events, func(a, b Event) int {
		return cmp.Or(cmp.Compare(a.Index, b.Index), cmp.Compare(a.Node.Key, b.Node.Key))
	})
	return events
}

// giveUp forgets a tree that this host cannot hold.
func (s *Store) giveUp(bytes int64) error {
	s.change(func() { s.tree, s.ready, s.tooBig = newTree(), false, true })
	return fmt.Errorf("%w (%d MiB, at most %d)", errTooBig, bytes>>20, 2*s.limit>>20)
}
