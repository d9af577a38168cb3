package agent

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/musterhq/muster/agent/control"
	"github.com/musterhq/muster/agent/fleet"
	"github.com/musterhq/muster/agent/health"
	"github.com/musterhq/muster/agent/runtime"
	"github.com/musterhq/muster/agent/runtime/process"
	"github.com/musterhq/muster/agent/unitfile"
	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/store"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// fakeRuntime runs units in memory. It outlives agents, as units do.
type fakeRuntime struct {
	mu      sync.Mutex
	units   map[string]*runtime.Status
	starts  map[string]int
	stops   map[string]int
	reloads map[string]int
	slow    map[string]time.Duration // how long stopping a unit takes
	files   map[string]unitfile.File // that were loaded
	changed chan struct{}
	guard   *fakeGuard // nil for a runtime that cannot hold strict units
}

func newFakeRuntime() *fakeRuntime {
	return &fakeRuntime{
		units: map[string]*runtime.Status{}, starts: map[string]int{}, stops: map[string]int{}, slow: map[string]time.Duration{},
		files: map[string]unitfile.File{}, reloads: map[string]int{}, changed: make(chan struct{}, 1),
	}
}

func (f *fakeRuntime) tell() {
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

func (f *fakeRuntime) Load(_ context.Context, u runtime.Unit) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.units[u.Name]
	if s == nil {
		s = &runtime.Status{Name: u.Name, Load: "loaded", Active: "inactive", Sub: "dead", Since: time.Now()}
		f.units[u.Name] = s
	}
	s.Hash, f.files[u.Name] = u.Hash, u.File
	f.guard.loaded(u)
	f.tell()
	return nil
}

// file is what was loaded for a unit.
func (f *fakeRuntime) file(name string) unitfile.File {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.files[name]
}

func (f *fakeRuntime) Start(_ context.Context, name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.units[name]
	if s == nil {
		return runtime.ErrNotLoaded
	}
	if s.Active == "active" {
		return nil
	}
	if err := f.guard.starts(name); err != nil {
		return err
	}
	s.Active, s.Sub, s.RunningHash, s.Since, s.Reason = "active", "running", s.Hash, time.Now(), ""
	f.starts[name]++
	f.tell()
	return nil
}

func (f *fakeRuntime) Stop(ctx context.Context, name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.units[name]
	if s == nil {
		return runtime.ErrNotLoaded
	}
	if s.Active != "active" {
		return nil
	}
	if d := f.slow[name]; d > 0 {
		s.Active, s.Sub = "deactivating", "stop-sigterm"
		f.tell()
		f.mu.Unlock()
		select {
		case <-time.After(d):
		case <-ctx.Done():
		}
		f.mu.Lock()
	}
	s.Active, s.Sub, s.RunningHash, s.Since = "inactive", "dead", "", time.Now()
	f.stops[name]++
	f.tell()
	return nil
}

// Reload implements runtime.Reloader.
func (f *fakeRuntime) Reload(_ context.Context, name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch s := f.units[name]; {
	case s == nil:
		return runtime.ErrNotLoaded
	case s.Active != "active":
		return runtime.ErrNotActive
	case !bytes.Contains(f.files[name].Bytes(), []byte("ExecReload=")):
		return runtime.ErrNoReload
	}
	f.reloads[name]++
	return nil
}

func (f *fakeRuntime) Unload(_ context.Context, name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.units, name)
	f.tell()
	return nil
}

func (f *fakeRuntime) List(context.Context) ([]runtime.Status, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []runtime.Status
	for _, s := range f.units {
		list = append(list, *s)
	}
	slices.SortFunc(list, func(a, b runtime.Status) int { return cmp.Compare(a.Name, b.Name) })
	return list, nil
}

func (f *fakeRuntime) Changed() <-chan struct{} { return f.changed }

func (f *fakeRuntime) Logs(_ context.Context, name string, q runtime.LogQuery, yield func([]runtime.LogEntry) error) error {
	return yield([]runtime.LogEntry{{Level: runtime.DefaultLevel, Message: fmt.Appendf(nil, "%s %d", name, q.Lines)}})
}

