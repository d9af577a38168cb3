package providers

import (
	"context"
	"slices"
	"sync"
)

// Recorder collects the calls that a dry run did not make. The zero value is ready to use, by several goroutines.
type Recorder struct {
	mu    sync.Mutex
	calls []Call
}

// Calls returns what was recorded, in order.
func (r *Recorder) Calls() []Call {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.calls)
}

func (r *Recorder) add(call Call) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, call)
}

// DryRun lets reads pass and records writes instead of making them. A recorded Create answers a pending instance
// without an identifier and without an address, which later calls of List do not show.
func DryRun(p Provider, recorder *Recorder) Provider {
	return Decorate(p, func(ctx context.Context, call Call, next func(context.Context) error) error {
		if !call.Op.Writes() {
			return next(ctx)
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
		recorder.add(call)
		return nil
	})
}
