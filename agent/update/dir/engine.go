package dir

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/musterhq/muster/agent/update"
)

// program is what a release's file is called that is musterd.
const program = "musterd"

// tries is how often a musterd may be started without being found good.
const tries = update.DefaultTries

// Config is an engine.
type Config struct {
	Name    string // as the cluster file calls it
	Root    string // directory of the host, absolute
	Version string // of the musterd that runs
	Program string // its path, absolute
	Slot    int    // that it was started from, see Loaded; -1 for none
	// Whole is that a reboot ends everything else on the host and is another boot, as for the local provider's hosts.
	Whole bool
	// Patience is how long a musterd that is not good may run until its next try.
	Patience time.Duration
	// Restart ends this musterd, to be started anew by the boot loader.
	Restart func()

	step func() // told before everything that changes the disk
}

// Engine implements update.Engine.
type Engine struct{ Config }

// New makes an engine. It changes nothing yet.
func New(c Config) *Engine {
	if c.step == nil {
		c.step = func() {}
	}
	return &Engine{Config: c}
}

// Name implements update.Engine.
func (e *Engine) Name() string { return e.Config.Name }

// KeepsUnits implements update.UnitKeeper.
func (e *Engine) KeepsUnits() bool { return !e.Whole }

// table is that on the disk, or the first one: the musterd that runs is good, and the other slot is empty.
func (e *Engine) table() (table, error) {
	t, found, err := readTable(e.Root)
	if err == nil && !found {
		t = table{Slots: [2]slot{{Version: e.Version, Program: e.Program, Good: true, Tries: -1}, {Tries: -1}}}
	}
	return t, err
}

// booted is the slot that this musterd is in. One that no boot loader started is found by its path, or taken for a good one.
func (e *Engine) booted(t table) int {
	switch {
	case e.Slot == 0 || e.Slot == 1:
		return e.Slot
	case t.Slots[1].Program == e.Program, t.Slots[0].Program != e.Program && !t.Slots[0].Good:
		return 1
	}
	return 0
}

// Slots implements update.Engine.
func (e *Engine) Slots(context.Context) (update.Slots, error) {
	t, err := e.table()
	if err != nil {
		return update.Slots{}, err
	}
	tell := func(s slot) update.Slot { return update.Slot{Version: s.Version, Good: s.Good, TriesLeft: s.Tries} }
	i := e.booted(t)
	return update.Slots{Booted: tell(t.Slots[i]), Other: tell(t.Slots[1-i]), Next: t.Slots[t.pick()].Version}, nil
}

func (e *Engine) write(t table) error {
	e.step()
	if err := os.MkdirAll(filepath.Join(e.Root, slotsPath), 0o700); err != nil {
		return err
	}
	t.Patience = e.Patience
	return writeTable(e.Root, t)
}

// Stage implements update.Engine.
func (e *Engine) Stage(ctx context.Context, r update.Release) error {
	t, err := e.table()
	if err != nil {
		return err
	}
	i := slices.IndexFunc(r.Files, func(f update.File) bool { return f.Name == program })
	other := 1 - e.booted(t)
	path := filepath.Join(e.Root, slotsPath, string("ab"[other]), program)
	switch {
	case t.Slots[1-other].Version == r.Version:
		return fmt.Errorf("cannot stage release %s: it is the one that runs", r.Version)
	case i < 0:
		return fmt.Errorf("cannot stage release %s: it has no file %s", r.Version, program)
	case t.Slots[other].Version == r.Version && sum(ctx, path) == r.Files[i].SHA256:
		return nil
	}
	if err := intact(ctx, r.Files[i]); err != nil {
		return err
	}
	if t.Slots[other].Version != "" || t.Want == other {
		t.Slots[other], t.Want = slot{Tries: -1}, 1-other
		if err := e.write(t); err != nil {
			return err
		}
	}
	if err := e.copy(ctx, r.Files[i], path); err != nil {
		return fmt.Errorf("cannot stage release %s: %w", r.Version, err)
	}
	t.Slots[other] = slot{Version: r.Version, Program: path, Tries: -1}
	return e.write(t)
}

// intact looks whether a file is what the release says.
func intact(ctx context.Context, f update.File) error {
	info, err := os.Stat(f.Path)
	if err == nil && (info.Size() != f.Size || sum(ctx, f.Path) != f.SHA256) {
		err = errors.New("it is not what the release says")
	}
	if err != nil {
		return fmt.Errorf("cannot stage %s: %w", f.Name, err)
	}
	return nil
}

// sum is a file's SHA-256, "" if it cannot be read.
func sum(ctx context.Context, path string) string {
	in, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = in.Close() }()
	h := sha256.New()
	if _, err := io.Copy(h, in); err != nil || ctx.Err() != nil {
		return ""
	}
	return hex.EncodeToString(h.Sum(nil))
}

// copy writes a program so that it is whole and on stable storage under its name, or is not there.
func (e *Engine) copy(ctx context.Context, f update.File, path string) error {
	e.step()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	in, err := os.Open(f.Path)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	scratch := path + ".new"
	out, err := os.OpenFile(scratch, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err = errors.Join(err, out.Sync(), out.Close()); err != nil {
		return err
	}
	if sum(ctx, scratch) != f.SHA256 {
		return errors.New("what was written is not what the release says")
	}
	e.step()
	if err := os.Rename(scratch, path); err != nil {
		return err
	}
	return errors.Join(syncDir(filepath.Dir(path)), syncDir(filepath.Dir(filepath.Dir(path))))
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Switch implements update.Engine.
func (e *Engine) Switch(_ context.Context, version string) error {
	t, err := e.table()
	if err != nil {
		return err
	}
	other := 1 - e.booted(t)
	s := &t.Slots[other]
	if s.Version != version || s.Program == "" {
		return fmt.Errorf("cannot boot release %s: it is not staged", version)
	}
	if t.Want == other {
		return nil
	}
	t.Want = other
	if s.Good || s.Tries < 0 {
		s.Good, s.Tries = false, tries
	}
	return e.write(t)
}

// Reboot implements update.Engine.
func (e *Engine) Reboot(context.Context) error {
	t, err := e.table()
	if err != nil {
		return err
	}
	t.Ends = e.Whole
	if err := e.write(t); err != nil {
		return err
	}
	e.Restart()
	return nil
}

// Good implements update.Engine.
func (e *Engine) Good(context.Context) error {
	t, err := e.table()
	if err != nil {
		return err
	}
	i := e.booted(t)
	if t.Want == i && t.Slots[i].Good {
		return nil
	}
	t.Want, t.Slots[i].Good, t.Slots[i].Tries = i, true, -1
	return e.write(t)
}

// Forget implements update.Engine.
func (e *Engine) Forget(_ context.Context, version string) error {
	t, err := e.table()
	if err != nil {
		return err
	}
	other := 1 - e.booted(t)
	if version == "" || t.Slots[other].Version != version {
		return nil
	}
	path := t.Slots[other].Program
	t.Slots[other], t.Want = slot{Tries: -1}, 1-other
	if err := e.write(t); err != nil {
		return err
	}
	if filepath.Dir(filepath.Dir(path)) == filepath.Join(e.Root, slotsPath) { // not what the provider brought
		e.step()
		_ = os.Remove(path)
	}
	return nil
}