func (f *fakeRuntime) Close() error { return nil }

// active is the names of units that run, sorted.
func (f *fakeRuntime) active() []string {
	list, _ := f.List(context.Background())
	var names []string
	for _, s := range list {
		if s.Active == "active" {
			names = append(names, s.Name)
		}
	}
	return names
}

func (f *fakeRuntime) started(name string) int { return f.count(f.starts, name) }
func (f *fakeRuntime) stopped(name string) int { return f.count(f.stops, name) }

func (f *fakeRuntime) count(calls map[string]int, name string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return calls[name]
}

// delay has a unit take its time to stop.
func (f *fakeRuntime) delay(name string, d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.slow[name] = d
}

// reboot forgets every unit, as a boot of the host does.
func (h *simHost) reboot() {
	h.runtime.mu.Lock()
	defer h.runtime.mu.Unlock()
	clear(h.runtime.units)
	h.boot += " again"
}

// fail has a unit end by itself.
func (f *fakeRuntime) fail(name, reason string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.units[name]
	s.Active, s.Sub, s.Reason, s.RunningHash, s.Since = "failed", "failed", reason, "", time.Now()
	f.tell()
}

// exit has a unit come to its end.
func (f *fakeRuntime) exit(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.units[name]
	s.Active, s.Sub, s.Reason, s.RunningHash, s.Since = "inactive", "dead", "exit status 0", "", time.Now()
	f.tell()
}

// world is a cluster of simulated hosts over a store in memory, with one scheduling leader that no host is.
type world struct {
	t     *testing.T
	store *store.Memory
	hosts map[int]*simHost
	began time.Time

	guarded bool     // hosts can hold strict units
	ill     sync.Map // SHA-256 of the contents with which no unit is healthy
}

// simHost is a host whose agent, connection and runtime can be broken one by one.
type simHost struct {
	w       *world
	n       int
	boot    string // ID
	dir     string
	runtime *fakeRuntime
	ill     atomic.Bool // what all health checks here say
	conn    *store.MemoryClient
	stop    func()
	states  func(t *testing.T) ([]store.UnitState, error) // that the agent would report

	executor *executor
}

const simLease = 5 * time.Second

func newWorld(t *testing.T, hosts int) *world { return newWorldOf(t, hosts, false) }

func newWorldOf(t *testing.T, hosts int, guarded bool) *world {
	w := &world{t: t, store: store.NewMemory(time.Now), hosts: map[int]*simHost{}, began: time.Now(), guarded: guarded}
	t.Cleanup(func() { _ = w.store.Close() })
	conn := w.store.Client()
	scheduler := &control.Scheduler{Store: conn, Log: quiet()}
	roller := &control.Roller{Store: conn, Now: time.Now, Log: quiet()}
	leader := &control.Leader{
		Store: conn, Candidate: "leader", Log: quiet(), Duties: []control.Duty{scheduler.Run, roller.Run},
		First: func(context.Context, store.Guard) error { return nil },
	}
	w.background(leader.Run, func() { _ = conn.Close() })
	for n := range hosts {
		w.add(n + 1)
	}
	return w
}

// background runs something until the test or the function returned ends it.
func (w *world) background(run func(context.Context) error, after func()) (stop func()) {
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			w.t.Errorf("ended with %v", err)
		}
		after()
	})
	w.t.Cleanup(stop)
	return stop
}

func (w *world) add(n int) *simHost {
	h := &simHost{w: w, n: n, boot: "first", dir: w.t.TempDir(), runtime: newFakeRuntime()}
	if w.guarded {
		h.runtime.guard = w.guards(h)
	}
	w.hosts[n] = h
	write(w, store.RosterKey(id(n)), store.Marshal[store.RosterRecord], store.RosterRecord{Host: roster.Host{
		ID: id(n), Name: fmt.Sprintf("node-%d", n), Generation: 1, Provider: "cloud-a", Address: "127.0.0.1", Ports: roster.DefaultPorts(),
	}})
	h.start()
	return h
}

