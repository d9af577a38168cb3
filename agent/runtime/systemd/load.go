package systemd

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/musterhq/muster/agent/runtime"
	"github.com/musterhq/muster/agent/unitfile"
)

// Load implements runtime.Runtime.
func (rt *Runtime) Load(ctx context.Context, un runtime.Unit) error {
	if err := unitfile.CheckName(un.Name); err != nil {
		return fmt.Errorf("cannot load a unit: %w", err)
	}
	if unitfile.IsTemplate(un.Name) {
		return fmt.Errorf("cannot load %s: a template needs an instance", un.Name)
	}
	if err := rt.load(ctx, un); err != nil {
		return fmt.Errorf("cannot load %s: %w", un.Name, err)
	}
	return nil
}

func (rt *Runtime) load(ctx context.Context, un runtime.Unit) error {
	var known, done bool
	_ = rt.with(un.Name, func(u *unit) {
		known = u.barred == ""
		done = known && !u.unread && u.LoadState != notFound && u.hash == un.Hash && u.dropIn == string(dropIn(un, rt.config.Env))
	})
	if done {
		return nil
	}
	b, err := rt.link.get(ctx)
	if err != nil {
		return err
	}
	reload := known
	if why := unmade(un.Name); why != "" {
		rt.refuse(un, why)
		return nil
	}
	if !known {
		path, inMemory, err := rt.inTheWay(ctx, b, un.Name)
		if err != nil {
			return err
		}
		if path != "" {
			rt.refuse(un, "the host has a unit of this name, "+path)
			return nil
		}
		reload = inMemory
	}
	newGuard, err := rt.store(ctx, b, un)
	if err != nil {
		return err
	}
	return rt.settle(ctx, b, reload || newGuard, un.Name)
}

// inTheWay returns the path of the unit of that name that the host has by itself, "" if there is none, and whether
// systemd has something under that name in memory.
func (rt *Runtime) inTheWay(ctx context.Context, b *bus, name string) (path string, inMemory bool, err error) {
	path, err = rt.files.othersFile(rt.config.Root, name)
	if err != nil || path != "" {
		return path, false, err
	}
	inMemory, err = b.has(ctx, name)
	if err != nil || !inMemory {
		return "", false, err
	}
	var state string
	if err := b.property(ctx, name, unitInterface, "LoadState", &state); err != nil {
		return "", false, err
	}
	for _, property := range []string{"FragmentPath", "SourcePath"} {
		if err := b.property(ctx, name, unitInterface, property, &path); err != nil {
			return "", false, err
		}
		if path != "" {
			break
		}
	}
	switch {
	case state == notFound, path == filepath.Join(unitDir, name):
		return "", true, nil // others refer to it, or systemd has not noticed yet that it was removed
	case path == "":
		return "which was made without a file", true, nil
	}
	return path, true, nil
}

// unmade says why systemd makes no units of a type of files, "" if it does.
func unmade(name string) string {
	switch kind := strings.TrimPrefix(filepath.Ext(name), "."); kind {
	case "snapshot", "busname":
		return "systemd has no units of type " + kind + " any more"
	case "scope":
		return "a scope is made by a program for processes that run, not from a file: use a .service or a .slice"
	}
	return ""
}

// refuse notes a unit that there can be none of here.
func (rt *Runtime) refuse(un runtime.Unit, why string) {
	rt.mu.Lock()
	u := newUnit(un.Name)
	u.hash, u.barred = un.Hash, why
	rt.units[un.Name] = u
	rt.mu.Unlock()
	rt.touch()
}

// store writes a unit's files. It says whether the guard's unit is another one since.
func (rt *Runtime) store(ctx context.Context, b *bus, un runtime.Unit) (newGuard bool, err error) {
	rt.disk.Lock()
	defer rt.disk.Unlock()
	before, replaced := unit{}, false
	if err := rt.with(un.Name, func(u *unit) { before = *u }); err == nil && before.barred == "" {
		replaced = true
	}
	if replaced && before.enabled {
		if _, err := b.DisableUnitFilesContext(ctx, []string{un.Name}, true); err != nil && !isError(err, noSuchUnit) {
			return false, err
		}
	}
	after := stored{
		hash: un.Hash, dropIn: string(dropIn(un, rt.config.Env)), enabled: installs(un.File), strict: un.File.Muster(un.Name).Strict,
		history: before.history.replace(un.Hash, before.atRest(), before.started()),
	}
	if newGuard, err = rt.markStrict(un.Name, after.strict, replaced && !before.atRest()); err != nil {
		return false, err
	}
	if err := rt.files.write(un, after.history); err != nil {
		return false, err
	}
	rt.mu.Lock()
	defer rt.mu.Unlock()
	u := rt.units[un.Name]
	if !replaced || u == nil {
		u = newUnit(un.Name)
		rt.units[un.Name], rt.byPath[objectPath(un.Name)] = u, u
	}
	u.stored, u.unread, u.LoadState, u.LoadError = after, true, "", ""
	return newGuard, nil
}

