package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// followPause is how long Follow waits before it asks a store again that is away.
const followPause = 200 * time.Millisecond

// Pace is how changes are collected before they are visited together. The zero Pace visits at once.
type Pace struct {
	Settle time.Duration // until nothing more has come for so long
	Bound  time.Duration // and in any case so long after the first change
}

// Follow keeps Tables of everything below the prefixes, and calls visit after it has read them and after each change,
// with whatever else has changed by then, at the given pace. Tables are visit's until it returns; its error ends Follow.
//
// One prefix is seen as one: Tables are what the store was at Tables.Revision. Several prefixes may be a little apart.
// Follow waits out a store that is away, reads again after ErrCompacted, and returns when ctx ends, with ErrDenied, or
// when the store's client is closed (ErrUnavailable).
func Follow(ctx context.Context, s Store, prefixes []string, pace Pace, visit func(*Tables) error) error {
	for {
		err := followOnce(ctx, s, prefixes, pace, visit)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, ErrCompacted):
		case errors.Is(err, errAway):
			if !pause(ctx, followPause) {
				return ctx.Err()
			}
		default:
			return err
		}
	}
}

// errAway says that the store could not be read.
var errAway = errors.New("store is away")

func followOnce(ctx context.Context, s Store, prefixes []string, pace Pace, visit func(*Tables) error) error {
	tables := NewTables()
	revisions := make([]int64, len(prefixes))
	for i, prefix := range prefixes {
		view, err := s.Range(ctx, prefix)
		if errors.Is(err, ErrUnavailable) && !errors.Is(err, errClosed) {
			return fmt.Errorf("%w: %w", errAway, err)
		}
		if err != nil {
			return err
		}
		tables.Read(view)
		revisions[i] = view.Revision
	}
	if err := visit(tables); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	changes := make(chan Change)
	for i, prefix := range prefixes {
		watch := s.Watch(ctx, prefix, revisions[i])
		wg.Go(func() { forward(ctx, watch, changes) })
	}
	for {
		select {
		case change := <-changes:
			if err := pace.takeAll(ctx, tables, change, changes); err != nil {
				return err
			}
			if err := visit(tables); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// takeAll applies a change and those that follow it.
func (p Pace) takeAll(ctx context.Context, tables *Tables, change Change, changes <-chan Change) error {
	bound, settle := time.NewTimer(p.Bound), time.NewTimer(p.Settle)
	defer bound.Stop()
	defer settle.Stop()
	for {
		if change.Err != nil {
			return change.Err
		}
		tables.Apply(change)
		settle.Reset(p.Settle)
		select {
		case change = <-changes:
		case <-settle.C:
			return nil
		case <-bound.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// forward merges one watch into changes. A watch that ends without a word is a store that was closed.
func forward(ctx context.Context, watch <-chan Change, changes chan<- Change) {
	for {
		change, ok := <-watch
		if !ok && ctx.Err() != nil {
			return
		}
		if !ok {
			change = Change{Err: fmt.Errorf("cannot follow the store: %w", errClosed)}
		}
		select {
		case changes <- change:
		case <-ctx.Done():
			return
		}
		if change.Err != nil {
			return
		}
	}
}
