package providers

import (
	"context"
	"fmt"

	"golang.org/x/time/rate"
)

// LimitPolicy bounds how fast a provider is called. A zero field does not limit.
type LimitPolicy struct {
	PerSecond  float64 // calls begun per second, in the long run
	Burst      int     // calls begun at once after a silence; at least 1 when PerSecond is set
	Concurrent int     // calls under way at the same time
}

// Limit makes calls wait for their turn. A call whose turn would come after ctx's deadline fails at once.
func Limit(p Provider, policy LimitPolicy) Provider {
	limiter := rate.NewLimiter(rate.Inf, 0)
	if policy.PerSecond > 0 {
		limiter = rate.NewLimiter(rate.Limit(policy.PerSecond), max(policy.Burst, 1))
	}
	var slots chan struct{}
	if policy.Concurrent > 0 {
		slots = make(chan struct{}, policy.Concurrent)
	}
	return Decorate(p, func(ctx context.Context, _ Call, next func(context.Context) error) error {
		if slots != nil {
			select {
			case slots <- struct{}{}:
				defer func() { <-slots }()
			case <-ctx.Done():
				return fmt.Errorf("waiting for other calls: %w", context.Cause(ctx))
			}
		}
		if err := limiter.Wait(ctx); err != nil {
			return fmt.Errorf("waiting for the rate limit: %w", waitError(ctx))
		}
		return next(ctx)
	})
}

// waitError is why a wait for the limiter ended: rate's own error for a deadline that is too near has no class.
func waitError(ctx context.Context) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return context.DeadlineExceeded
}
