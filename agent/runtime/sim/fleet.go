package sim

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/musterhq/muster/agent/reconcile"
	"github.com/musterhq/muster/agent/runtime"
	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/store"
)

// Config is what a Fleet is made of.
type Config struct {
	// Stores are connections that the hosts share. At least one.
	Stores []store.Store
	Hosts  []roster.Host
	Facts  roster.Facts  // of each host, but for its name
	Lease  time.Duration // of the sessions that the hosts share
	Now    func() time.Time
	Log    *slog.Logger
}

// Fleet is hosts that do what their schedules say and report it. In the store they look like any others, but for their
// sessions: a session's end is that of all hosts that share it.
type Fleet struct {
	Config
	shards []*shard
}

// How hosts share: each shard is worked on by one goroutine, with one session. A host's reports come one after the other.
const (
	shards = 64
	writes = store.MaxOps // records of hosts in one commit, when they join
)

// shard is some of the hosts. Their states are its goroutine's.
type shard struct {
	*Fleet
	store   store.Store
	members []roster.Host
	hosts   map[string]*host
	updates chan update
}

// update is a host's schedule as it is now.
type update struct {
	host   string
	record store.ScheduleRecord
}

// host is one simulated host.
type host struct {
	runtime  *Runtime
	started  reconcile.Started
	reported store.StateParts
}

// NewFleet makes a fleet that does nothing yet.
func NewFleet(c Config) (*Fleet, error) {
	if len(c.Stores) == 0 {
		return nil, errors.New("cannot simulate hosts without a store")
	}
	f := &Fleet{Config: c}
	for i := range shards {
		f.shards = append(f.shards, &shard{
			Fleet: f, store: c.Stores[i%len(c.Stores)], hosts: make(map[string]*host), updates: make(chan update, shards),
		})
	}
	for i, h := range c.Hosts {
		s := f.shards[i%shards]
		s.members = append(s.members, h)
		s.hosts[h.ID] = &host{runtime: New(c.Now), started: reconcile.Started{}, reported: store.StateParts{}}
	}
	return f, nil
}

// Run has the hosts join and do what their schedules say, until ctx ends or one cannot.
func (f *Fleet) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, s := range f.shards {
		g.Go(func() error { return s.run(ctx) })
	}
	g.Go(func() error { return f.follow(ctx) })
	return g.Wait()
}

// follow tells the shards of every change of a schedule. All hosts share one watch, of which each event is for one.
func (f *Fleet) follow(ctx context.Context) error {
	byHost := make(map[string]*shard, len(f.Hosts))
	for _, s := range f.shards {
		for id := range s.hosts {
			byHost[id] = s
		}
	}
	told := make(map[string]int64, len(f.Hosts)) // host → revision
	return store.Follow(ctx, f.Stores[0], []string{store.PrefixSchedule}, store.Pace{}, func(t *store.Tables) error {
		for _, err := range t.Bad {
			return fmt.Errorf("cannot use a schedule: %w", err)
		}
		for id, entry := range t.Schedule {
			s := byHost[id]
			if s == nil || entry.Revision <= told[id] {
				continue
			}
			told[id] = entry.Revision
			select {
			case s.updates <- update{host: id, record: entry.Record}:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
}

func (s *shard) run(ctx context.Context) error {
	session, err := s.store.NewSession(ctx, s.Lease)
	if err != nil {
		return fmt.Errorf("cannot simulate hosts: %w", err)
	}
	if err := s.join(ctx, session.ID()); err != nil {
		return fmt.Errorf("cannot simulate hosts: %w", err)
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-session.Done():
			return fmt.Errorf("cannot simulate hosts: %w", store.ErrSessionLost)
		case u := <-s.updates:
			if err := s.obey(ctx, u); err != nil {
				return err
			}
		}
	}
}

// join says of every host what it is and that it lives.
func (s *shard) join(ctx context.Context, session int64) error {
	var ops []store.Op
	for _, h := range s.members {
		facts := s.Facts
		facts.Hostname, facts.Ports = h.Name, h.Ports
		about, err := store.Marshal(store.HostRecord{Facts: facts})
		if err != nil {
			return err
		}
		alive, err := store.Marshal(store.Alive{Since: s.Now()})
		if err != nil {
			return err
		}
		lives := store.Put(store.AliveKey(h.ID), alive)
		lives.Session = session
		ops = append(ops, store.Put(store.HostKey(h.ID), about), lives)
	}
	for batch := range slices.Chunk(ops, writes) {
		if _, err := s.store.Commit(ctx, store.Commit{Ops: batch}); err != nil {
			return err
		}
	}
	return nil
}

// obey makes a host's units what its schedule says, and reports them.
func (s *shard) obey(ctx context.Context, u update) error {
	h := s.hosts[u.host]
	wanted := make([]store.ScheduledUnit, 0, u.record.Len())
	if err := h.apply(ctx, slices.AppendSeq(wanted, u.record.Each())); err != nil {
		return err
	}
	states, err := h.states(ctx)
	if err != nil {
		return err
	}
	return s.report(ctx, h, store.StatesKey(u.host), store.PackStates(states))
}

// report writes the parts of a host's states that have changed.
func (s *shard) report(ctx context.Context, h *host, key string, states []store.UnitState) error {
	var c store.Commit
	for n, record := range store.RepackStates(h.reported, states) {
		if record.Units == nil {
			c.Ops = append(c.Ops, store.Delete(store.PartKey(key, n)))
			delete(h.reported, n)
			continue
		}
		data, err := store.Marshal(record)
		if err != nil {
			return err
		}
		c.Ops = append(c.Ops, store.Put(store.PartKey(key, n), data))
		h.reported[n] = store.Entry[store.StatesRecord]{Record: record}
	}
	if len(c.Ops) == 0 {
		return nil
	}
	if _, err := s.store.Commit(ctx, c); err != nil {
		return fmt.Errorf("cannot write %s: %w", key, err)
	}
	return nil
}

func (h *host) apply(ctx context.Context, wanted []store.ScheduledUnit) error {
	actual, err := h.runtime.List(ctx)
	if err != nil {
		return err
	}
	tasks, still := reconcile.Plan(wanted, actual, h.started)
	h.started = still
	for _, t := range tasks {
		if err := h.do(ctx, t); err != nil {
			return err
		}
		h.started.Done(t)
	}
	return nil
}

func (h *host) do(ctx context.Context, t reconcile.Task) error {
	switch t.Kind {
	case reconcile.Load:
		return h.runtime.Load(ctx, runtime.Unit{Name: t.Unit, Hash: t.File})
	case reconcile.Start:
		return h.runtime.Start(ctx, t.Unit)
	case reconcile.Stop:
		return h.runtime.Stop(ctx, t.Unit)
	default:
		return h.runtime.Unload(ctx, t.Unit)
	}
}

func (h *host) states(ctx context.Context) ([]store.UnitState, error) {
	observed, err := h.runtime.List(ctx)
	if err != nil {
		return nil, err
	}
	states := make([]store.UnitState, 0, len(observed))
	for _, s := range observed {
		states = append(states, store.UnitState{
			Name: s.Name, File: cmp.Or(s.RunningHash, s.Hash), Load: s.Load, Active: s.Active, Sub: s.Sub, Reason: s.Reason,
			Since: s.Since,
		})
	}
	return states, nil
}