func installs(f unitfile.File) bool {
	for _, o := range f.Options {
		if o.Section == "Install" {
			return true
		}
	}
	return false
}

// settle has systemd know what is on disk: it reads the files of units that it does not know when it is asked for them,
// and everything again if it has to.
func (rt *Runtime) settle(ctx context.Context, b *bus, reload bool, names ...string) error {
	enabled := rt.enabled(names)
	if len(enabled) > 0 {
		if _, _, err := b.EnableUnitFilesContext(ctx, enabled, true, false); err != nil {
			return err
		}
	}
	reload = reload || len(enabled) > 0
	if !reload {
		if err := rt.looks.do(ctx, names...); err != nil {
			return err
		}
		reload = rt.notFound(names)
	}
	if reload {
		if err := rt.reloads.do(ctx); err != nil {
			return err
		}
		if err := rt.looks.do(ctx, names...); err != nil {
			return err
		}
	}
	if err := rt.noteRead(names); err != nil {
		return err
	}
	rt.touch()
	return nil
}

func (rt *Runtime) enabled(names []string) []string {
	var enabled []string
	for _, name := range names {
		_ = rt.with(name, func(u *unit) {
			if u.enabled {
				enabled = append(enabled, name)
			}
		})
	}
	return enabled
}

// notFound says whether systemd has not seen the files of one of the units.
func (rt *Runtime) notFound(names []string) bool {
	missing := false
	for _, name := range names {
		_ = rt.with(name, func(u *unit) { missing = missing || u.LoadState == notFound })
	}
	return missing
}

// noteRead notes that systemd has read the files.
func (rt *Runtime) noteRead(names []string) error {
	now := monotonic()
	rt.disk.Lock()
	defer rt.disk.Unlock()
	for _, name := range names {
		var past history
		if err := rt.with(name, func(u *unit) {
			u.unread, u.history = false, u.history.read(now)
			past = u.history
		}); err != nil {
			continue // it was unloaded meanwhile
		}
		if err := rt.files.writeHistory(name, past); err != nil {
			return err
		}
	}
	return nil
}

// Unload implements runtime.Runtime.
func (rt *Runtime) Unload(ctx context.Context, name string) error {
	if err := rt.unload(ctx, name); err != nil {
		return fmt.Errorf("cannot unload %s: %w", name, err)
	}
	return nil
}

func (rt *Runtime) unload(ctx context.Context, name string) error {
	var foreign, enabled bool
	if err := rt.with(name, func(u *unit) { foreign, enabled = u.barred != "", u.enabled }); err != nil {
		return nil //nolint:nilerr // as it shall be
	}
	if foreign {
		rt.forget(name)
		return nil
	}
	b, err := rt.link.get(ctx)
	if err != nil {
		return err
	}
	if rests, err := rt.rests(ctx, b, name); err != nil || !rests {
		return cmp.Or(err, runtime.ErrActive)
	}
	if enabled {
		if _, err := b.DisableUnitFilesContext(ctx, []string{name}, true); err != nil && !isError(err, noSuchUnit) {
			return err
		}
	}
	if err := b.ResetFailedUnitContext(ctx, name); err != nil && !isError(err, noSuchUnit) {
		return err
	}
	if err := rt.drop(name); err != nil {
		return err
	}
	// systemd forgets a unit that nobody refers to. Others it keeps, with what it read.
	keeps, err := b.has(ctx, name)
	if err == nil && (keeps || enabled) {
		err = rt.reloads.do(ctx)
	}
	return err
}

// rests says whether a unit has nothing that runs or is about to. One that systemd does not have in memory is at rest; it
// is not asked to read the file once more.
func (rt *Runtime) rests(ctx context.Context, b *bus, name string) (bool, error) {
	has, err := b.has(ctx, name)
	if err != nil || !has {
		return true, err
	}
	there, err := rt.refresh(ctx, b, false, name)
	return atRest(there[name]), err
}

// drop removes a unit and its files.
func (rt *Runtime) drop(name string) error {
	rt.disk.Lock()
	defer rt.disk.Unlock()
	if err := rt.files.remove(name); err != nil {
		return err
	}
	if err := rt.unmark(name); err != nil {
		return err
	}
	rt.forget(name)
	return nil
}

func (rt *Runtime) forget(name string) {
	rt.mu.Lock()
	if u := rt.units[name]; u != nil && u.barred == "" {
		delete(rt.byPath, objectPath(name))
	}
	delete(rt.units, name)
	rt.mu.Unlock()
	rt.touch()
}
