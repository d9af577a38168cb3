package control

import (
	"context"
	"log/slog"
	"time"

	"github.com/musterhq/muster/agent/pause"
	"github.com/musterhq/muster/cluster/membership"
	"github.com/musterhq/muster/cluster/store"
)

// How often the store's databases are looked at: for an alarm, which stops all writes, and while there is something to do.
const (
	upkeepEvery = 30 * time.Second
	upkeepSoon  = time.Second
)

// Caretaker is the leader's duty to keep the store's databases small, and to make room when their quota is used up.
type Caretaker struct {
	// Maintain is voter.Control.Maintain.
	Maintain func(ctx context.Context, compacted bool) (membership.Upkeep, error)
	Log      *slog.Logger
}

// Run looks now and then until ctx ends. None of it is a write that a fence could keep out, and all of it may be repeated.
func (c *Caretaker) Run(ctx context.Context, _ store.Guard) error {
	compacted, wait := false, upkeepEvery
	for {
		if err := pause.For(ctx, wait); err != nil {
			return err
		}
		wait = upkeepEvery
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
