package systemd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"

	"github.com/musterhq/muster/agent/runtime"
)

// Config is what a Runtime needs to know.
type Config struct {
	// Root is where the host's file system is, "" for /. /proc/PID/root leads into a container.
	Root string
	// Bus is the address of the host's D-Bus, "" for the system bus below Root.
	Bus string
	// Journalctl is the command that reads the host's journal, "journalctl" when empty. Reading that of a container needs
	// one of the container's own version.
	Journalctl []string
	Env        []string // NAME=VALUE for every unit, which may set its own over them
	// Guard is the command that calls Guard on the host. Without it units of Singleton=strict are not started.
	Guard []string
	Log   *slog.Logger
}

// Runtime runs units with systemd. It implements runtime.Runtime and runtime.Reloader.
type Runtime struct {
	config  Config
	files   directory
	changed chan struct{}
	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	loops   sync.WaitGroup
	link    link
	jobs    *jobs
	reloads turns         // of systemd, which reads all files again
	looks   turns         // at units whose files are new
	stale   chan struct{} // systemd is to be asked for its units
	missed  atomic.Bool   // signals may have been missed since
	strict  *strictness

	disk sync.Mutex // held by who writes or removes files

	mu     sync.Mutex
	units  map[string]*unit
	byPath map[dbus.ObjectPath]*unit // but those that are the host's
}

var (
	_ runtime.Runtime  = (*Runtime)(nil)
	_ runtime.Reloader = (*Runtime)(nil)
)

var errClosed = errors.New("the runtime is closed")

// New takes charge of the units that muster loaded before. It fails if systemd cannot be reached. Supervision ends with
// Close, or when ctx does; the units go on.
func New(ctx context.Context, config Config) (*Runtime, error) {
	config.Root = cmp.Or(config.Root, "/")
	config.Bus = cmp.Or(config.Bus, "unix:path="+filepath.Join(config.Root, "run/dbus/system_bus_socket"))
	if len(config.Journalctl) == 0 {
		config.Journalctl = []string{"journalctl"}
	}
	rt := &Runtime{
		config: config, files: directory{path: filepath.Join(config.Root, unitDir), env: config.Env},
		changed: make(chan struct{}, 1), stale: make(chan struct{}, 1), jobs: newJobs(),
		units: map[string]*unit{}, byPath: map[dbus.ObjectPath]*unit{}, strict: newStrictness(config.Root),
	}
	found, err := rt.files.all()
	if err != nil {
		return nil, fmt.Errorf("cannot read the units that were loaded: %w", err)
	}
	for name, s := range found {
		u := newUnit(name)
		u.stored, u.unread = s, true
		rt.units[name], rt.byPath[objectPath(name)] = u, u
	}
	if err := rt.recallStrict(found); err != nil {
		return nil, err
	}
	rt.ctx, rt.cancel = context.WithCancel(ctx)
	rt.reloads = turns{run: rt.daemonReload, ctx: rt.ctx, owner: &rt.loops}
	rt.looks = turns{run: rt.look, ctx: rt.ctx, owner: &rt.loops}
	b, err := rt.connect(rt.ctx)
	if err != nil {
		rt.cancel()
		return nil, fmt.Errorf("cannot reach systemd at %s: %w", config.Bus, err)
	}
	rt.loops.Go(func() { rt.supervise(rt.ctx, b) })
	if len(found) > 0 {
		if err := rt.settle(ctx, b, true, rt.names()...); err != nil {
			_ = rt.Close()
			return nil, fmt.Errorf("cannot take charge of the units that were loaded: %w", err)
		}
	}
	return rt, nil
}

// daemonReload has systemd read its files.
func (rt *Runtime) daemonReload(ctx context.Context, _ []string) error {
	b, err := rt.link.get(ctx)
	if err != nil {
		return err
	}
	return b.ReloadContext(ctx)
}

// look sees how units are. systemd reads the files of those that it does not have in memory.
func (rt *Runtime) look(ctx context.Context, names []string) error {
	b, err := rt.link.get(ctx)
	if err != nil {
		return err
	}
	_, err = rt.refresh(ctx, b, false, names...)
	return err
}

