package agent

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/musterhq/muster/agent/pause"
	"github.com/musterhq/muster/cluster/store"
)

// coalesce is the least time between two reports of this host.
const coalesce = 50 * time.Millisecond

// reporter writes the state of every unit of the host into one record, when it has changed.
type reporter struct {
	store  store.Store
	id     string
	states func(ctx context.Context) ([]store.UnitState, error) // sorted by name
	log    *slog.Logger

	changed signal // a state may have changed
	again   signal // whatever was written may be gone

	written []byte
}

// run ends with ctx. What cannot be written is tried again, and anew when a session begins.
func (r *reporter) run(ctx context.Context) error {
	between := pause.New(longestPause)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-r.changed:
		case <-r.again:
			r.written = nil
		}
		err := r.report(ctx)
		if err == nil {
			between.Reset()
			err = pause.For(ctx, coalesce)
		} else {
			r.log.Warn("cannot report the units' states", "err", err)
			r.changed.raise()
			err = between.Wait(ctx)
		}
		if err != nil {
			return err
		}
	}
}

func (r *reporter) report(ctx context.Context) error {
	units, err := r.states(ctx)
	if err != nil {
		return err
	}
	data, err := store.Marshal(store.StatesRecord{Units: store.PackStates(units)})
	if err != nil || bytes.Equal(data, r.written) {
		return err
	}
	key := store.StatesKey(r.id)
	if _, err := r.store.Commit(ctx, store.Commit{Ops: []store.Op{store.Put(key, data)}}); err != nil {
		return fmt.Errorf("cannot write %s: %w", key, err)
	}
	r.written = data
	return nil
}

// signal wakes one waiter; signals that nobody waited for coalesce.
type signal chan struct{}

func newSignal() signal { return make(signal, 1) }

func (s signal) raise() {
	select {
	case s <- struct{}{}:
	default:
	}
}
