package fleet

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/musterhq/muster/cluster/store"
)

// Reader is what the package needs of a store.
type Reader interface {
	Range(ctx context.Context, prefix string) (store.View, error)
	RangeStale(ctx context.Context, prefix string) (store.View, error)
	Get(ctx context.Context, key string) (store.Item, error)
	Watch(ctx context.Context, prefix string, after int64) <-chan store.Change
}

// StatusPrefixes is what the status is made from. The order matters: each is read before those that it refers to, so
// that a host or a unit which appears in one is in the next.
var StatusPrefixes = []string{
	store.PrefixStates, store.PrefixSchedule, store.PrefixUnits, store.PrefixAlive, store.PrefixHosts, store.PrefixRoster,
	store.KeyCluster, store.PrefixLeader,
}

// Load reads the records under some prefixes. Prefixes that the store denies are left out, if not all of them are. With
// stale it asks whatever replica answers.
func Load(ctx context.Context, r Reader, prefixes []string, stale bool) (*View, error) {
	v := NewView()
	_, err := load(ctx, r, v, prefixes, stale)
	return v, err
}

// load returns the revision of each prefix that was read.
func load(ctx context.Context, r Reader, v *View, prefixes []string, stale bool) (map[string]int64, error) {
	read := r.Range
	if stale {
		read = r.RangeStale
	}
	revisions := make(map[string]int64, len(prefixes))
	var denied error
	for _, prefix := range prefixes {
		view, err := read(ctx, prefix)
		if errors.Is(err, store.ErrDenied) {
			denied = err
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read %s: %w", prefix, err)
		}
		revisions[prefix] = view.Revision
		for _, item := range view.Items {
			v.Apply(store.Event{Item: item})
		}
	}
	if len(revisions) == 0 {
		return nil, fmt.Errorf("cannot read the cluster: %w", denied)
	}
	return revisions, nil
}

// Follower reads records and then every change of them.
type Follower struct {
	Reader   Reader
	Prefixes []string
	Pace     Pace
	Poke     <-chan struct{} // asks for a call of changed although nothing has; may be nil
}

// Follow calls changed after the first read and after each batch of changes, from one goroutine; what it returns ends
// Follow. Follow ends with the store's error when a watch cannot go on: the caller begins anew.
func (f Follower) Follow(ctx context.Context, changed func(*View) error) error {
	v := NewView()
	revisions, err := load(ctx, f.Reader, v, f.Prefixes, false)
	if err != nil {
		return err
	}
	if err := changed(v); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	changes := make(chan store.Change)
	for prefix, after := range revisions {
		g.Go(func() error { return forward(ctx, f.Reader.Watch(ctx, prefix, after), changes) })
	}
	g.Go(func() error { return f.batches(ctx, changes, v, changed) })
	return g.Wait()
}

// forward copies one watch into the common channel.
func forward(ctx context.Context, from <-chan store.Change, to chan<- store.Change) error {
	for change := range from {
		if change.Err != nil {
			return fmt.Errorf("cannot follow the cluster: %w", change.Err)
		}
		select {
		case to <- change:
		case <-ctx.Done():
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return fmt.Errorf("cannot follow the cluster: the watch ended: %w", store.ErrUnavailable)
}

// Pace is how changes are collected into batches.
type Pace struct {
	Settle time.Duration // a batch ends when nothing more has come for so long
	Bound  time.Duration // and in any case so long after its first change
}

func (f Follower) batches(ctx context.Context, changes <-chan store.Change, v *View, changed func(*View) error) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-f.Poke:
		case change := <-changes:
			f.Pace.collect(ctx, v, change, changes)
		}
		if err := changed(v); err != nil {
			return err
		}
	}
}

// collect applies a change and what follows it closely.
func (p Pace) collect(ctx context.Context, v *View, change store.Change, changes <-chan store.Change) {
	bound := time.NewTimer(p.Bound)
	defer bound.Stop()
	settle := time.NewTimer(p.Settle)
	defer settle.Stop()
	for {
		for _, e := range change.Events {
			v.Apply(e)
		}
		settle.Reset(p.Settle)
		select {
		case change = <-changes:
		case <-settle.C:
			return
		case <-bound.C:
			return
		case <-ctx.Done():
			return
		}
	}
}
