package fleetapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/musterhq/muster/agent/fleet"
	"github.com/musterhq/muster/cluster/store"
)

// mirrored is where units are and what hosts say of them. Each is read before those that it refers to.
var mirrored = []string{store.PrefixStates, store.PrefixSchedule, store.PrefixAlive, store.PrefixRoster}

// mirrorPace collects changes; idle is how long nobody asks before they are followed no more.
var mirrorPace = store.Pace{Settle: 20 * time.Millisecond, Bound: 100 * time.Millisecond}

const idle = time.Minute

// mirror has the records of all hosts at hand while somebody asks for them: clients of fleet ask four times a second and
// unit, and one answer takes the records of every host.
type mirror struct {
	store store.Store
	log   *slog.Logger
	wake  chan struct{} // holds one

	mu      sync.Mutex
	view    snapshot      // without Tables while nothing is followed
	changed chan struct{} // closed when there is another view
	asked   time.Time
}

// snapshot is a view that does not change any more, with what is made of it once, when it is asked for.
type snapshot struct {
	fleet.View
	all func() listing
}

func newMirror(s store.Store, log *slog.Logger) *mirror {
	return &mirror{store: s, log: log, wake: make(chan struct{}, 1), changed: make(chan struct{})}
}

var errIdle = errors.New("nobody asks")

// run follows the records from one question until there are none for a while, again and again until ctx ends.
func (m *mirror) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-m.wake:
		}
		if err := m.follow(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, errIdle) {
			m.log.Warn("fleet's API cannot follow the cluster's records", "err", err)
		}
		m.replace(snapshot{})
	}
}

func (m *mirror) follow(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return store.Follow(ctx, m.store, mirrored, mirrorPace, func(t *store.Tables) error {
			v := copyOf(t)
			m.replace(snapshot{v, sync.OnceValue(func() listing { return listAll(v) })})
			return nil
		})
	})
	g.Go(func() error { return m.untilIdle(ctx) })
	return g.Wait()
}

func (m *mirror) untilIdle(ctx context.Context) error {
	tick := time.NewTicker(idle / 4)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case now := <-tick.C:
			m.mu.Lock()
			quiet := now.Sub(m.asked) > idle
			m.mu.Unlock()
			if quiet {
				return errIdle
			}
		}
	}
}

func (m *mirror) replace(v snapshot) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.view = v
	close(m.changed)
	m.changed = make(chan struct{})
}

// copyOf keeps what is mirrored of tables that will change. Their records never do.
func copyOf(t *store.Tables) fleet.View {
	c := store.NewTables()
	c.Revision = t.Revision
	c.Roster, c.Alive = maps.Clone(t.Roster), maps.Clone(t.Alive)
	c.Schedule, c.States = maps.Clone(t.Schedule), maps.Clone(t.States)
	return fleet.View{Tables: c}
}

// now is the latest view. It waits for the first one.
func (m *mirror) now(ctx context.Context) (snapshot, error) {
	for {
		m.mu.Lock()
		view, changed := m.view, m.changed
		m.asked = time.Now()
		m.mu.Unlock()
		if view.Tables != nil {
			return view, nil
		}
		select {
		case m.wake <- struct{}{}:
		default:
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return view, fmt.Errorf("cannot read where units are: %w", ctx.Err())
		}
	}
}
