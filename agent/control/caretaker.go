package control

import (
	"context"
	"log/slog"
	"time"

	"github.com/musterhq/muster/agent/pause"
	"github.com/musterhq/muster/cluster/membership"
)

// How often the store's databases are looked at: for an alarm, which stops all writes, and while there is something to do.
const (
	upkeepEvery = 10 * time.Second
	upkeepSoon  = time.Second
)

// Caretaker keeps the store's databases small, and makes room when their quota is used up: at the voter that leads etcd. Who
// leads the scheduling has nothing to do with it, since no other could be elected in a store that takes no writes.
type Caretaker struct {
	Leads func() bool // voter.Voter.Leads
	// Maintain is voter.Control.Maintain.
	Maintain func(ctx context.Context, compacted bool) (membership.Upkeep, error)
	Log      *slog.Logger
}

// Run looks now and then until ctx ends. All of it may be repeated, and be done by two that both take themselves for the leader.
func (c *Caretaker) Run(ctx context.Context) error {
	compacted, wait := false, upkeepEvery
	for {
		if err := pause.For(ctx, wait); err != nil {
			return err
		}
		wait = upkeepEvery
		if !c.Leads() {
			compacted = false
			continue
		}
		done, err := c.Maintain(ctx, compacted)
		switch {
		case err != nil && ctx.Err() == nil:
			c.Log.Warn("the store's databases are not looked after", "err", err)
		case done.Kind != membership.UpkeepNone:
			compacted, wait = done.Kind != membership.Disarm, upkeepSoon
		case done.Reason != "" && compacted:
			c.Log.Error("the store stays full", "reason", done.Reason)
			compacted = false
		default:
			compacted = false
		}
	}
}
