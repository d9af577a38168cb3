// Package pause waits between attempts: for growing, partly random times, so that hosts which lost something together do
// not return to it together. It knows nothing of what is attempted.
package pause

import (
	"context"
	"math/rand/v2"
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
	waits.RandomizationFactor = 0 // see spread
	return &Pause{waits: waits}
}

// Wait lets the next wait pass. It ends early, with an error, when ctx does.
func (p *Pause) Wait(ctx context.Context) error { return For(ctx, spread(ctx, p.waits.NextBackOff())) }

// Chance decides how far a wait is off its mean: 0 is half of it, and just below 1 one and a half times.
type Chance func(mean time.Duration) float64

type chanceKey struct{}

// With has the waits under a context follow from a source instead of true chance, so that a simulation can be repeated.
func With(ctx context.Context, c Chance) context.Context {
	return context.WithValue(ctx, chanceKey{}, c)
}

func spread(ctx context.Context, mean time.Duration) time.Duration {
	return time.Duration((0.5 + Random(ctx, mean)) * float64(mean))
}

// Random is from 0 to below 1: what decides how far a wait of about mean is off, for those who wait by themselves.
func Random(ctx context.Context, mean time.Duration) float64 {
	if c, ok := ctx.Value(chanceKey{}).(Chance); ok {
		return c(mean)
	}
	return rand.Float64()
}

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
