package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/musterhq/muster/agent/pause"
	"github.com/musterhq/muster/cluster/store"
)

// longestPause is how long a manager whose store is away waits at most before it tries again.
const longestPause = 2 * time.Second

// presence keeps the host's session, its alive record bound to it, and what the host says of itself. When the session is
// lost it begins another.
type presence struct {
	store store.Store
	id    string
	ttl   time.Duration // of the session
	now   func() time.Time
	log   *slog.Logger
	begun func() // told at the beginning of each session

	herald  *herald
	contact *contact

	alive atomic.Bool
}

// run ends with ctx. The session is not revoked then: units go on while the agent restarts, and so does the host for
// those who ask.
func (p *presence) run(ctx context.Context) error {
	between := pause.New(longestPause)
	for {
		err := p.hold(ctx, between.Reset)
		p.alive.Store(false)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		p.log.Warn("the store does not know this host to be alive", "err", err)
		if err := between.Wait(ctx); err != nil {
			return err
		}
	}
}

// hold begins a session and returns when it has ended.
func (p *presence) hold(ctx context.Context, begun func()) error {
	sent := p.contact.clock()
	session, err := p.store.NewSession(ctx, p.ttl)
	if err != nil {
		return fmt.Errorf("cannot begin a session: %w", err)
	}
	id := session.ID()
	session.Observe(p.contact.clock, func(sent time.Duration) { p.contact.renewed(id, sent) })
	p.contact.renewed(id, sent)
	defer func() {
		if ctx.Err() == nil { // else the agent ends, and the session goes on
			p.contact.lost(id)
		}
	}()
	lost := make(chan error, 1)
	living, end := context.WithCancel(ctx)
	defer end()
	removed := make(chan struct{})
	go func() {
		defer end()
		select {
		case <-session.Done():
			lost <- store.ErrSessionLost
		case <-removed:
			lost <- errRemoved
		case <-living.Done():
			lost <- ctx.Err()
		}
	}()
	if announced, err := p.begin(living, session); err == nil {
		begun()
		if p.gone(living, announced) {
			close(removed)
		}
	}
	err = <-lost
	if errors.Is(err, errRemoved) {
		_ = session.Revoke(ctx) // most likely it is what has ended
	}
	return err
}

// begin announces the host under a session until that succeeds. A session whose announcement failed is not revoked: the
// record may be there all the same, and would go with it.
func (p *presence) begin(ctx context.Context, session store.Session) (revision int64, err error) {
	failed := func(err error) { p.log.Warn("cannot announce this host", "err", err) }
	err = pause.Until(ctx, longestPause, failed, func() (err error) {
		revision, err = p.announce(ctx, session)
		return err
	})
	if err == nil {
		p.begun() // first, so that what the contact changes is reported with it
		p.contact.announced(session.ID(), revision)
		p.alive.Store(true)
		p.log.Info("alive in the cluster", "session", fmt.Sprintf("%x", session.ID()))
	}
	return revision, err
}

var errRemoved = errors.New("the record of this host's life was removed")

// gone waits until the record is removed, of which the session itself would hear only at its next sign of life. It
// returns false when ctx ends or the store does not tell.
func (p *presence) gone(ctx context.Context, announced int64) bool {
	for change := range p.store.Watch(ctx, store.AliveKey(p.id), announced) {
		if slices.ContainsFunc(change.Events, func(e store.Event) bool { return e.Deleted }) {
			return true
		}
	}
	return false
}

// announce returns the revision at which it wrote the alive record under the session, and what the host says of itself.
func (p *presence) announce(ctx context.Context, session store.Session) (revision int64, err error) {
	alive, err := store.Marshal(store.Alive{Since: p.now()})
	if err != nil {
		return 0, err
	}
	return p.herald.write(ctx, &store.Op{Key: store.AliveKey(p.id), Value: alive, Session: session.ID()})
}
