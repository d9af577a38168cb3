package ec2

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"golang.org/x/time/rate"
)

// pace keeps to the rates of an account, which are its own and which the API does not tell: an action is called as fast as
// asked for until EC2 says that this was too fast, and from then on as often as EC2 refills the bucket of an ordinary
// account (Developer Guide, "Request throttling for the Amazon EC2 API").
type pace struct {
	mu    sync.Mutex
	slows map[string]*rate.Limiter // by action
	rate  func(action string) limit
}

// limit is a number of calls a second.
type limit = rate.Limit

// refill is how many calls of an action a second EC2 takes for long.
func refill(action string) limit {
	switch {
	case action == "RunInstances":
		return 2
	case action == "StartInstances":
		return 2
	case strings.HasPrefix(action, "Describe") || strings.HasPrefix(action, "Get"):
		return 10
	default:
		return 5
	}
}

func (p *pace) wait(ctx context.Context, action string) error {
	if err := context.Cause(ctx); err != nil {
		return fmt.Errorf("%s: %w", action, err)
	}
	p.mu.Lock()
	limiter := p.slows[action]
	p.mu.Unlock()
	if limiter == nil {
		return nil
	}
	if err := limiter.Wait(ctx); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		} else {
			err = context.DeadlineExceeded // the turn would come too late
		}
		return fmt.Errorf("%s: waiting for the rate of the account: %w", action, err)
	}
	return nil
}

// slow remembers that an action was called too fast.
func (p *pace) slow(action string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.slows[action] == nil {
		if p.slows == nil {
			p.slows = map[string]*rate.Limiter{}
		}
		p.slows[action] = rate.NewLimiter(p.rate(action), 1)
	}
}
