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

// ending is a file that ends before its lease does, since etcd gives none for less than about two seconds.
type ending struct {
	path     string
	modified int64
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

// expire ends what etcd does not end by itself: directories, whose leases are those of a key that stands for them, files
// with very short lives, and leases without keys. Every host sees directories that end, and one of them is first.
func (s *Store) expire(ctx context.Context) error {
	tick := time.NewTicker(expirePause)
	defer tick.Stop()
	var endings []ending
	for {
		select {
		case <-ctx.Done():
			return nil
		case lease := <-s.leases:
			s.revoke(ctx, lease)
		case e := <-s.endings:
			endings = append(endings, e)
		case <-tick.C:
			endings = s.endFiles(ctx, endings)
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

func (s *Store) endFiles(ctx context.Context, endings []ending) (left []ending) {
	for _, e := range endings {
		if s.now().Before(e.at) {
			left = append(left, e)
			continue
		}
		s.end(ctx, e.path, func(d decider) *plan { return d.expireFile(e.path, e.modified) })
	}
	return left
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
