package process

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/musterhq/muster/agent/runtime"
	"github.com/musterhq/muster/agent/runtime/guard"
	"github.com/musterhq/muster/agent/unitfile"
)

// Config is what a Runtime needs to know.
type Config struct {
	Dir      string                  // holds the units' directories
	Instance string                  // ID of the host's instance, marks its processes; required
	Host     unitfile.HostSpecifiers // for %H, %m, %b
	Env      []string                // NAME=VALUE for every unit, which may set its own over them
	Path     string                  // where programs without a slash are searched, and PATH of the units
	LogLimit int64                   // bytes after which a log is moved to log.1, 0 for DefaultLogLimit
	// Guard is the command that calls Guard, to which -dir and -instance are added. Without it units of Singleton=strict are
	// not started.
	Guard []string
	Log   *slog.Logger
}

// DefaultLogLimit is the size of a log, in bytes, and that of its predecessor.
const DefaultLogLimit = 8 << 20

// Runtime supervises units as processes. It implements runtime.Runtime and runtime.Reloader.
type Runtime struct {
	config  Config
	boot    string
	lock    *os.File
	changed chan struct{}
	grown   *notifier
	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	loops   sync.WaitGroup

	mu    sync.Mutex
	units map[string]*unit

	holding  sync.Mutex
	holder   guard.Holder  // guarded by holding, as are:
	until    time.Duration // strict units may run
	guardPID int           // of the guard that this runtime started, 0 for none
}

var (
	_ runtime.Runtime  = (*Runtime)(nil)
	_ runtime.Reloader = (*Runtime)(nil)
)

// New takes charge of the units in a directory and adopts those that run. One Runtime at a time has a directory; a
// second one is refused. Supervision ends with Close, or when ctx does; the units go on.
func New(ctx context.Context, config Config) (_ *Runtime, err error) {
	if config.Instance == "" {
		return nil, errors.New("cannot supervise units: the instance has no ID to mark processes with")
	}
	if config.LogLimit == 0 {
		config.LogLimit = DefaultLogLimit
	}
	rt := &Runtime{config: config, changed: make(chan struct{}, 1), units: map[string]*unit{}}
	kernelBoot, err := bootID()
	if err != nil {
		return nil, err
	}
	rt.holder.Dir = guard.Dir{Path: config.Dir, Boot: kernelBoot}
	rt.boot = kernelBoot + " " + config.Host.BootID // of the kernel, and of a host that is less than a machine
	if err := os.MkdirAll(config.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the directory of units: %w", err)
	}
	if err := rt.acquire(ctx); err != nil {
		return nil, err
	}
	if rt.grown, err = newNotifier(); err != nil {
		_ = rt.lock.Close()
		return nil, err
	}
	rt.ctx, rt.cancel = context.WithCancel(ctx)
	if err := rt.adopt(); err != nil {
		_ = rt.Close()
		return nil, err
	}
	return rt, nil
}

// newUnit makes a unit with the state that its directory has.
func (rt *Runtime) newUnit(name string) (*unit, error) {
	u := &unit{
		rt: rt, name: name, dir: filepath.Join(rt.config.Dir, dirName(name)), log: rt.config.Log.With("unit", name),
		requests: make(chan request), events: make(chan message), closed: make(chan struct{}), watches: map[bool]watch{},
	}
	if err := os.MkdirAll(u.dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(u.path(logFile), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	_ = f.Close()
	u.record, err = readRecord(u.dir)
	return u, err
}

// dirName is the unit's name, unless file systems refuse it for its length.
func dirName(name string) string {
	if len(name) <= 255 {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:])
}

// launch begins to supervise a unit. The caller has locked rt.mu.
func (rt *Runtime) launch(u *unit, adopted func()) {
	rt.units[u.name] = u
	ctx, cancel := context.WithCancel(rt.ctx)
	rt.loops.Go(func() {
		defer cancel()
		u.loop(ctx, adopted)
	})
	rt.loops.Go(func() { u.boundLog(ctx) })
}

// Load implements runtime.Runtime.
func (rt *Runtime) Load(ctx context.Context, un runtime.Unit) error {
	if err := unitfile.CheckName(un.Name); err != nil {
		return fmt.Errorf("cannot load a unit: %w", err)
	}
	if unitfile.IsTemplate(un.Name) {
		return fmt.Errorf("cannot load %s: a template needs an instance", un.Name)
	}
	u, err := rt.ensure(un.Name)
	if err != nil {
		return fmt.Errorf("cannot load %s: %w", un.Name, err)
	}
	d := define(un.Name, contents{Hash: un.Hash, Text: string(un.File.Bytes())}, rt.config.Host)
	return u.do(ctx, request{load: &d})
}

// ensure returns the unit of a name, a new one if there is none.
func (rt *Runtime) ensure(name string) (*unit, error) {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	if u := rt.units[name]; u != nil {
		return u, nil
	}
	if rt.ctx.Err() != nil {
		return nil, errClosed
	}
	u, err := rt.newUnit(name)
	if err != nil {
		return nil, err
	}
	rt.launch(u, func() {})
	return u, nil
}

// unit returns a loaded unit.
func (rt *Runtime) unit(name string) (*unit, error) {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	if u := rt.units[name]; u != nil {
		return u, nil
	}
	return nil, fmt.Errorf("%s: %w", name, runtime.ErrNotLoaded)
}

func (rt *Runtime) ask(ctx context.Context, name string, r request) error {
	u, err := rt.unit(name)
	if err != nil {
		return err
	}
	return u.do(ctx, r)
}

// Start implements runtime.Runtime.
func (rt *Runtime) Start(ctx context.Context, name string) error {
	return rt.ask(ctx, name, request{what: asked})
}

// Stop implements runtime.Runtime. What KillMode= spares may go on.
func (rt *Runtime) Stop(ctx context.Context, name string) error {
	return rt.ask(ctx, name, request{what: refused})
}

// Reload implements runtime.Reloader.
func (rt *Runtime) Reload(ctx context.Context, name string) error {
	return rt.ask(ctx, name, request{what: reloaded})
}

// Unload implements runtime.Runtime.
func (rt *Runtime) Unload(ctx context.Context, name string) error {
	err := rt.ask(ctx, name, request{end: true})
	if errors.Is(err, runtime.ErrNotLoaded) {
		return nil
	}
	return err
}

// List implements runtime.Runtime.
func (rt *Runtime) List(context.Context) ([]runtime.Status, error) {
	if rt.ctx.Err() != nil {
		return nil, errClosed
	}
	rt.mu.Lock()
	units := make([]*unit, 0, len(rt.units))
	for _, u := range rt.units {
		units = append(units, u)
	}
	rt.mu.Unlock()
	var list []runtime.Status
	for _, u := range units {
		u.mu.Lock()
		if u.loaded.known() {
			list = append(list, u.record.status(u.name, u.loaded))
		}
		u.mu.Unlock()
	}
	slices.SortFunc(list, func(a, b runtime.Status) int { return cmp.Compare(a.Name, b.Name) })
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
	rt.mu.Lock()
	rt.cancel()
	rt.mu.Unlock()
	rt.loops.Wait()
	rt.holder.Close()
	err := rt.grown.Close()
	if e := rt.lock.Close(); err == nil {
		err = e
	}
	if err != nil {
		return fmt.Errorf("cannot end the supervision of units: %w", err)
	}
	return nil
}

// within is a context for what must not be left half done when the runtime is closed.
func (rt *Runtime) within(d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(rt.ctx), d)
}
