// Package pause waits between attempts: for growing, partly random times, so that hosts which lost something together do
// not return to it together. It knows nothing of what is attempted.
package pause

import (
	"context"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// First is the mean of the first wait.
const First = 100 * time.Millisecond

// Pause is the state of a series of attempts. It is for one goroutine.
type Pause struct{ waits *backoff.ExponentialBackOff }

// New makes a Pause whose waits grow by half each time from First to longest, and are off by up to a half at random.
func New(longest time.Duration) *Pause {
	waits := backoff.NewExponentialBackOff()
	waits.InitialInterval, waits.MaxInterval = First, longest
	return &Pause{waits: waits}
}

// Wait lets the next wait pass. It ends early, with an error, when ctx does.
func (p *Pause) Wait(ctx context.Context) error { return For(ctx, p.waits.NextBackOff()) }

// Reset begins the series anew, after an attempt that succeeded.
func (p *Pause) Reset() { p.waits.Reset() }

// For lets d pass. It ends early, with an error, when ctx does.
func For(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// Until repeats an attempt, with growing waits, until it succeeds or ctx ends. failed is told of each failure.
func Until(ctx context.Context, longest time.Duration, failed func(error), attempt func() error) error {
	between := New(longest)
	for {
		err := attempt()
		if err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
		failed(err)
		if err := between.Wait(ctx); err != nil {
			return err
		}
	}
}
