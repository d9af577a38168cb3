package store

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// EtcdConfig says how to reach an etcd cluster.
type EtcdConfig struct {
	// Endpoints are client URLs, https://host:port (roster.Host.ClientURL). At least one.
	Endpoints []string
	// Prefer is the endpoint to begin with, for a voter its own; "" begins with any, so that clients spread out.
	Prefer string
	// TLS is required for https endpoints. For etcd's RBAC the certificate's common name is the user.
	TLS *tls.Config
	Log *slog.Logger
	// Timeout bounds a call whose context ends later; default 5 s.
	Timeout time.Duration
	// Probe is after how long without a session's sign of life the endpoint in use is asked whether it answers and has a
	// leader; default 750 ms. An endpoint that has fallen silent is left after at most Probe + 1250 ms, and after 600 ms if
	// a call waits for it and another answers.
	Probe time.Duration
}

func (c EtcdConfig) withDefaults() EtcdConfig {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Timeout == 0 {
		c.Timeout = 5 * time.Second
	}
	if c.Probe == 0 {
		c.Probe = 750 * time.Millisecond
	}
	return c
}

const (
	connectTimeout = 2 * time.Second         // until a new endpoint has answered for the first time
	probeTimeout   = 1250 * time.Millisecond // until an endpoint in use must have answered a probe
	staleTimeout   = time.Second             // that RangeStale gives one endpoint
	idleTime       = 20 * time.Second        // on a connection over which nothing has come, until it is asked whether it lives
	retryPause     = 25 * time.Millisecond   // before a call is tried again
	pageItems      = 1000                    // items that one request of a Range asks for
)

// Etcd is a Store in an etcd v3 cluster.
//
// It talks to one member at a time and leaves it when it falls silent, loses its leader, or turns out to be a learner
// (etcd_member.go), so a frozen or partitioned member costs less than a second where calls wait for it and another member
// answers (etcd_doubt.go), and about two otherwise. gRPC's own keepalive would need over ten.
// Reads are tried again on another member until their context or Timeout ends. A commit is tried again only when the
// member is known not to have proposed it.
type Etcd struct {
	cfg    EtcdConfig
	log    *slog.Logger
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup // run, watches, sessions

	mu        sync.Mutex
	closed    bool
	endpoints []string
	current   *member       // that answers now; nil while there is none
	changed   chan struct{} // closed and renewed when current or endpoints change
	lastErr   error         // why the last member was left
}

var _ Store = (*Etcd)(nil)

// DialEtcd begins to connect to a cluster and returns without waiting for it. The store works until Close, or until ctx
// ends.
func DialEtcd(ctx context.Context, cfg EtcdConfig) (*Etcd, error) {
	if len(cfg.Endpoints) == 0 {
		return nil, errors.New("cannot dial etcd: no endpoints")
	}
	cfg = cfg.withDefaults()
	ctx, cancel := context.WithCancel(ctx)
	s := &Etcd{
		cfg: cfg, log: cfg.Log, ctx: ctx, cancel: cancel,
		endpoints: slices.Clone(cfg.Endpoints), changed: make(chan struct{}),
	}
	// A client that could not even be made means a bad endpoint or configuration: say so now.
	for _, endpoint := range cfg.Endpoints {
		m, err := s.open(endpoint)
		if err != nil {
			cancel()
			return nil, fmt.Errorf("cannot dial etcd: %w", err)
		}
		m.close()
	}
	s.wg.Go(s.run)
	return s, nil
}

// SetEndpoints replaces the endpoints, as when voters come and go. The member in use stays if it is among them.
func (s *Etcd) SetEndpoints(endpoints []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(endpoints) == 0 || slices.Equal(endpoints, s.endpoints) {
		return
	}
	s.endpoints = slices.Clone(endpoints)
	s.broadcast()
}

// Endpoint is the client URL of the member in use, "" while none answers.
func (s *Etcd) Endpoint() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == nil {
		return ""
	}
	return s.current.endpoint
}

// broadcast wakes whoever waits for a member. s.mu is held.
func (s *Etcd) broadcast() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// Close ends every watch and session of this client; the sessions' keys stay until they expire.
func (s *Etcd) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	s.wg.Wait()
	return nil
}

// spawn runs f in a goroutine that Close waits for; false after Close.
func (s *Etcd) spawn(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.wg.Go(f)
	return true
}

// Range reads every key that begins with prefix, linearizably. It reads in pages of one revision.
func (s *Etcd) Range(ctx context.Context, prefix string) (View, error) {
	var view View
	err := s.read(ctx, func(ctx context.Context, m *member) error {
		var err error
		view, err = s.readPages(ctx, m, prefix, false)
		return err
	})
	if err != nil {
		return View{}, callError("read "+prefix, err)
	}
	return view, nil
}

