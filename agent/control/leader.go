package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/musterhq/muster/agent/pause"
	"github.com/musterhq/muster/cluster/store"
)

// sessionTTL is how long a leader that has frozen keeps others from taking over. It is below the lease of any host, so
// that a new leader is there when the lease of the old one's host ends. etcd takes whole seconds, and no less than 1.5
// election timeouts.
const sessionTTL = 2 * time.Second

// longestPause is how long a leader or candidate that failed waits at most before it tries again.
const longestPause = time.Second

// goodbye bounds how long a leader that is told to end tries to give way.
const goodbye = 500 * time.Millisecond

// Duty is something that the leader does for as long as it leads. Every write carries the fence.
type Duty func(ctx context.Context, fence store.Guard) error

// Leader campaigns for the scheduling leadership and, while it leads, does its duties.
type Leader struct {
	Store     store.Store
	Candidate string // the host's name
	// First is done before anything else; a leadership without it is given up. Duties are done side by side.
	First  Duty
	Duties []Duty
	Log    *slog.Logger
}

var errDeposed = errors.New("no longer the leader")

// Run campaigns and leads, again and again, until ctx ends.
func (l *Leader) Run(ctx context.Context) error {
	between := pause.New(longestPause)
	for {
		began := time.Now()
		err := l.term(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if time.Since(began) > sessionTTL {
			between.Reset()
		}
		l.Log.Warn("do not lead the scheduling", "err", err)
		if err := between.Wait(ctx); err != nil {
			return err
		}
	}
}

// term is one candidacy and the leadership that follows.
func (l *Leader) term(ctx context.Context) error {
	session, err := l.Store.NewSession(ctx, sessionTTL)
	if err != nil {
		return fmt.Errorf("cannot begin a session: %w", err)
	}
	defer l.leave(ctx, session)
	lead, err := l.Store.Campaign(ctx, store.PrefixLeader, l.Candidate, session)
	if err != nil {
		return err
	}
	l.Log.Info("lead the scheduling")
	return l.serve(ctx, lead)
}

func (l *Leader) serve(ctx context.Context, lead store.Leadership) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		select {
		case <-lead.Done():
			return errDeposed
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	g.Go(func() error {
		if err := l.First(ctx, lead.Fence()); err != nil {
			return err
		}
		for _, duty := range l.Duties {
			g.Go(func() error { return duty(ctx, lead.Fence()) })
		}
		return nil
	})
	return g.Wait()
}

// leave makes way for the next leader at once: the candidate's key goes with the session. When it fails the session's own
// end does.
func (l *Leader) leave(ctx context.Context, s store.Session) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbye)
	defer cancel()
	if err := s.Revoke(ctx); err != nil {
		l.Log.Debug("could not end the session", "err", err)
	}
}
