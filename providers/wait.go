package providers

import (
	"context"
	"sync"
	"time"
)

// Locks are locks by name within this process, for drivers: between processes the provider decides. The zero value is
// ready; it must not be copied.
type Locks struct {
	mu   sync.Mutex
	held map[string]chan struct{} // closed when the name is free
}

// Lock waits until nobody holds the name and takes it, or until ctx ends.
func (l *Locks) Lock(ctx context.Context, name string) (unlock func(), err error) {
	for {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		free, mine := l.take(name)
		if mine {
			return func() { l.give(name) }, nil
		}
		select {
		case <-free:
		case <-ctx.Done():
		}
	}
}

// take takes the name if nobody holds it. What it returns is closed when the name is free again.
func (l *Locks) take(name string) (free chan struct{}, mine bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if free, held := l.held[name]; held {
		return free, false
	}
	if l.held == nil {
		l.held = make(map[string]chan struct{})
	}
	free = make(chan struct{})
	l.held[name] = free
	return free, true
}

func (l *Locks) give(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.held[name])
	delete(l.held, name)
}

// Pause waits for d, or until ctx ends: then it returns why.
func Pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return context.Cause(ctx)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
