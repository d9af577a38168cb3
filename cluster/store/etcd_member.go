package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// member is a connection to one member of the cluster. It is made when the member is turned to and closed when it is
// left, which ends at once whatever still waits for an answer from it.
type member struct {
	endpoint string
	client   *clientv3.Client
	nudge    chan struct{}
	silent   chan struct{}             // has one when a session got no answer
	heard    atomic.Pointer[time.Time] // when the member last proved that it answers and has a leader
}

func (s *Etcd) open(endpoint string) (*member, error) {
	client, err := clientv3.New(clientv3.Config{
		Context:         s.ctx,
		Endpoints:       []string{endpoint},
		TLS:             s.cfg.TLS,
		Logger:          zap.NewNop(), // what matters is logged here, once
		MaxUnaryRetries: 1,            // Etcd.call decides what is tried again
		// A session's line is another connection: this one is not known to live because the line does.
		DialKeepAliveTime: idleTime, DialKeepAliveTimeout: probeTimeout,
		DialOptions: append(StaticWindows(), grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 2, MaxDelay: time.Second},
			MinConnectTimeout: connectTimeout,
		})),
	})
	if err != nil {
		return nil, fmt.Errorf("cannot use endpoint %s: %w", endpoint, err)
	}
	return &member{endpoint: endpoint, client: client, nudge: make(chan struct{}, 1), silent: make(chan struct{}, 1)}, nil
}

// close ends the connection and every call over it. What it returns is only that the context has ended.
func (m *member) close() { _ = m.client.Close() }

// suspect asks for a probe now: somebody waits for the member, or it has failed.
func (m *member) suspect() {
	select {
	case m.nudge <- struct{}{}:
	default:
	}
}

// answered saves the next probe: the member has just done what it could not do without a leader.
func (m *member) answered() {
	now := time.Now()
	m.heard.Store(&now)
}

// unanswered has the member left at once: it was given as long for something else as a probe gives it.
func (m *member) unanswered() {
	select {
	case m.silent <- struct{}{}:
	default:
	}
}

// probe asks whether the member answers, has a leader and is no learner. The health service is open to every user and
// needs no quorum; the condition on the leader is checked by the server's interceptor before it.
func (m *member) probe(ctx context.Context, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), timeout)
	defer cancel()
	resp, err := m.health(ctx)
	switch {
	case err != nil:
		return err
	case resp.Status != healthpb.HealthCheckResponse_SERVING:
		return fmt.Errorf("member says %s", resp.Status)
	}
	return nil
}

// reach asks whether the member answers at all. Unlike a read it does not wait for a connection that is refused.
func (m *member) reach(ctx context.Context) error {
	if _, err := m.health(ctx); err != nil && !isRefused(err) {
		return err
	}
	return nil
}

func (m *member) health(ctx context.Context) (*healthpb.HealthCheckResponse, error) {
	return healthpb.NewHealthClient(m.client.ActiveConnection()).Check(ctx, &healthpb.HealthCheckRequest{})
}

// member returns the member in use, waiting for one if there is none.
func (s *Etcd) member(ctx context.Context) (*member, error) {
	for {
		s.mu.Lock()
		m, changed := s.current, s.changed
		s.mu.Unlock()
		if s.ctx.Err() != nil {
			return nil, errClosed
		}
		if m != nil {
			return m, nil
		}
		select {
		case <-changed:
		case <-s.ctx.Done():
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w: %w", ErrUnavailable, ctx.Err(), s.lastError())
		}
	}
}

// lastError is why there is no member.
func (s *Etcd) lastError() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lastErr == nil {
		return errors.New("no voter has answered yet")
	}
	return s.lastErr
}

// run turns to one member after another until the store is closed.
func (s *Etcd) run() {
	endpoint := s.first()
	failures := 0
	for s.ctx.Err() == nil {
		m, err := s.meet(endpoint)
		if err == nil {
			endpoint, failures = m.endpoint, 0
			s.use(m)
		} else {
			s.setCurrent(nil, err)
		}
		failures++
		next, count := s.after(endpoint)
		endpoint = next
		// The first round over all members is made at once; then hardly any waiting, so that a cluster that is just
		// forming is found as soon as it is there.
		if wait := time.Duration(failures/count) * retryPause; wait > 0 {
			pause(s.ctx, min(wait, 10*retryPause))
		}
	}
}

