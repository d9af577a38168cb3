package keys

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/musterhq/muster/agent/pause"
)

const (
	expirePause   = 250 * time.Millisecond // between looks at what ends
	expireTimeout = 2 * time.Second        // for ending one of them
	backlog       = 1024                   // leases and files that wait to be ended; etcd ends those beyond it by itself
)

// ending is a node that ends before its lease does: a file with a very short life, since etcd gives no leases for less than
// about two seconds, or a directory, whose lease ends it only if this host is gone by then.
type ending struct {
	path     string
	revision int64 // at which it was written
	at       time.Time
}

// discard has a lease revoked that nothing needs any more.
func (s *Store) discard(lease clientv3.LeaseID) {
	select {
	case s.leases <- lease:
	default:
	}
}

func (s *Store) endEarly(e ending) {
	select {
	case s.endings <- e:
	default:
	}
}

// expire ends what etcd does not end by itself: what this host wrote and ends before its lease does, leases without keys,
// and directories whose leases have ended, which every host sees and one is the first to remove.
func (s *Store) expire(ctx context.Context) error {
	tick := time.NewTicker(expirePause)
	defer tick.Stop()
	endings := map[string]ending{} // by path
	for {
		select {
		case <-ctx.Done():
			return nil
		case lease := <-s.leases:
			s.revoke(ctx, lease)
		case e := <-s.endings:
			endings[e.path] = e
		case <-tick.C:
			s.endEarlyOnes(ctx, endings)
			s.endDirectories(ctx)
		}
	}
}

func (s *Store) revoke(ctx context.Context, lease clientv3.LeaseID) {
	ctx, cancel := context.WithTimeout(ctx, expireTimeout)
	defer cancel()
	if _, err := s.client.Revoke(ctx, lease); err != nil {
		s.log.Debug("a lease that nothing needs is left to its end", "lease", lease, "err", err)
	}
}

func (s *Store) endEarlyOnes(ctx context.Context, endings map[string]ending) {
	for path, e := range endings {
		if s.now().Before(e.at) {
			continue
		}
		delete(endings, path)
		s.end(ctx, path, func(d decider) *plan { return d.expireEarly(path, e.revision) })
	}
}

func (s *Store) endDirectories(ctx context.Context) {
	s.mu.RLock()
	paths := slices.Sorted(maps.Keys(s.tree.expired))
	s.mu.RUnlock()
	if len(paths) == 0 || pause.For(ctx, rand.N(expirePause)) != nil { // hosts should not all do it
		return
	}
	for _, path := range paths {
		s.end(ctx, path, func(d decider) *plan { return d.expireDirectory(path) })
	}
}

// end commits a plan that is made of what the mirror has now. If another was faster, so much the better.
func (s *Store) end(ctx context.Context, path string, make func(decider) *plan) {
	s.mu.RLock()
	p := make(decider{tree: s.tree, revision: s.revision, id: s.idBase})
	s.mu.RUnlock()
	if p == nil {
		return
	}
	ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), expireTimeout)
	defer cancel()
	if _, err := s.client.Txn(ctx).If(p.guards...).Then(p.ops...).Commit(); err != nil {
		s.log.Debug("a key that has ended stays for now", "key", path, "err", err)
	}
}
