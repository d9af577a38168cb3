package providers

import (
	"context"
	"errors"
	"fmt"

	"github.com/musterhq/muster/cloudconfig"
)

// As finds an optional ability of a provider: Starter, Stopper, Cleaner, Checker, or an interface that one driver has alone.
// Use it instead of a type assertion, which a decorator would answer for its provider whether that has the ability or
// not.
//
// The ability is there when the provider at the core has it. The value returned is the outermost layer that implements
// T, so that calls pass through the decorators.
func As[T any](p Provider) (T, bool) {
	if _, able := core(p).(T); !able {
		var none T
		return none, false
	}
	for {
		if able, ok := p.(T); ok {
			return able, true
		}
		p = p.(unwrapper).Unwrap()
	}
}

// unwrapper is implemented by decorators.
type unwrapper interface {
	Unwrap() Provider
}

// core is the provider inside all decorators.
func core(p Provider) Provider {
	for {
		u, ok := p.(unwrapper)
		if !ok {
			return p
		}
		p = u.Unwrap()
	}
}

// Check runs p's own checks of the settings to come, when it has any.
func Check(ctx context.Context, p Provider, settings []any) error {
	if c, ok := As[Checker](p); ok {
		return c.Check(ctx, settings)
	}
	return nil
}

// Start powers a stopped instance on. The error is errors.ErrUnsupported when p cannot.
func Start(ctx context.Context, p Provider, instance Instance) error {
	if s, ok := As[Starter](p); ok {
		return s.Start(ctx, instance)
	}
	return fmt.Errorf("cannot start host %s: its provider cannot start instances: %w", instance.Host, errors.ErrUnsupported)
}

// Stop powers an instance off and keeps it. The error is errors.ErrUnsupported when p cannot.
func Stop(ctx context.Context, p Provider, instance Instance) error {
	if s, ok := As[Stopper](p); ok {
		return s.Stop(ctx, instance)
	}
	return fmt.Errorf("cannot stop host %s: its provider cannot stop instances: %w", instance.Host, errors.ErrUnsupported)
}

// UserDataLimit is what p takes as user-data: everything, unless it says otherwise.
func UserDataLimit(p Provider) cloudconfig.Limit {
	if l, ok := As[UserDataLimiter](p); ok {
		return l.UserDataLimit()
	}
	return cloudconfig.Limit{}
}

// Cleanup removes what belongs to the cluster as a whole, when p keeps such things.
func Cleanup(ctx context.Context, p Provider, cluster string) error {
	if c, ok := As[Cleaner](p); ok {
		return c.Cleanup(ctx, cluster)
	}
	return nil
}
