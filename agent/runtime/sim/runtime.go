// Package sim simulates hosts: their units run as soon as they are started, and do nothing. Runtime is what one host has in
// the place of systemd; Fleet is thousands of hosts in one process, which share connections and sessions, follow their
// schedules and report states as agents do. It is for tests and measurements of scale, and knows no failures but those it
// is told of.
package sim

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/musterhq/muster/agent/runtime"
)

// Runtime keeps units in memory.
type Runtime struct {
	now     func() time.Time
	changed chan struct{}

	mu    sync.Mutex
	units map[string]*runtime.Status // guarded by mu
	names []string                   // of units, sorted; guarded by mu
}

var _ runtime.Runtime = (*Runtime)(nil)

// New makes a runtime without units. now says since when a unit is what it is.
func New(now func() time.Time) *Runtime {
	return &Runtime{now: now, changed: make(chan struct{}, 1), units: make(map[string]*runtime.Status)}
}

// Load makes a unit known, stopped.
func (r *Runtime) Load(_ context.Context, u runtime.Unit) error {
	return r.update(u.Name, func(s *runtime.Status, known bool) error {
		if s.Hash = u.Hash; !known {
			s.Active, s.Sub, s.Since = "inactive", "dead", r.now()
		}
		s.Load = "loaded"
		return nil
	})
}

// Start has a loaded unit run.
func (r *Runtime) Start(_ context.Context, name string) error {
	return r.update(name, func(s *runtime.Status, known bool) error {
		if !known {
			return fmt.Errorf("cannot start %s: %w", name, runtime.ErrNotLoaded)
		}
		if s.Active != "active" {
			s.Active, s.Sub, s.Reason, s.RunningHash, s.Since = "active", "running", "", s.Hash, r.now()
		}
		return nil
	})
}

// Stop ends a unit at once.
func (r *Runtime) Stop(_ context.Context, name string) error {
	return r.update(name, func(s *runtime.Status, known bool) error {
		if !known {
			return fmt.Errorf("cannot stop %s: %w", name, runtime.ErrNotLoaded)
		}
		if s.Active == "active" {
			s.Active, s.Sub, s.RunningHash, s.Since = "inactive", "dead", "", r.now()
		}
		return nil
	})
}

// Fail has a unit that runs fail.
func (r *Runtime) Fail(name, reason string) error {
	return r.update(name, func(s *runtime.Status, known bool) error {
		if !known || s.Active != "active" {
			return fmt.Errorf("cannot fail %s: it does not run", name)
		}
		s.Active, s.Sub, s.Reason, s.RunningHash, s.Since = "failed", "failed", reason, "", r.now()
		return nil
	})
}

// Unload forgets a unit that does not run.
func (r *Runtime) Unload(_ context.Context, name string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s, known := r.units[name]; known && s.Active == "active" {
		return fmt.Errorf("cannot unload %s: %w", name, runtime.ErrActive)
	}
	delete(r.units, name)
	if i, known := slices.BinarySearch(r.names, name); known {
		r.names = slices.Delete(r.names, i, i+1)
	}
	r.raise()
	return nil
}

// update changes a unit, which is new unless known. A change that fails changes nothing.
func (r *Runtime) update(name string, change func(s *runtime.Status, known bool) error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, known := r.units[name]
	if !known {
		s = &runtime.Status{Name: name}
	}
	if err := change(s, known); err != nil {
		return err
	}
	if !known {
		r.units[name] = s
		i, _ := slices.BinarySearch(r.names, name)
		r.names = slices.Insert(r.names, i, name)
	}
	r.raise()
	return nil
}

func (r *Runtime) raise() {
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// List returns every loaded unit, sorted by name.
func (r *Runtime) List(context.Context) ([]runtime.Status, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]runtime.Status, 0, len(r.names))
	for _, name := range r.names {
		list = append(list, *r.units[name])
	}
	return list, nil
}

// Changed delivers a token after any unit's status may have changed.
func (r *Runtime) Changed() <-chan struct{} { return r.changed }

// Logs has nothing to copy: simulated units print nothing. With follow it waits until ctx ends.
func (r *Runtime) Logs(ctx context.Context, name string, q runtime.LogQuery, _ func([]runtime.LogEntry) error) error {
	r.mu.Lock()
	_, known := r.units[name]
	r.mu.Unlock()
	if !known {
		return fmt.Errorf("cannot show what %s printed: %w", name, runtime.ErrNotLoaded)
	}
	if q.Follow {
		<-ctx.Done()
	}
	return nil
}

// Close leaves the units as they are.
func (r *Runtime) Close() error { return nil }
