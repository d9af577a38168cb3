package store

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// MemoryClient is a client of a Memory: a Store with a network that tests can break.
type MemoryClient struct {
	engine *memoryEngine

	// Guarded by engine.mu.
	cut      bool
	silent   bool
	loseNext bool
	closed   bool
	watches  map[*memoryWatch]bool

	closing chan struct{} // closed by Close
	wg      sync.WaitGroup
}

var _ Store = (*MemoryClient)(nil)

func newMemoryClient(engine *memoryEngine) *MemoryClient {
	return &MemoryClient{engine: engine, watches: make(map[*memoryWatch]bool), closing: make(chan struct{})}
}

// Cut takes the client off the network: calls are ErrUnavailable, watches are silent, sessions are not kept alive.
func (c *MemoryClient) Cut() {
	c.engine.mu.Lock()
	defer c.engine.mu.Unlock()
	if c.cut {
		return
	}
	c.cut = true
	for w := range c.watches {
		w.detach()
	}
}

// Heal puts the client back. Its watches go on where they were, if the store still has those revisions.
func (c *MemoryClient) Heal() {
	c.engine.mu.Lock()
	defer c.engine.mu.Unlock()
	if !c.cut {
		return
	}
	c.cut = false
	for w := range c.watches {
		w.attach()
	}
}

// PauseSessions stops keeping the client's sessions alive, while everything else works: a holder that has frozen and
// that others see expire.
func (c *MemoryClient) PauseSessions() { c.setSilent(true) }

// ResumeSessions undoes PauseSessions, for the sessions that still live.
func (c *MemoryClient) ResumeSessions() { c.setSilent(false) }

func (c *MemoryClient) setSilent(silent bool) {
	c.engine.mu.Lock()
	defer c.engine.mu.Unlock()
	c.silent = silent
}

// LoseAnswer lets the next commit be written and its answer be lost: it returns ErrUnavailable.
func (c *MemoryClient) LoseAnswer() {
	c.engine.mu.Lock()
	defer c.engine.mu.Unlock()
	c.loseNext = true
}

// reach says why a call cannot reach the store, if so. engine.mu is held.
func (c *MemoryClient) reach(ctx context.Context, needQuorum bool) error {
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
	case c.closed:
		return errClosed
	case c.cut:
		return fmt.Errorf("%w: no route", ErrUnavailable)
	case needQuorum && !c.engine.quorum:
		return fmt.Errorf("%w: no quorum", ErrUnavailable)
	}
	return nil
}

// Range reads every key that begins with prefix.
func (c *MemoryClient) Range(ctx context.Context, prefix string) (View, error) {
	return c.view(ctx, prefix, true)
}

// RangeStale is Range that needs no quorum. What it returns is not old.
func (c *MemoryClient) RangeStale(ctx context.Context, prefix string) (View, error) {
	return c.view(ctx, prefix, false)
}

func (c *MemoryClient) view(ctx context.Context, prefix string, needQuorum bool) (View, error) {
	c.engine.mu.Lock()
	defer c.engine.mu.Unlock()
	if err := c.reach(ctx, needQuorum); err != nil {
		return View{}, fmt.Errorf("cannot read %s: %w", prefix, err)
	}
	return c.engine.read(prefix), nil
}

// Get reads one key.
func (c *MemoryClient) Get(ctx context.Context, key string) (Item, error) {
	c.engine.mu.Lock()
	defer c.engine.mu.Unlock()
	if err := c.reach(ctx, true); err != nil {
		return Item{}, fmt.Errorf("cannot read %s: %w", key, err)
	}
	if item, ok := c.engine.items[key]; ok {
		return item, nil
	}
	return Item{Key: key}, nil
}

// Commit writes all ops if all guards hold.
func (c *MemoryClient) Commit(ctx context.Context, commit Commit) (int64, error) {
	if err := commit.check(); err != nil {
		return 0, err
	}
	c.engine.mu.Lock()
	defer c.engine.mu.Unlock()
	if err := c.reach(ctx, true); err != nil {
		return 0, fmt.Errorf("cannot commit: %w", err)
	}
	rev, err := c.engine.commit(commit)
	if c.loseNext {
		c.loseNext = false
		return 0, fmt.Errorf("cannot commit: %w: the answer was lost", ErrUnavailable)
	}
	return rev, err
}

// NewSession makes a session. Unlike etcd's its ttl is exact, to a millisecond.
func (c *MemoryClient) NewSession(ctx context.Context, ttl time.Duration) (Session, error) {
	if ttl <= 0 {
		return nil, fmt.Errorf("cannot make session: ttl %s is not positive", ttl)
	}
	c.engine.mu.Lock()
	defer c.engine.mu.Unlock()
	if err := c.reach(ctx, true); err != nil {
		return nil, fmt.Errorf("cannot make session: %w", err)
	}
	s := &memorySession{client: c, id: c.engine.grant(ttl), ttl: ttl, renewed: c.engine.now()}
	s.stop, s.done = make(chan struct{}), make(chan struct{})
	c.wg.Go(s.run)
	return s, nil
}

// Campaign waits until this session holds the election.
func (c *MemoryClient) Campaign(ctx context.Context, election, candidate string, s Session) (Leadership, error) {
	return Elect(ctx, c, election, candidate, s)
}

// Close ends the client's watches and stops keeping its sessions alive; they expire.
func (c *MemoryClient) Close() error {
	c.engine.mu.Lock()
	if !c.closed {
		c.closed = true
		close(c.closing)
	}
	c.engine.mu.Unlock()
	c.wg.Wait()
	return nil
}

// renew keeps a session alive; errors are those of a keep-alive over a network.
func (c *MemoryClient) renew(id int64) error {
	c.engine.mu.Lock()
	defer c.engine.mu.Unlock()
	if c.cut || c.silent || !c.engine.quorum {
		return ErrUnavailable
	}
	lease := c.engine.leases[id]
	if lease == nil {
		return ErrSessionLost
	}
	lease.extend()
	return nil
}