// find finds podman on hosts with an odd number.
func (h *simHost) find(program string) (string, error) {
	if program == "podman" && h.n%2 == 1 {
		return "/usr/bin/podman", nil
	}
	return "", exec.ErrNotFound
}

// start starts the host's agent.
func (h *simHost) start() {
	h.conn = h.w.store.Client()
	conn := h.conn
	base := h.w.began
	contact := newContact(control.SessionTTL(simLease), h.runtime, func() time.Duration { return time.Since(base) }, quiet())
	her := &herald{
		store: conn, id: id(h.n), facts: roster.Facts{Hostname: fmt.Sprintf("node-%d", h.n)}, hold: contact.holdMillis(), log: quiet(),
		news: newSignal(), writing: make(chan struct{}, 1),
	}
	rep := &reporter{store: conn, id: id(h.n), log: quiet(), changed: newSignal(), again: newSignal()}
	kept := files{dir: h.dir + "/files", store: conn}
	execute := &executor{
		store: conn, id: id(h.n), runtime: h.runtime, log: quiet(), changed: rep.changed.raise,
		files: kept, checks: newChecks(kept, process.Config{Path: "/bin:/usr/bin"}, quiet()), last: lastSchedule{path: h.dir + "/schedule.json"},
		started: startedUnits{path: h.dir + "/started.json", boot: h.boot},
		contact: contact, gaveUp: her.gaveUp, look: newSignal(), again: newSignal(),

		containers: containers{systemd: true, find: h.find},
	}
	contact.changed = execute.look.raise
	h.executor = execute
	execute.checks.Checker = health.New(h.answer)
	rep.states = execute.states
	pres := &presence{
		store: conn, id: id(h.n), ttl: control.SessionTTL(simLease), now: time.Now, log: quiet(), begun: rep.again.raise,
		herald: her, contact: contact,
	}
	h.states = func(t *testing.T) ([]store.UnitState, error) { return execute.states(t.Context()) }
	h.stop = h.w.background(func(ctx context.Context) error {
		g, ctx := errgroup.WithContext(ctx)
		for _, run := range []func(context.Context) error{execute.run, rep.run, pres.run, her.run} {
			g.Go(func() error { return run(ctx) })
		}
		return g.Wait()
	}, func() { _ = conn.Close() })
}

func write[T any](w *world, key string, marshal func(T) ([]byte, error), value T) {
	w.t.Helper()
	data, err := marshal(value)
	if err != nil {
		w.t.Fatal(err)
	}
	w.commit(store.Put(key, data))
}

func (w *world) commit(ops ...store.Op) {
	w.t.Helper()
	if _, err := w.store.Commit(w.t.Context(), store.Commit{Ops: ops}); err != nil {
		w.t.Fatal(err)
	}
}

const body = "[Service]\nExecStart=/bin/sleep 1\n"

// submit writes a unit as a voter would.
func (w *world) submit(name, content string, desired store.Desired) {
	w.t.Helper()
	sum := store.FileSum([]byte(content))
	data, err := store.Marshal(store.UnitRecord{File: sum, Desired: desired})
	if err != nil {
		w.t.Fatal(err)
	}
	w.commit(store.Put(store.FileKey(sum), []byte(content)), store.Put(store.UnitKey(name), data))
}

// expect compares what runs where, "1: a.service b.service".
func (w *world) expect(what string, want ...string) {
	w.t.Helper()
	var got []string
	for n := range len(w.hosts) {
		line := fmt.Sprintf("%d:", n+1)
		for _, name := range w.hosts[n+1].runtime.active() {
			line += " " + name
		}
		got = append(got, line)
	}
	if !slices.Equal(got, want) {
		w.t.Errorf("%s: %q run, want %q", what, got, want)
	}
}

func (w *world) view() fleet.View {
	w.t.Helper()
	v, err := fleet.Load(w.t.Context(), w.store, fleet.StatusPrefixes, true)
	if err != nil {
		w.t.Fatal(err)
	}
	return v
}