// RangeStale asks every member for what it has and takes the first answer: any of them may be out of reach, and silent.
func (s *Etcd) RangeStale(ctx context.Context, prefix string) (View, error) {
	s.mu.Lock()
	endpoints := s.endpoints
	s.mu.Unlock()
	type answer struct {
		view View
		err  error
	}
	answers := make(chan answer, len(endpoints))
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, endpoint := range endpoints {
		wg.Go(func() {
			view, err := s.staleFrom(ctx, endpoint, prefix)
			if err != nil {
				err = fmt.Errorf("%s: %w", endpoint, err)
			}
			answers <- answer{view: view, err: err}
		})
	}
	var errs []error
	for range endpoints {
		a := <-answers
		if a.err == nil {
			return a.view, nil
		}
		if isFinal(a.err) {
			return View{}, callError("read "+prefix, a.err)
		}
		errs = append(errs, a.err)
	}
	return View{}, callError("read "+prefix, errors.Join(errs...))
}

func (s *Etcd) staleFrom(ctx context.Context, endpoint, prefix string) (View, error) {
	ctx, cancel := context.WithTimeout(ctx, staleTimeout)
	defer cancel()
	s.mu.Lock()
	m := s.current
	s.mu.Unlock()
	if m != nil && m.endpoint == endpoint {
		return s.readPages(ctx, m, prefix, true)
	}
	m, err := s.open(endpoint)
	if err != nil {
		return View{}, err
	}
	defer m.close()
	if err := m.reach(ctx); err != nil {
		return View{}, err
	}
	return s.readPages(ctx, m, prefix, true)
}

// readPages reads a prefix from one member. The first page fixes the revision; the later ones are read at it, and need
// no quorum, for this member has seen it.
func (s *Etcd) readPages(ctx context.Context, m *member, prefix string, stale bool) (View, error) {
	if !stale {
		ctx = clientv3.WithRequireLeader(ctx)
	}
	var view View
	from, end := prefix, clientv3.GetPrefixRangeEnd(prefix)
	if prefix == "" {
		from, end = "\x00", "\x00" // every key
	}
	for {
		opts := []clientv3.OpOption{clientv3.WithRange(end), clientv3.WithLimit(pageItems)}
		if stale || view.Revision != 0 {
			opts = append(opts, clientv3.WithSerializable(), clientv3.WithRev(view.Revision))
		}
		page, err := m.client.Get(ctx, from, opts...)
		if err != nil {
			return View{}, err
		}
		if view.Revision == 0 {
			view.Revision = page.Header.Revision
			view.Items = make([]Item, 0, page.Count)
		}
		for _, kv := range page.Kvs {
			view.Items = append(view.Items, itemOf(kv))
		}
		if !page.More {
			return view, nil
		}
		from = view.Items[len(view.Items)-1].Key + "\x00"
	}
}

// Get reads one key, linearizably.
func (s *Etcd) Get(ctx context.Context, key string) (Item, error) {
	var item Item
	err := s.read(ctx, func(ctx context.Context, m *member) error {
		resp, err := m.client.Get(clientv3.WithRequireLeader(ctx), key)
		if err != nil {
			return err
		}
		item = Item{Key: key}
		if len(resp.Kvs) == 1 {
			item = itemOf(resp.Kvs[0])
		}
		return nil
	})
	if err != nil {
		return Item{}, callError("read "+key, err)
	}
	return item, nil
}

// read calls f with a member until it succeeds or its failure is final.
func (s *Etcd) read(ctx context.Context, f func(context.Context, *member) error) error {
	return s.call(ctx, f, func(err error) bool { return !isFinal(err) })
}

// Commit writes all ops if all guards hold.
func (s *Etcd) Commit(ctx context.Context, c Commit) (int64, error) {
	if err := c.check(); err != nil {
		return 0, err
	}
	guards, ops := etcdGuards(c.Guards), etcdOps(c.Ops)
	var resp *clientv3.TxnResponse
	err := s.call(ctx, func(ctx context.Context, m *member) error {
		var err error
		resp, err = m.client.Txn(clientv3.WithRequireLeader(ctx)).If(guards...).Then(ops...).Commit()
		return err
	}, isRefused)
	switch {
	case err != nil:
		return 0, callError("commit", err)
	case !resp.Succeeded:
		return 0, fmt.Errorf("cannot commit: %w", ErrConflict)
	}
	return resp.Header.Revision, nil
}

// call waits for a member, calls f with it, and repeats while again says so and time is left.
func (s *Etcd) call(ctx context.Context, f func(context.Context, *member) error, again func(error) bool) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	var last error
	for {
		m, err := s.member(ctx)
		if err != nil {
			return errors.Join(err, last)
		}
		last = m.doubted(func() error { return f(ctx, m) })
		if last == nil {
			return nil
		}
		if isUnavailable(last) {
			m.suspect()
		}
		if ctx.Err() != nil || !again(last) {
			return last
		}
		if !pause(ctx, retryPause) {
			return errors.Join(ctx.Err(), last)
		}
	}
}

// Campaign waits until this session holds the election.
func (s *Etcd) Campaign(ctx context.Context, election, candidate string, session Session) (Leadership, error) {
	return Elect(ctx, s, election, candidate, session)
}

// pause waits; false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
