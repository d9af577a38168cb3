package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/agent/fleet"
	"github.com/musterhq/muster/agent/pause"
	"github.com/musterhq/muster/cluster/store"
)

// watchPace collects changes for watchers of the status; probeEvery is how often voters are asked for them.
var watchPace = store.Pace{Settle: 20 * time.Millisecond, Bound: 100 * time.Millisecond}

const probeEvery = 2 * time.Second

var errEnough = errors.New("the watcher has seen enough")

// WatchStatus begins with what Status says, then follows the records and asks the voters now and then. While the store
// is away the last records are shown, as stale.
func (s *service) WatchStatus(ctx context.Context, yield func(api.Status) bool) error {
	view, health, stale, err := s.read(ctx, fleet.StatusPrefixes)
	if err != nil {
		return err
	}
	w := &watcher{service: s, yield: yield, records: make(chan api.Status), health: make(chan []fleet.VoterHealth)}
	first := s.describe(ctx, view, stale)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return store.Follow(ctx, s.store, fleet.StatusPrefixes, watchPace, func(t *store.Tables) error {
			return hand(ctx, w.records, s.describe(ctx, fleet.View{Tables: t}, false))
		})
	})
	g.Go(func() error { return w.keepProbing(ctx) })
	g.Go(func() error { return w.combine(ctx, first, health) })
	if err := g.Wait(); !errors.Is(err, errEnough) && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// watcher is one call of WatchStatus.
type watcher struct {
	*service
	yield   func(api.Status) bool
	records chan api.Status
	health  chan []fleet.VoterHealth
	last    []byte
}

// hand gives a value to the goroutine that combines them.
func hand[T any](ctx context.Context, to chan<- T, value T) error {
	select {
	case to <- value:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (w *watcher) keepProbing(ctx context.Context) error {
	for {
		if err := hand(ctx, w.health, w.probe(ctx, w.voters())); err != nil {
			return err
		}
		if err := pause.For(ctx, probeEvery); err != nil {
			return err
		}
	}
}

// combine yields a status whenever one of its two halves has changed.
func (w *watcher) combine(ctx context.Context, records api.Status, health []fleet.VoterHealth) error {
	for {
		status := fleet.WithVoters(records, health)
		status.Stale = !fleet.Quorate(health)
		if err := w.send(status); err != nil {
			return err
		}
		select {
		case records = <-w.records:
		case health = <-w.health:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// send yields a status that is not the same as the last one.
func (w *watcher) send(s api.Status) error {
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if bytes.Equal(data, w.last) {
		return nil
	}
	w.last = data
	if !w.yield(s) {
		return errEnough
	}
	return nil
}
