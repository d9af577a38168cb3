package systemd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/musterhq/muster/agent/runtime"
	"github.com/musterhq/muster/agent/runtime/guard"
)

var _ runtime.Holder = (*Runtime)(nil)

// strictness is what a Runtime does for units of Singleton=strict. The guard's own part is in guard.go.
type strictness struct {
	dir       guard.Dir
	hierarchy string // of control groups, "" if there is none

	mu       sync.Mutex
	holder   guard.Holder  // guarded by mu
	until    time.Duration // guarded by mu
	starting bool          // the guard's unit is being started; guarded by mu
}

func newStrictness(root string) *strictness {
	d := guardState(root)
	return &strictness{dir: d, hierarchy: hierarchy(root), holder: guard.Holder{Dir: d}}
}

// Holds implements runtime.Holder.
func (rt *Runtime) Holds() bool {
	return guard.Available && len(rt.config.Guard) > 0 && rt.strict.hierarchy != ""
}

// Held implements runtime.Holder.
func (rt *Runtime) Held() (time.Duration, bool) { return rt.strict.dir.Read() }

// Hold implements runtime.Holder. Without strict units there is no guard, and nobody to tell.
func (rt *Runtime) Hold(until time.Duration) (killed bool, err error) {
	s := rt.strict
	s.mu.Lock()
	defer s.mu.Unlock()
	s.until = until
	if !rt.Holds() || len(strictNames(s.dir.Path)) == 0 {
		return false, nil
	}
	killed, err = s.holder.Set(until)
	return killed, errors.Join(err, rt.keepGuard())
}

// keepGuard has a guard that lives be the one of this program, and has systemd start one if none does, which it also does
// by itself. It does not wait for systemd. strict.mu is held.
func (rt *Runtime) keepGuard() error {
	s := rt.strict
	lives, err := s.dir.Guarded()
	if err != nil {
		return err
	}
	if lives {
		return s.holder.Succeed(filepath.Join(rt.config.Root, rt.config.Guard[0]))
	}
	if s.starting || rt.ctx.Err() != nil {
		return nil
	}
	s.starting = true
	rt.loops.Go(func() {
		if err := rt.startGuard(rt.ctx); err != nil {
			rt.config.Log.Error("cannot start the guard of units of Singleton=strict", "err", err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.starting = false
	})
	return nil
}

func (rt *Runtime) startGuard(ctx context.Context) error {
	b, err := rt.link.get(ctx)
	if err != nil {
		return err
	}
	_, err = b.StartUnitContext(ctx, guardUnit, "replace", nil)
	return err
}

// guardTimeout bounds how long a guard may take to start, and to say that strict units may.
const guardTimeout = 10 * time.Second

// guarded returns when a strict unit may be started, with a guard that sees to its end.
func (rt *Runtime) guarded(ctx context.Context) error {
	if !rt.Holds() {
		return fmt.Errorf("%w: nobody here could kill it in time", runtime.ErrNotHeld)
	}
	if err := rt.tellGuard(); err != nil {
		return err
	}
	if lives, err := rt.strict.dir.Guarded(); err != nil {
		return err
	} else if !lives {
		if err := rt.startGuard(ctx); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, guardTimeout)
	defer cancel()
	if err := rt.strict.dir.Await(ctx); err != nil {
		return err
	}
	return rt.strict.awaitOpen(ctx)
}

// tellGuard has the guard know of the last moment that was said, which must not have passed.
func (rt *Runtime) tellGuard() error {
	s := rt.strict
	s.mu.Lock()
	defer s.mu.Unlock()
	if guard.Now() >= s.until {
		return runtime.ErrNotHeld
	}
	_, err := s.holder.Set(s.until)
	return err
}

// awaitOpen returns when strict units may start.
func (s *strictness) awaitOpen(ctx context.Context) error {
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for {
		_, err := os.Stat(filepath.Join(s.dir.Path, openFile))
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return fmt.Errorf("%w: its guard does not let it start", runtime.ErrNotHeld)
		}
	}
}

// markStrict has the guard know of a strict unit before systemd does, and says whether the guard's own unit was written. One
// that is not strict any more and still runs stays marked until it is unloaded. disk is held.
func (rt *Runtime) markStrict(name string, strict, runs bool) (newGuard bool, err error) {
	switch {
	case strict:
		if err := rt.mark(name); err != nil {
			return false, err
		}
		return rt.writeGuard()
	case !runs:
		return false, rt.unmark(name)
	}
	return false, nil
}

// recallStrict makes the marks those of the units that were found.
func (rt *Runtime) recallStrict(found map[string]stored) error {
	for name := range strictNames(rt.strict.dir.Path) {
		if _, there := found[name]; !there {
			if err := rt.unmark(name); err != nil {
				return err
			}
		}
	}
	for name, s := range found {
		if _, err := rt.markStrict(name, s.strict, true); err != nil {
			return err
		}
	}
	return nil
}

func (rt *Runtime) mark(name string) error {
	dir := filepath.Join(rt.strict.dir.Path, strictDir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("cannot tell the guard of it: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
		return fmt.Errorf("cannot tell the guard of it: %w", err)
	}
	return nil
}

func (rt *Runtime) unmark(name string) error {
	err := os.Remove(filepath.Join(rt.strict.dir.Path, strictDir, name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot tell the guard that it is gone: %w", err)
	}
	return nil
}

// writeGuard writes the guard's unit if it is not there, or another musterd's, and says whether it did.
func (rt *Runtime) writeGuard() (wrote bool, err error) {
	if !rt.Holds() {
		return false, nil
	}
	text := guardText(rt.config.Guard)
	if was, err := os.ReadFile(rt.files.file(guardUnit)); err == nil && slices.Equal(was, text) {
		return false, nil
	}
	if err := replaceFile(rt.files.file(guardUnit), text); err != nil {
		return false, err
	}
	return true, rt.files.stamp()
}
