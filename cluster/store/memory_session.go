package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// memoryLease is a session as the store sees it. It is guarded by the engine's mu.
type memoryLease struct {
	engine  *memoryEngine
	id      int64
	ttl     time.Duration
	expires time.Time
	timer   *time.Timer
	keys    map[string]bool
}

// leaseLatency is how much later than its holder the store counts a session's life, as if that long a way lay between
// them: on a virtual clock both would otherwise end at the same instant, in any order.
const leaseLatency = time.Millisecond

// grant makes a lease. mu is held.
func (e *memoryEngine) grant(ttl time.Duration) int64 {
	e.lastLease++
	lease := &memoryLease{
		engine: e, id: e.lastLease, ttl: ttl + leaseLatency,
		expires: e.now().Add(ttl + leaseLatency), keys: make(map[string]bool),
	}
	lease.timer = time.AfterFunc(lease.ttl, lease.expire)
	e.leases[lease.id] = lease
	return lease.id
}

func (l *memoryLease) extend() {
	l.expires = l.engine.now().Add(l.ttl)
	l.timer.Reset(l.ttl)
}

// expire runs when the timer does. The clock has the last word: it may be another than the timer's.
func (l *memoryLease) expire() {
	e := l.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.leases[l.id] != l {
		return
	}
	if left := l.expires.Sub(e.now()); left > 0 {
		l.timer.Reset(left)
		return
	}
	if !e.quorum {
		return // SetQuorum extends it
	}
	l.end()
}

// end deletes the lease and its keys. mu is held.
func (l *memoryLease) end() {
	l.timer.Stop()
	keys := make([]string, 0, len(l.keys))
	for key := range l.keys {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	ops := make([]Op, len(keys))
	for i, key := range keys {
		ops[i] = Delete(key)
	}
	l.engine.apply(ops)
	delete(l.engine.leases, l.id)
}

// memorySession is a session as its holder sees it.
type memorySession struct {
	observed
	client  *MemoryClient
	id      int64
	ttl     time.Duration
	renewed time.Time // owned by run

	stopOnce sync.Once
	stop     chan struct{} // closed by Revoke
	done     chan struct{}
}

func (s *memorySession) ID() int64             { return s.id }
func (s *memorySession) Done() <-chan struct{} { return s.done }

func (s *memorySession) run() {
	defer close(s.done)
	now := s.client.engine.now
	for wait := 2 * s.ttl / 5; s.sleep(wait); {
		succeeded := s.sends()
		sent := now()
		err := s.client.renew(s.id)
		left := s.renewed.Add(s.ttl).Sub(sent)
		switch {
		case errors.Is(err, ErrSessionLost):
			return
		case err == nil:
			s.renewed = sent
			succeeded()
			wait = 2 * s.ttl / 5
		case left <= 0:
			return
		default:
			wait = min(left, max(s.ttl/30, time.Millisecond))
		}
	}
}

// sleep is false when the session is over.
func (s *memorySession) sleep(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.stop:
	case <-s.client.closing:
	}
	return false
}

// Revoke ends the session and deletes its keys.
func (s *memorySession) Revoke(ctx context.Context) error {
	s.stopOnce.Do(func() { close(s.stop) })
	<-s.done
	e := s.client.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := s.client.reach(ctx, true); err != nil {
		return fmt.Errorf("cannot revoke session: %w", err)
	}
	if lease := e.leases[s.id]; lease != nil {
		lease.end()
	}
	return nil
}