func (s *Etcd) first() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.Contains(s.endpoints, s.cfg.Prefer) {
		return s.cfg.Prefer
	}
	return s.endpoints[rand.IntN(len(s.endpoints))]
}

// after returns the endpoint to turn to after another one was left, and how many endpoints there are.
func (s *Etcd) after(endpoint string) (next string, count int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(s.endpoints, endpoint) // -1 when it is gone: begin again
	return s.endpoints[(i+1)%len(s.endpoints)], len(s.endpoints)
}

// use makes a member the current one, and closes it when it must be left.
func (s *Etcd) use(m *member) {
	defer m.close()
	s.setCurrent(m, nil)
	err := s.tend(m)
	s.setCurrent(nil, fmt.Errorf("%s: %w", m.endpoint, err))
	if s.ctx.Err() == nil {
		s.log.Warn("left an etcd member", "endpoint", m.endpoint, "err", err)
	}
}

// meet turns to a member, and to the next one as well when that is silent for rivalAfter: a frozen one accepts connections
// and says nothing. It returns the one that is the first to answer and to have a leader.
func (s *Etcd) meet(endpoint string) (*member, error) {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithTimeout(s.ctx, connectTimeout)
	defer cancel()
	met, failed := make(chan *member), make(chan error, 2)
	turn := func(greet func(context.Context, string) (*member, error)) {
		m, err := greet(ctx, endpoint)
		if err != nil {
			failed <- err
			return
		}
		select {
		case met <- m:
		case <-ctx.Done():
			m.close()
			failed <- ctx.Err()
		}
	}
	wg.Go(func() { turn(s.greet) })
	patience := time.NewTimer(rivalAfter)
	defer patience.Stop()
	for turned := 1; ; {
		select {
		case m := <-met:
			return m, nil
		case err := <-failed:
			if turned--; turned == 0 {
				return nil, err
			}
		case <-patience.C:
			turned++
			wg.Go(func() { turn(s.greetAnother) })
		}
	}
}

// greet opens the member at an endpoint if it answers and has a leader.
func (s *Etcd) greet(ctx context.Context, endpoint string) (*member, error) {
	m, err := s.open(endpoint)
	if err != nil {
		return nil, err
	}
	if err := m.probe(ctx, connectTimeout); err != nil {
		m.close()
		return nil, fmt.Errorf("%s: %w", endpoint, err)
	}
	return m, nil
}

// greetAnother opens the member that is turned to after an endpoint, once it answers and has a leader.
func (s *Etcd) greetAnother(ctx context.Context, endpoint string) (*member, error) {
	next, count := s.after(endpoint)
	if count < 2 {
		return nil, errors.New("there is no other")
	}
	m, err := s.open(next)
	if err != nil {
		return nil, err
	}
	for {
		if err = m.probe(ctx, probeTimeout); err == nil {
			return m, nil
		}
		if !pause(ctx, retryPause) {
			m.close()
			return nil, fmt.Errorf("%s: %w", next, err)
		}
	}
}

func (s *Etcd) setCurrent(m *member, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m != nil {
		s.log.Debug("using an etcd member", "endpoint", m.endpoint)
	}
	if err != nil {
		s.lastErr = err
	}
	if s.current != m {
		s.current = m
		s.broadcast()
	}
}

// tend probes the member in use, unless it has answered something else of late, until it fails or is no longer among the
// endpoints.
func (s *Etcd) tend(m *member) error {
	m.answered()
	due := time.NewTimer(s.cfg.Probe)
	defer due.Stop()
	for {
		doubted := false
		s.mu.Lock()
		changed, known := s.changed, slices.Contains(s.endpoints, m.endpoint)
		s.mu.Unlock()
		if !known {
			return errors.New("no longer an endpoint")
		}
		select {
		case <-s.ctx.Done():
			return s.ctx.Err()
		case <-changed:
			continue
		case <-m.silent:
			return errors.New("no answer")
		case <-due.C:
			if wait := s.cfg.Probe - time.Since(*m.heard.Load()); wait > 0 {
				due.Reset(wait)
				continue
			}
		case <-m.nudge:
			doubted = true
		}
		if err := s.examine(m, doubted); err != nil {
			return err
		}
		m.answered()
		due.Reset(s.cfg.Probe)
	}
}
