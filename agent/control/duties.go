package control

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/musterhq/muster/agent/fleet"
	"github.com/musterhq/muster/agent/pause"
	"github.com/musterhq/muster/cluster/membership"
	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/store"
)

// accessEvery is how often access is compared with the roster, for what a removal that was cut short left behind.
const accessEvery = 10 * time.Minute

// Guardian is the leader's duty to give the members of the roster, and nobody else, access to the store.
type Guardian struct {
	Store store.Store
	// Ensure is voter.Control.EnsureAuth.
	Ensure func(ctx context.Context, members roster.Roster) error
	Log    *slog.Logger
}

// Run ends with ctx or when access cannot be ensured: another leader may be able to.
func (g *Guardian) Run(ctx context.Context, _ store.Guard) error {
	for {
		v, err := fleet.Load(ctx, g.Store, []string{store.PrefixRoster}, false)
		if err != nil {
			return err
		}
		if err := g.Ensure(ctx, v.Members()); err != nil {
			return err
		}
		if err := pause.For(ctx, accessEvery); err != nil {
			return err
		}
	}
}

// How often etcd's members are looked at: while a change of them may be due, and otherwise.
const (
	membersSoon  = time.Second
	membersEvery = 5 * time.Second
)

// Registrar is the leader's duty to bring etcd's members in line with the roster. Its steps cannot carry the fence; each
// is decided from what is true at that moment, and would be the same for any leader.
type Registrar struct {
	Store store.Store
	// Step is voter.Control.Step.
	Step func(ctx context.Context) (membership.Step, error)
	Log  *slog.Logger
}

// Run looks after every change of the roster and now and then, until ctx ends.
func (r *Registrar) Run(ctx context.Context, _ store.Guard) error {
	changed := make(chan struct{}, 1)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return store.Follow(ctx, r.Store, []string{store.PrefixRoster}, pace, func(*store.Tables) error {
			select {
			case changed <- struct{}{}:
			default:
			}
			return nil
		})
	})
	g.Go(func() error { return r.loop(ctx, changed) })
	return g.Wait()
}

func (r *Registrar) loop(ctx context.Context, changed <-chan struct{}) error {
	timer := time.NewTimer(membersSoon)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		case <-timer.C:
		}
		timer.Reset(r.once(ctx))
	}
}

// once does the next step, if there is one, and says when to look again.
func (r *Registrar) once(ctx context.Context) time.Duration {
	step, err := r.Step(ctx)
	switch {
	case err != nil && !errors.Is(err, context.Canceled):
		r.Log.Warn("cannot bring etcd's members in line with the roster", "err", err)
		return membersSoon
	case step.Kind != membership.None:
		return membersSoon
	case step.Host != "" || step.Member != 0:
		r.Log.Info("a change of etcd's members waits", "host", step.Host, "reason", step.Reason)
		return membersSoon
	}
	return membersEvery
}
