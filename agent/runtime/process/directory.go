package process

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

	"golang.org/x/sys/unix"
)

// history is how many units keep their logs and starts after they were unloaded.
const history = 100

// lockTimeout is how long New waits for another agent to go. One that was killed may leave a child between fork and
// exec that holds the lock a moment longer.
const lockTimeout = 2 * time.Second

// acquire makes sure that no other agent supervises the same units. The lock ends with the process.
func (rt *Runtime) acquire(ctx context.Context) error {
	f, err := os.OpenFile(filepath.Join(rt.config.Dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("cannot lock the directory of units: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			rt.lock = f
			return nil
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			_ = f.Close()
			return fmt.Errorf("cannot supervise the units in %s: another agent does: %w", rt.config.Dir, err)
		}
	}
}

// adopt starts the supervision of every unit on disk and returns when what it found has been taken into account.
func (rt *Runtime) adopt() error {
	dirs, err := os.ReadDir(rt.config.Dir)
	if err != nil {
		return fmt.Errorf("cannot list units: %w", err)
	}
	var units []*unit
	recorded := map[string]bool{}
	for _, d := range dirs {
		if !d.IsDir() {
			continue
		}
		u, err := rt.restore(filepath.Join(rt.config.Dir, d.Name()))
		switch {
		case errors.Is(err, fs.ErrNotExist): // history
		case errors.Is(err, errVersion):
			return err
		case err != nil:
			rt.config.Log.Error("cannot restore a unit; it is not loaded any more", "dir", d.Name(), "error", err)
			dir := filepath.Join(rt.config.Dir, d.Name())
			if err := errors.Join(putAside(dir, stateFile), putAside(dir, unitFile)); err != nil {
				return fmt.Errorf("cannot put files aside: %w", err)
			}
		default:
			units = append(units, u)
			recorded[u.name] = u.record.Boot == rt.boot
		}
	}
	if err := errors.Join(rt.clear(recorded), rt.wake(units)); err != nil {
		return err
	}
	var adopted sync.WaitGroup
	rt.mu.Lock()
	for _, u := range units {
		adopted.Add(1)
		rt.launch(u, adopted.Done)
	}
	rt.mu.Unlock()
	adopted.Wait()
	return nil
}

// restore reads a unit's directory.
func (rt *Runtime) restore(dir string) (*unit, error) {
	var l loaded
	if err := readJSON(filepath.Join(dir, unitFile), &l); err != nil {
		return nil, err
	}
	if l.Version != version {
		return nil, fmt.Errorf("cannot restore %s: %w %d", dir, errVersion, l.Version)
	}
	u, err := rt.newUnit(l.Name)
	if err != nil {
		return nil, err
	}
	u.loaded = define(l.Name, l.contents, rt.config.Host)
	return u, nil
}

// clear kills what runs under the marks of this instance though no record knows it: nobody could ever stop it, and
// starting its unit again would make two of it.
func (rt *Runtime) clear(recorded map[string]bool) error {
	ctx, cancel := rt.within(clearTimeout)
	defer cancel()
	for {
		strays, err := strangers(rt.config.Instance, func(unit string) bool { return recorded[unit] })
		if err != nil || len(strays) == 0 {
			return err
		}
		var handles []*handle
		for _, s := range strays {
			if h, err := open(s); err == nil {
				rt.config.Log.Warn("killing a process of a unit that is not known any more", "pid", s.PID)
				_ = h.signal(unix.SIGKILL)
				handles = append(handles, h)
			}
		}
		if err := waitAll(ctx, handles); err != nil {
			return fmt.Errorf("cannot end the processes of units that are not known any more: %w", err)
		}
	}
}

// clearTimeout bounds how long processes may take to follow SIGKILL.
const clearTimeout = 30 * time.Second

// forgetUnit removes a unit at rest. Its log and its starts stay, with those of the last units that went.
func (rt *Runtime) forgetUnit(u *unit) error {
	for _, name := range []string{stateFile, unitFile} {
		if err := os.Remove(u.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("cannot unload %s: %w", u.name, err)
		}
	}
	rt.mu.Lock()
	delete(rt.units, u.name)
	rt.mu.Unlock()
	rt.prune()
	rt.touch()
	return nil
}

// prune removes the oldest directories of units that are not loaded.
func (rt *Runtime) prune() {
	entries, err := os.ReadDir(rt.config.Dir)
	if err != nil {
		return
	}
	type past struct {
		dir  string
		when time.Time
	}
	var all []past
	for _, e := range entries {
		dir := filepath.Join(rt.config.Dir, e.Name())
		if _, err := os.Stat(filepath.Join(dir, unitFile)); err == nil || !e.IsDir() {
			continue
		}
		if info, err := e.Info(); err == nil {
			all = append(all, past{dir, info.ModTime()})
		}
	}
	slices.SortFunc(all, func(a, b past) int { return b.when.Compare(a.when) })
	for _, p := range all[min(len(all), history):] {
		if err := os.RemoveAll(p.dir); err != nil {
			rt.config.Log.Warn("cannot remove an old unit's files", "error", err)
		}
	}
}
