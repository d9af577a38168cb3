package agent

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/musterhq/muster/agent/pause"
	"github.com/musterhq/muster/cluster/store"
)

// coalesce is the least time between two reports of this host, and settle how long one waits for what else is about to change.
const (
	coalesce = 50 * time.Millisecond
	settle   = 2 * time.Millisecond
)

// reporter writes the states of the host's units when they have changed: of many units that part of the record which has.
type reporter struct {
	store  store.Store
	id     string
	states func(ctx context.Context) ([]store.UnitState, error) // sorted by name
	log    *slog.Logger

	changed signal // a state may have changed
	again   signal // whatever was written may be gone

	read    bool // written is what the store has
	written store.StateParts
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
			r.read = false
		}
		if err := pause.For(ctx, settle); err != nil {
			return err
		}
		if r.changed.lower(); r.again.lower() { // one report is for both
			r.read = false
		}
		wrote, err := r.report(ctx)
		if err != nil {
			r.log.Warn("cannot report the units' states", "err", err)
			r.changed.raise()
			err = between.Wait(ctx)
		} else if between.Reset(); wrote {
			err = pause.For(ctx, coalesce)
		}
		if err != nil {
			return err
		}
	}
}

// report says whether there was anything to write.
func (r *reporter) report(ctx context.Context) (wrote bool, err error) {
	units, err := r.states(ctx)
	if err != nil {
		return false, err
	}
	if err := r.recall(ctx); err != nil {
		return false, err
	}
	changed := store.RepackStates(r.written, store.PackStates(units))
	if len(changed) == 0 {
		return false, nil
	}
	return true, r.write(ctx, changed)
}

// write writes parts over those that were written last and over no others: a report whose answer was lost in a partition
// may reach the store when that heals, and must not replace those that were made since.
func (r *reporter) write(ctx context.Context, parts map[int]store.StatesRecord) error {
	first := store.StatesKey(r.id)
	var c store.Commit
	for n, record := range parts {
		key := store.PartKey(first, n)
		c.Guards = append(c.Guards, store.Guard{Key: key, Kind: store.GuardModRevision, Revision: r.written[n].Revision})
		if record.Units == nil {
			c.Ops = append(c.Ops, store.Delete(key))
			continue
		}
		data, err := store.Marshal(record)
		if err != nil {
			return err
		}
		c.Ops = append(c.Ops, store.Put(key, data))
	}
	revision, err := r.store.Commit(ctx, c)
	if err != nil {
		r.read = false
		return fmt.Errorf("cannot write %s: %w", first, err)
	}
	for n, record := range parts {
		if r.written[n] = (store.Entry[store.StatesRecord]{Record: record, Revision: revision}); record.Units == nil {
			delete(r.written, n)
		}
	}
	return nil
}

// recall reads what the store has of this host's states, unless that is known. What cannot be read is removed.
func (r *reporter) recall(ctx context.Context) error {
	if r.read {
		return nil
	}
	view, err := r.store.Range(ctx, store.StatesKey(r.id))
	if err != nil {
		return fmt.Errorf("cannot read what was reported: %w", err)
	}
	tables := store.NewTables()
	tables.Read(view)
	for key := range tables.Bad {
		if _, err := r.store.Commit(ctx, store.Commit{Ops: []store.Op{store.Delete(key)}}); err != nil {
			return fmt.Errorf("cannot remove %s, which cannot be read: %w", key, err)
		}
	}
	if r.written = tables.StateParts[r.id]; r.written == nil {
		r.written = store.StateParts{}
	}
	r.read = true
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

// lower takes a signal back and says whether there was one.
func (s signal) lower() bool {
	select {
	case <-s:
		return true
	default:
		return false
	}
}
