package systemd

import (
	"context"
	"sync"
)

// reloads has systemd read its files again. Whoever asks while it does shares the next time with all others who do: the
// time under way may have begun before their files were written.
type reloads struct {
	reload func(context.Context) error
	ctx    context.Context // of who owns the goroutine
	owner  *sync.WaitGroup

	mu      sync.Mutex
	running bool
	next    *reload // what those wait for who came while one was running
}

// reload is one time.
type reload struct {
	done chan struct{}
	err  error // once done is closed
}

// do returns after a reload that began after the call.
func (r *reloads) do(ctx context.Context) error {
	mine := r.join()
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

func (r *reloads) join() *reload {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ctx.Err() != nil {
		return nil
	}
	if r.next == nil {
		r.next = &reload{done: make(chan struct{})}
	}
	mine := r.next
	if !r.running {
		r.running = true
		r.owner.Go(r.run)
	}
	return mine
}

// run reloads as long as somebody waits for it.
func (r *reloads) run() {
	for {
		r.mu.Lock()
		now := r.next
		r.next = nil
		r.running = now != nil
		r.mu.Unlock()
		if now == nil {
			return
		}
		now.err = r.reload(r.ctx)
		close(now.done)
	}
}

// end ends ctx, in a way that nobody begins to reload after it.
func (r *reloads) end(cancel func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	cancel()
}
