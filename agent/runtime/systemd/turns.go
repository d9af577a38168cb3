package systemd

import (
	"context"
	"sync"
)

// turns does something for many callers at once. Whoever comes while it is being done shares the next turn with all
// others who do: the one under way may have begun before their files were written.
type turns struct {
	run   func(ctx context.Context, names []string) error // for the units of all callers
	ctx   context.Context                                 // of who owns the goroutine
	owner *sync.WaitGroup

	mu      sync.Mutex
	running bool
	next    *turn // what those wait for who came while one was under way
}

type turn struct {
	names []string
	done  chan struct{}
	err   error // once done is closed
}

// do returns after a turn that began after the call.
func (r *turns) do(ctx context.Context, names ...string) error {
	mine := r.join(names)
	if mine == nil {
		return errClosed
	}
	select {
	case <-mine.done:
		return mine.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *turns) join(names []string) *turn {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ctx.Err() != nil {
		return nil
	}
	if r.next == nil {
		r.next = &turn{done: make(chan struct{})}
	}
	mine := r.next
	mine.names = append(mine.names, names...)
	if !r.running {
		r.running = true
		r.owner.Go(r.take)
	}
	return mine
}

// take takes turns as long as somebody waits for one.
func (r *turns) take() {
	for {
		r.mu.Lock()
		now := r.next
		r.next = nil
		r.running = now != nil
		r.mu.Unlock()
		if now == nil {
			return
		}
		now.err = r.run(r.ctx, now.names)
		close(now.done)
	}
}

// end calls cancel, which ends ctx, so that nobody joins after it.
func (r *turns) end(cancel func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	cancel()
}
