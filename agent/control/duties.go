package control

import (
	"context"
	"log/slog"
	"time"

	"github.com/musterhq/muster/agent/fleet"
	"github.com/musterhq/muster/agent/pause"
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