// names are those of the units that have files, sorted.
func (rt *Runtime) names() []string {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	names := make([]string, 0, len(rt.units))
	for name, u := range rt.units {
		if u.barred == "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// with calls a function with a unit, or returns ErrNotLoaded.
func (rt *Runtime) with(name string, f func(u *unit)) error {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	u := rt.units[name]
	if u == nil {
		return runtime.ErrNotLoaded
	}
	f(u)
	return nil
}

// Start implements runtime.Runtime.
func (rt *Runtime) Start(ctx context.Context, name string) error {
	if err := rt.start(ctx, name); err != nil {
		return fmt.Errorf("cannot start %s: %w", name, err)
	}
	return nil
}

func (rt *Runtime) start(ctx context.Context, name string) error {
	var unfit string
	var limited, strict bool
	if err := rt.with(name, func(u *unit) {
		unfit, limited, strict = u.unfit(), u.limited(), u.strict
	}); err != nil {
		return err
	}
	if unfit != "" {
		return fmt.Errorf("%w: %s", runtime.ErrLoad, unfit)
	}
	if strict {
		if err := rt.guarded(ctx); err != nil {
			return err
		}
	}
	b, err := rt.link.get(ctx)
	if err != nil {
		return err
	}
	id, result, err := rt.jobs.start(func() (int, error) { return b.StartUnitContext(ctx, name, "replace", nil) })
	if isError(err, loadErrors...) {
		return fmt.Errorf("%w: %w", runtime.ErrLoad, err)
	}
	if err != nil {
		return err
	}
	if !limited {
		return rt.starts(name, id, result)
	}
	return rt.awaitLimit(ctx, name, result)
}

// starts notes that a unit is to start, unless that is over.
func (rt *Runtime) starts(name string, id uint32, result <-chan string) error {
	defer rt.touch()
	return rt.with(name, func(u *unit) {
		if len(result) == 0 && u.atRest() {
			u.starting = id
		}
	})
}

// awaitLimit waits until a unit that hit the limit of starts does so again, or does not: only the end of the job tells.
func (rt *Runtime) awaitLimit(ctx context.Context, name string, result <-chan string) error {
	for {
		var limited bool
		var news <-chan struct{}
		if err := rt.with(name, func(u *unit) { limited, news = u.limited(), u.news }); err != nil || !limited {
			return err
		}
		select {
		case how := <-result:
			if how == "failed" {
				return runtime.ErrStartLimit
			}
			return nil
		case <-news:
		case <-ctx.Done():
			return ctx.Err()
		case <-rt.ctx.Done():
			return errClosed
		}
	}
}

// Stop implements runtime.Runtime. What KillMode= spares may go on.
func (rt *Runtime) Stop(ctx context.Context, name string) error {
	if err := rt.stop(ctx, name); err != nil {
		return fmt.Errorf("cannot stop %s: %w", name, err)
	}
	return nil
}

func (rt *Runtime) stop(ctx context.Context, name string) error {
	var foreign, strict, idle bool
	if err := rt.with(name, func(u *unit) { foreign, strict, idle = u.barred != "", u.strict, u.atRest() }); err != nil || foreign {
		return err
	}
	b, err := rt.link.get(ctx)
	if err != nil {
		return err
	}
	if idle && !strict {
		if idle, err = b.idle(ctx, name); err != nil || idle {
			return err
		}
	}
	_, result, err := rt.jobs.start(func() (int, error) { return b.StopUnitContext(ctx, name, "replace", nil) })
	if isError(err, loadErrors...) {
		return nil // systemd stops what runs, whatever became of its file
	}
	if err != nil {
		return err
	}
	select {
	case how := <-result:
		err := rt.stopped(ctx, name, how)
		if err == nil && strict { // what systemd could not kill is not left to it
			err = killUnits(ctx, rt.strict.hierarchy, map[string]bool{name: true}, func() {})
		}
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-rt.ctx.Done():
		return errClosed
	}
}

func (rt *Runtime) stopped(ctx context.Context, name, how string) error {
	switch how {
	case "done":
		return nil
	case "canceled":
		return errors.New("somebody else started it meanwhile")
	case lost:
		b, err := rt.link.get(ctx)
		if err != nil {
			return err
		}
		there, err := rt.refresh(ctx, b, true, name)
		if err == nil && !atRest(there[name]) {
			err = errors.New("systemd has forgotten about it")
		}
		return err
	}
	return fmt.Errorf("systemd says %s", how)
}

// idle reports whether there is nothing to stop of a unit. A job that stops it all the same can wait for ever: systemd 257
// was seen to leave that of a mount unit in its queue, soon after the unit had been unmounted.
func (b *bus) idle(ctx context.Context, name string) (bool, error) {
	list, err := b.ListUnitsByNamesContext(ctx, []string{name})
	if err != nil {
		return false, err
	}
	return len(list) == 1 && atRest(list[0]), nil
}

func atRest(u systemd.UnitStatus) bool {
	p := properties{ActiveState: u.ActiveState}
	return p.atRest() && u.JobId == 0
}

// Reload implements runtime.Reloader.
func (rt *Runtime) Reload(ctx context.Context, name string) error {
	var active, foreign bool
	err := rt.with(name, func(u *unit) { active, foreign = u.ActiveState == "active", u.barred != "" })
	if err == nil && (!active || foreign) {
		err = runtime.ErrNotActive
	}
	if err == nil {
		err = rt.reload(ctx, name)
	}
	if err != nil {
		return fmt.Errorf("cannot reload %s: %w", name, err)
	}
	return nil
}

// reload waits until systemd has reloaded a unit.
func (rt *Runtime) reload(ctx context.Context, name string) error {
	b, err := rt.link.get(ctx)
	if err != nil {
		return err
	}
	_, result, err := rt.jobs.start(func() (int, error) { return b.ReloadUnitContext(ctx, name, "replace", nil) })
	if isError(err, "org.freedesktop.systemd1.JobTypeNotApplicable") {
		return runtime.ErrNoReload
	}
	if err != nil {
		return err
	}
	select {
	case how := <-result:
		if how != "done" {
			return fmt.Errorf("systemd says %s; the unit's log tells why", how)
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-rt.ctx.Done():
		return errClosed
	}
}

// List implements runtime.Runtime.
func (rt *Runtime) List(ctx context.Context) ([]runtime.Status, error) {
	if rt.ctx.Err() != nil {
		return nil, errClosed
	}
	b, err := rt.link.get(ctx)
	if err != nil {
		return nil, err
	}
	if err := rt.askWhy(ctx, b); err != nil {
		return nil, fmt.Errorf("cannot see why units failed: %w", err)
	}
	rt.mu.Lock()
	defer rt.mu.Unlock()
	list := make([]runtime.Status, 0, len(rt.units))
	for _, name := range slices.Sorted(maps.Keys(rt.units)) {
		list = append(list, rt.units[name].status())
	}
	return list, nil
}

// Changed implements runtime.Runtime.
func (rt *Runtime) Changed() <-chan struct{} { return rt.changed }

func (rt *Runtime) touch() {
	select {
	case rt.changed <- struct{}{}:
	default:
	}
}

// Close implements runtime.Runtime.
func (rt *Runtime) Close() error {
	rt.reloads.end(func() { rt.looks.end(rt.cancel) })
	rt.loops.Wait()
	return nil
}
