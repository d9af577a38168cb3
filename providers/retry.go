package providers

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// RetryPolicy bounds how a call is repeated. A zero field takes DefaultRetry's value.
type RetryPolicy struct {
	Initial time.Duration // mean of the first pause; every next one is 1.5 times as long
	Max     time.Duration // mean of the longest pause
	Elapsed time.Duration // no repetition begins later than this after the first try
}

// DefaultRetry outlasts the throttling windows of the large clouds and a restart of an API server.
var DefaultRetry = RetryPolicy{Initial: 500 * time.Millisecond, Max: 20 * time.Second, Elapsed: 5 * time.Minute}

// Retry repeats calls that failed with ErrThrottled or ErrUnavailable, with exponential pauses jittered by half of
// their length, until one succeeds, fails in another way, the policy's time is over or ctx ends. Every repetition is
// logged as a warning. The provider's idempotency makes repeating a call of unknown outcome right.
func Retry(p Provider, policy RetryPolicy, log *slog.Logger) Provider {
	policy.Initial = cmp.Or(policy.Initial, DefaultRetry.Initial)
	policy.Max = cmp.Or(policy.Max, DefaultRetry.Max)
	policy.Elapsed = cmp.Or(policy.Elapsed, DefaultRetry.Elapsed)
	return Decorate(p, func(ctx context.Context, call Call, next func(context.Context) error) error {
		return policy.run(ctx, call, next, log)
	})
}

func (r RetryPolicy) run(ctx context.Context, call Call, next func(context.Context) error, log *slog.Logger) error {
	tries := 0
	var last error
	attempt := func() (struct{}, error) {
		tries++
		last = next(ctx)
		if last != nil && !Retryable(last) {
			return struct{}{}, backoff.Permanent(last)
		}
		return struct{}{}, last
	}
	notify := func(err error, pause time.Duration) {
		log.WarnContext(ctx, "provider call failed, it will be repeated", "call", call, "try", tries,
			"class", Class(err), "error", err, "pause", pause)
	}
	_, err := backoff.Retry(ctx, attempt, backoff.WithBackOff(r.pauses()), backoff.WithMaxElapsedTime(r.Elapsed),
		backoff.WithNotify(notify))
	switch {
	case err == nil || tries == 1 && ctx.Err() == nil:
		return err
	case ctx.Err() != nil && Retryable(last):
		return fmt.Errorf("gave up after %d tries (%v): %w", tries, last, context.Cause(ctx))
	case Retryable(err):
		return fmt.Errorf("gave up after %d tries: %w", tries, err)
	default:
		return err
	}
}

func (r RetryPolicy) pauses() backoff.BackOff {
	return &backoff.ExponentialBackOff{
		InitialInterval:     r.Initial,
		RandomizationFactor: backoff.DefaultRandomizationFactor,
		Multiplier:          backoff.DefaultMultiplier,
		MaxInterval:         r.Max,
	}
}
