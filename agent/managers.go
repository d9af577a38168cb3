package agent

import (
	"context"
	"log/slog"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/musterhq/muster/agent/control"
	"github.com/musterhq/muster/agent/health"
	"github.com/musterhq/muster/agent/runtime"
	"github.com/musterhq/muster/agent/runtime/process"
	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/store"
)

// Managers are what an agent does for its host's units and for the host's place in the cluster: they keep its session, make
// its units what its schedule says, and report how they do. They need no certificate, port or etcd of their own, so that
// simulations run them as they are.
type Managers struct {
	Store   store.Store
	Runtime runtime.Runtime
	HostID  string
	Facts   roster.Facts
	Lease   time.Duration    // join.Config.Lease
	Root    string           // the host's root directory, below which the last schedule is kept
	Now     func() time.Time // of the wall clock
	// Clock is guard.Now: it never goes back, and goes on while the machine sleeps.
	Clock func() time.Duration
	// Exec makes the health checks that are commands. Nil runs them as processes of the host.
	Exec health.Exec
	Log  *slog.Logger

	processes  process.Config // how health checks that are commands are run
	containers containers

	executor *executor
	presence *presence
	reporter *reporter
	herald   *herald
}

func (m *Managers) assemble() {
	m.reporter = &reporter{store: m.Store, id: m.HostID, log: m.Log, changed: newSignal(), again: newSignal()}
	ttl := control.SessionTTL(m.Lease)
	contact := newContact(ttl, m.Runtime, m.Clock, m.Log)
	m.herald = &herald{
		store: m.Store, id: m.HostID, facts: m.Facts, hold: contact.holdMillis(), log: m.Log, news: newSignal(),
		writing: make(chan struct{}, 1),
	}
	kept := files{dir: filepath.Join(m.Root, filesPath), store: m.Store}
	checks := newChecks(kept, m.processes, m.Log)
	checks.containers = m.containers
	if m.Exec != nil {
		checks.Checker = health.New(m.Exec)
	}
	m.executor = &executor{
		store: m.Store, id: m.HostID, runtime: m.Runtime, log: m.Log, changed: m.reporter.changed.raise,
		files: kept, checks: checks,
		last:    lastSchedule{path: filepath.Join(m.Root, schedulePath)},
		started: startedUnits{path: filepath.Join(m.Root, startedPath), boot: m.Facts.BootID},
		contact: contact, gaveUp: m.herald.gaveUp, look: newSignal(), again: newSignal(),

		containers: m.containers,
	}
	contact.changed = m.executor.look.raise
	m.reporter.states = m.executor.states
	m.presence = &presence{
		store: m.Store, id: m.HostID, ttl: ttl, now: m.Now, log: m.Log, begun: m.reporter.again.raise, herald: m.herald,
		contact: contact,
	}
}

// Run does it all until ctx ends. Units go on after that.
func (m *Managers) Run(ctx context.Context) error {
	m.assemble()
	return m.run(ctx)
}

func (m *Managers) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, manager := range []func(context.Context) error{m.executor.run, m.reporter.run, m.presence.run, m.herald.run} {
		g.Go(func() error { return manager(ctx) })
	}
	return g.Wait()
}
