package simulation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/musterhq/muster/cluster/store"
)

// grant is a session as the server has it. In its memory the session has no end: the server ends it.
type grant struct {
	*server
	id      int64
	ttl     time.Duration
	expires time.Duration
	memory  store.Session
}

// forever is longer than a run.
const forever = 24 * time.Hour

func (s *server) grant(ttl time.Duration) (*grant, error) {
	session, err := s.memory.NewSession(s.ctx, forever)
	if err != nil {
		return nil, err
	}
	g := &grant{server: s, id: session.ID(), ttl: ttl, memory: session}
	s.leases = append(s.leases, g)
	g.extend()
	return g, nil
}

func (s *server) granted(id int64) bool {
	return slices.ContainsFunc(s.leases, func(g *grant) bool { return g.id == id })
}

func (g *grant) extend() {
	g.expires = g.elapsed() + g.ttl
	g.at(g.expires, g.expire)
}

func (g *grant) expire() {
	if g.without == 0 && g.granted(g.id) && g.elapsed() >= g.expires {
		g.tell("the store ends session %d", g.id)
		g.end()
	}
}

func (g *grant) end() {
	if !g.granted(g.id) {
		return
	}
	g.leases = slices.DeleteFunc(g.leases, func(other *grant) bool { return other == g })
	if err := g.memory.Revoke(g.ctx); err != nil {
		g.fail("the simulation cannot end a session: %v", err)
	}
	g.spread()
}

// session is a session as its holder has it, who trusts only the machine's monotonic clock and counts from the moment at which
// a request was sent (store.Etcd's session).
type session struct {
	*client
	grant   *grant
	ttl     time.Duration // of the holder's clock
	renewed time.Duration // when the last request that was answered was sent
	ended   bool
	done    chan struct{}

	watching sync.Mutex
	stamp    func() time.Duration     // nil without an observer; guarded by watching
	observer func(sent time.Duration) // guarded by watching
}

// NewSession asks for a session. One whose grant nobody hears of is not kept alive.
func (c *client) NewSession(ctx context.Context, ttl time.Duration) (store.Session, error) {
	sent := c.elapsed()
	grant, err := call(ctx, c, fmt.Sprint("begin a session of ", ttl), true, func() (*grant, error) { return c.server.grant(ttl) }, nil)
	if err != nil {
		return nil, err
	}
	s := &session{client: c, grant: grant, ttl: ttl, renewed: sent, done: make(chan struct{})}
	return s, aside(ctx, c.process, fmt.Sprint("keep session ", grant.id), func() {
		c.process.sessions = append(c.process.sessions, s)
		s.heard(sent)
		s.keep()
	})
}

func (s *session) ID() int64             { return s.grant.id }
func (s *session) Done() <-chan struct{} { return s.done }

// Observe has an observer told of signs of life.
func (s *session) Observe(stamp func() time.Duration, renewed func(sent time.Duration)) {
	s.watching.Lock()
	defer s.watching.Unlock()
	s.stamp, s.observer = stamp, renewed
}

func (s *session) observed() (sent time.Duration, renewed func(time.Duration)) {
	s.watching.Lock()
	defer s.watching.Unlock()
	if s.observer == nil {
		return 0, func(time.Duration) {}
	}
	return s.stamp(), s.observer
}

// keep sends the next sign of life in time, and ends the session when there was no answer for its whole life.
func (s *session) keep() {
	m := s.process.machine
	renewed := s.renewed
	s.at(renewed+m.real(2*s.ttl/5), func() { s.process.do(func() { s.renew(renewed) }) })
	s.at(renewed+m.real(s.ttl), func() {
		s.process.do(func() {
			if s.renewed == renewed {
				s.end("its life is over")
			}
		})
	})
}

// again is how soon a sign of life that had no answer is repeated.
const again = 400 * time.Millisecond

func (s *session) renew(since time.Duration) {
	if s.ended || s.renewed != since {
		return
	}
	m := s.process.machine
	sent := s.elapsed()
	stamp, tell := s.observed()
	s.after(m.real(again), func() { s.process.do(func() { s.renew(since) }) })
	if m.noRequests > 0 {
		return
	}
	s.after(m.delay(), func() {
		lost := !s.server.granted(s.grant.id)
		if !lost && s.server.without > 0 {
			return
		}
		if !lost {
			s.grant.extend()
			if s.ttl == sessionTTL {
				m.reached = s.elapsed()
			}
		}
		if m.noAnswers > 0 {
			return
		}
		s.after(m.delay(), func() {
			s.process.do(func() {
				if s.answered(sent, lost) {
					if s.Mutant == FromAnswer {
						stamp, tell = s.observed()
					}
					tell(stamp)
				}
			})
		})
	})
}

// answered takes an answer, and says whether the session lives longer for it.
func (s *session) answered(sent time.Duration, lost bool) bool {
	switch {
	case s.ended:
	case lost:
		s.end("the store does not know it")
	case sent > s.renewed:
		s.renewed = sent
		s.heard(sent)
		s.keep()
		return true
	}
	return false
}

// heard notes when the store was heard last by the machine, in a session of the host's own.
func (s *session) heard(sent time.Duration) {
	if m := s.process.machine; s.ttl == sessionTTL {
		if m.elapsed()-m.heard >= m.real(sessionTTL) {
			m.regained = m.elapsed()
		}
		m.heard = max(m.heard, sent)
	}
}

func (s *session) end(why string) {
	if !s.ended {
		s.tell("%s: session %d has ended: %s", s.process.machine.host.Name, s.grant.id, why)
		s.ended = true
		close(s.done)
	}
}

// Revoke ends the session and deletes its keys.
func (s *session) Revoke(ctx context.Context) error {
	if err := aside(ctx, s.process, fmt.Sprint("leave session ", s.grant.id), func() { s.end("its holder gives it up") }); err != nil {
		return err
	}
	_, err := call(ctx, s.client, fmt.Sprint("revoke session ", s.grant.id), true, func() (struct{}, error) {
		s.grant.end()
		return struct{}{}, nil
	}, nil)
	if err != nil && !errors.Is(err, store.ErrSessionLost) {
		return fmt.Errorf("cannot revoke session: %w", err)
	}
	return nil
}
