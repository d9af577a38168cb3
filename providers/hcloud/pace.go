package hcloud

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync"

	"golang.org/x/time/rate"

	"github.com/musterhq/muster/providers"
)

// pace keeps to the project's rate limit, which the API tells with every answer (API reference, "Rate Limiting"): calls are
// as fast as asked for until a tenth of an hour's calls is left, and then as many a second as come back, until a fifth is
// there again. The tenth is for whoever else works in the project.
type pace struct {
	next  http.RoundTripper
	login bool // there is a token

	mu   sync.Mutex
	slow *rate.Limiter // nil: as fast as asked for
}

// defaultLimit is how many calls an hour a project has, if the API does not say.
const defaultLimit = 3600

// RoundTrip makes a call when its turn has come.
func (p *pace) RoundTrip(r *http.Request) (*http.Response, error) {
	if !p.login {
		return nil, fmt.Errorf("there is no API token: set `token`, or HCLOUD_TOKEN: %w", providers.ErrAuth)
	}
	p.mu.Lock()
	slow := p.slow
	p.mu.Unlock()
	if slow != nil {
		if err := slow.Wait(r.Context()); err != nil {
			if cause := context.Cause(r.Context()); cause != nil {
				return nil, cause
			}
			return nil, fmt.Errorf("waiting for the project's rate limit: %w", context.DeadlineExceeded)
		}
	}
	answer, err := p.next.RoundTrip(r)
	if err == nil {
		p.note(answer)
	}
	return answer, err
}

// note reads what is left.
func (p *pace) note(answer *http.Response) {
	limit, err := strconv.Atoi(answer.Header.Get("RateLimit-Limit"))
	if err != nil || limit < 1 {
		limit = defaultLimit
	}
	left, err := strconv.Atoi(answer.Header.Get("RateLimit-Remaining"))
	if answer.StatusCode == http.StatusTooManyRequests {
		left, err = 0, nil
	}
	if err != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case left < limit/10 && p.slow == nil:
		p.slow = rate.NewLimiter(rate.Limit(float64(limit)/3600), 1)
	case left > limit/5:
		p.slow = nil
	}
}
