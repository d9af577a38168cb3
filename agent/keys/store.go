package keys

import (
	"context"
	"crypto/rand"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"
)

// Client is what a Store needs of a *clientv3.Client. It must be allowed to read and write [First, End).
type Client interface {
	Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error)
	Txn(ctx context.Context) clientv3.Txn
	Watch(ctx context.Context, key string, opts ...clientv3.OpOption) clientv3.WatchChan
	RequestProgress(ctx context.Context) error
	Grant(ctx context.Context, ttl int64) (*clientv3.LeaseGrantResponse, error)
	Revoke(ctx context.Context, id clientv3.LeaseID) (*clientv3.LeaseRevokeResponse, error)
	TimeToLive(ctx context.Context, id clientv3.LeaseID, opts ...clientv3.LeaseOption) (*clientv3.LeaseTimeToLiveResponse, error)
}

var _ Client = (*clientv3.Client)(nil)

// Config is what a Store needs.
type Config struct {
	Client Client
	Log    *slog.Logger     // nil: discarded
	Now    func() time.Time // nil: time.Now
	// Limit is how many bytes the mirror may take, roughly; 0 means 256 MiB. Beyond it, writes that add are refused. Should
	// clients of version 3 go on to twice of it, this host gives its mirror up and refuses everything, in words that say
	// so, until the keys have become less.
	Limit int64
	// Timeout bounds a write, a read with a quorum, and the wait for the first contact; 0 means 7 s.
	Timeout time.Duration
}

// Store is the key space on one host. Run must be running.
type Store struct {
	client  Client
	log     *slog.Logger
	now     func() time.Time
	limit   int64
	timeout time.Duration
	idBase  string
	ids     atomic.Int64
	history *history
	locks   [64]chan struct{} // of directories, for those who write files in order
	leases  chan clientv3.LeaseID
	endings chan ending
	probes  chan struct{} // asks for a sign of life of the watch

	mu       sync.RWMutex
	tree     *tree
	revision int64 // up to which the tree is
	term     uint64
	cluster  uint64
	ready    bool          // the tree was up to date once
	tooBig   bool          // the tree was given up
	contact  time.Time     // last sign of life
	asked    time.Time     // when the first sign of life was asked for that has not come; zero: none
	lost     bool          // there is no watch now
	advanced chan struct{} // closed and renewed when anything above changes
	results  map[string]chan Event
}

// New makes a Store. It is of use once Run is running.
func New(cfg Config) *Store {
	s := &Store{
		client: cfg.Client, log: cfg.Log, now: cfg.Now, limit: cfg.Limit, timeout: cfg.Timeout, idBase: rand.Text(),
		history: newHistory(), probes: make(chan struct{}, 1), leases: make(chan clientv3.LeaseID, backlog), endings: make(chan ending, backlog),
		tree: newTree(), lost: true,
		advanced: make(chan struct{}), results: map[string]chan Event{},
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.limit == 0 {
		s.limit = 256 << 20
	}
	if s.timeout == 0 {
		s.timeout = 7 * time.Second
	}
	for i := range s.locks {
		s.locks[i] = make(chan struct{}, 1)
	}
	return s
}

// Run keeps the mirror up to date and ends directories whose time has come, until ctx ends. It never fails for good.
func (s *Store) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.follow(ctx) })
	g.Go(func() error { return s.expire(ctx) })
	return g.Wait()
}

// State is where a host's mirror stands.
type State struct {
	Index   int64 // revision of the mirror
	Term    uint64
	Cluster uint64 // etcd's cluster ID
	Ready   bool   // there is something to read
	// Stale is for how long nothing was heard of the store, in whole seconds, at least one; 0 while all is well.
	Stale int64
	Bytes int64 // that the mirror takes, roughly
}

// State tells where the mirror stands.
func (s *Store) State() State {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.state()
}

func (s *Store) state() State {
	return State{
		Index: s.revision, Term: s.term, Cluster: s.cluster, Ready: s.ready && !s.tooBig, Stale: s.stale(), Bytes: s.tree.bytes,
	}
}

// patience is how long a sign of life may take.
const patience = 2 * time.Second

func (s *Store) stale() int64 {
	silent := !s.asked.IsZero() && s.now().Sub(s.asked) > patience
	if !s.lost && !silent || s.contact.IsZero() {
		return 0
	}
	return max(1, int64(s.now().Sub(s.contact)/time.Second))
}

// change has f change what mu guards, and wakes those who wait for it.
func (s *Store) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	close(s.advanced)
	s.advanced = make(chan struct{})
}

// await waits until what mu guards is as ok demands.
func (s *Store) await(ctx context.Context, ok func() bool) error {
	for {
		s.mu.RLock()
		done, advanced := ok(), s.advanced
		s.mu.RUnlock()
		if done {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-advanced:
		}
	}
}
