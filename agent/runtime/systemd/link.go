package systemd

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/musterhq/muster/agent/pause"
)

const (
	// patience is how long a call waits for a bus that is away.
	patience = 10 * time.Second
	// longestPause is between two attempts to reach the bus.
	longestPause = 5 * time.Second
)

// link is the connection as callers see it: there or away.
type link struct {
	mu   sync.Mutex
	bus  *bus          // nil while it is away
	back chan struct{} // closed when it is there again; nil while it is there
	err  error         // why it is away
}

// set makes a connection known.
func (l *link) set(b *bus) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bus, l.err = b, nil
	if l.back != nil {
		close(l.back)
		l.back = nil
	}
}

// lose says that there is none, and why.
func (l *link) lose(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bus, l.err = nil, err
	if l.back == nil {
		l.back = make(chan struct{})
	}
}

// get returns the connection and waits for it for a while.
func (l *link) get(ctx context.Context) (*bus, error) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		l.mu.Lock()
		b, back, err := l.bus, l.back, l.err
		l.mu.Unlock()
		if b != nil {
			return b, nil
		}
		select {
		case <-back:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-timer.C:
			return nil, fmt.Errorf("cannot reach systemd over D-Bus: %w", err)
		}
	}
}

// supervise keeps the connection up until ctx ends, and takes in what systemd knows whenever signals may have been missed.
func (rt *Runtime) supervise(ctx context.Context, b *bus) {
	for {
		rt.attend(b)
		b.Close()
		rt.link.lose(errors.New("the connection has ended"))
		if ctx.Err() != nil {
			return
		}
		rt.config.Log.Warn("the bus is away; units go on")
		rt.touch()
		attempt := func() (err error) {
			b, err = rt.connect(ctx)
			return err
		}
		failed := func(err error) { rt.link.lose(err) }
		if err := pause.Until(ctx, longestPause, failed, attempt); err != nil {
			return
		}
		rt.config.Log.Info("the bus is back")
		rt.touch()
	}
}

// connect returns a connection once everything that systemd knows is known here.
func (rt *Runtime) connect(ctx context.Context) (*bus, error) {
	b, err := dial(ctx, rt.config.Bus, rt.signal)
	if err != nil {
		return nil, err
	}
	if err := rt.takeIn(ctx, b, true); err != nil {
		b.Close()
		return nil, err
	}
	rt.link.set(b)
	return b, nil
}

// attend returns when the connection is gone.
func (rt *Runtime) attend(b *bus) {
	ctx := b.conn.Context()
	for {
		select {
		case <-ctx.Done():
			return
		case <-rt.stale:
		}
		failed := func(err error) { rt.config.Log.Warn("cannot see how the units are", "error", err) }
		_ = pause.Until(ctx, longestPause, failed, func() error {
			everything := rt.missed.Swap(false)
			err := rt.takeIn(ctx, b, everything)
			if err != nil && everything {
				rt.missed.Store(true)
			}
			return err
		})
	}
}

// takeIn asks systemd for all units: for the states of those that are not as they were seen last, or for all.
func (rt *Runtime) takeIn(ctx context.Context, b *bus, everything bool) error {
	if everything {
		if err := b.subscribe(ctx); err != nil {
			return err
		}
	}
	awaited := rt.jobs.awaited()
	there, err := rt.refresh(ctx, b, everything, rt.names()...)
	if err != nil {
		return err
	}
	has := map[uint32]bool{}
	for _, u := range there {
		has[u.JobId] = true
	}
	for _, id := range awaited {
		if !has[id] {
			rt.jobLost(id)
		}
	}
	rt.touch()
	return nil
}

func (rt *Runtime) jobLost(id uint32) {
	rt.jobs.end(id, lost)
	rt.mu.Lock()
	defer rt.mu.Unlock()
	for _, u := range rt.units {
		if u.starting == id {
			u.jobEnded(id, lost)
		}
	}
}
