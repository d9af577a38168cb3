package ab

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/musterhq/muster/agent/update"
)

// sourceDir is where systemd-sysupdate takes a root from: a link to the release's file, under the name that it has to have.
const sourceDir = keptDir + "/source"

// Stage implements update.Engine. The old entry goes before its root is written over, and the new kernel image is kept, which
// makes the slot one that can be switched to, when the root is whole.
func (e *Engine) Stage(ctx context.Context, r update.Release) error {
	if err := e.stage(ctx, r); err != nil {
		return fmt.Errorf("cannot stage %s: %w", r.Version, err)
	}
	return nil
}

func (e *Engine) stage(ctx context.Context, r update.Release) error {
	root, kernel, err := files(r)
	if err != nil {
		return err
	}
	s, err := e.look(ctx)
	if err != nil {
		return err
	}
	switch {
	case r.Version == s.booted:
		return errors.New("it is the version that runs")
	case s.slot(s.other()).Version == r.Version:
		return nil
	case s.onTrial():
		return ErrOnTrial
	}
	if err := e.empty(ctx, s.booted, r.Version); err != nil {
		return err
	}
	if err := verify(root); err != nil {
		return err
	}
	e.step()
	if err := e.link(root.Path, prefix+r.Version+rootSuffix); err != nil {
		return err
	}
	if err := e.install(ctx, rootTransfer, s.booted, sourceDir, r.Version); err != nil {
		return err
	}
	e.step()
	if err := os.RemoveAll(e.path(sourceDir)); err != nil {
		return err
	}
	e.log.Info("the root is in the passive slot", "version", r.Version)
	return e.keep(kernel, r.Version)
}

// files are a release's root and kernel image.
func files(r update.Release) (root, kernel update.File, err error) {
	if err := checkVersion(r.Version); err != nil {
		return root, kernel, err
	}
	for _, f := range r.Files {
		switch f.Name {
		case prefix + r.Version + rootSuffix:
			root = f
		case prefix + r.Version + kernelSuffix:
			kernel = f
		}
	}
	if root.Path == "" || kernel.Path == "" {
		name := prefix + r.Version
		return root, kernel, fmt.Errorf("the release lacks %s%s or %s%s: add what `make image` made", name, rootSuffix, name, kernelSuffix)
	}
	return root, kernel, nil
}

// empty removes all of the passive slot but a root of that version, which may be whole since a call that was cut short.
func (e *Engine) empty(ctx context.Context, booted, version string) error {
	if err := e.sweep(); err != nil {
		return err
	}
	if err := e.vacuum(ctx, kernelTransfer, booted); err != nil {
		return err
	}
	names, err := e.names(keptDir)
	if err != nil {
		return err
	}
	for _, name := range names {
		e.step()
		if err := os.RemoveAll(e.path(keptDir + "/" + name)); err != nil {
			return err
		}
	}
	roots, err := e.installed(ctx, booted)
	if err != nil || slices.Contains(roots, version) {
		return err
	}
	return e.vacuum(ctx, rootTransfer, booted)
}

// verify reads a file again and compares what it holds with what the release says.
func verify(f update.File) error {
	return read(f, io.Discard)
}

// read copies a file of a release, and fails unless it was the one that the release says.
func read(f update.File, to io.Writer) error {
	from, err := os.Open(f.Path)
	if err != nil {
		return err
	}
	defer from.Close()
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(sum, to), from)
	if err != nil {
		return err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != f.SHA256 || n != f.Size {
		return fmt.Errorf("%s has %d bytes with SHA-256 %s, the release says %d with %s: fetch it again", f.Path, n, got, f.Size, f.SHA256)
	}
	return nil
}

// link gives a file a name in sourceDir. It is copied where it cannot be linked.
func (e *Engine) link(path, name string) error {
	dir := e.path(sourceDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := os.Link(path, filepath.Join(dir, name)); err == nil || errors.Is(err, fs.ErrExist) {
		return nil
	}
	from, err := os.Open(path)
	if err != nil {
		return err
	}
	defer from.Close()
	return e.durable(filepath.Join(dir, name), func(to io.Writer) error {
		_, err := io.Copy(to, from)
		return err
	})
}

// keep keeps the kernel image for Switch. That it has its name says that it is whole and that its root is.
func (e *Engine) keep(kernel update.File, version string) error {
	if err := os.MkdirAll(e.path(keptDir), 0o700); err != nil {
		return err
	}
	e.step()
	return e.durable(e.path(keptDir+"/"+fileName(version, -1, 0)), func(to io.Writer) error { return read(kernel, to) })
}

// durable writes a file, which has its name when all of it is on stable storage.
func (e *Engine) durable(path string, write func(io.Writer) error) error {
	file, err := os.OpenFile(path+".part", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	err = errors.Join(write(file), e.sync(file), file.Close())
	if err == nil {
		err = os.Rename(path+".part", path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(path+".part"))
	}
	return e.syncDir(filepath.Dir(path))
}

func (e *Engine) syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(e.sync(dir), dir.Close())
}

// Switch implements update.Engine: it adds the entry with its tries, and has it come first.
func (e *Engine) Switch(ctx context.Context, version string) error {
	if err := e.switchTo(ctx, version); err != nil {
		return fmt.Errorf("cannot switch to %s: %w", version, err)
	}
	return nil
}

func (e *Engine) switchTo(ctx context.Context, version string) error {
	s, err := e.look(ctx)
	if err != nil {
		return err
	}
	if version == s.booted {
		return nil
	}
	if s.slot(s.other()).Version != version {
		return ErrNoStaged
	}
	next, added := s.entry(version)
	switch {
	case !added:
		if err = e.sweep(); err == nil {
			err = e.install(ctx, kernelTransfer, s.booted, keptDir, version)
		}
	case next.left < 0:
		err = e.rename(next, tries, 0)
	}
	if err != nil {
		return err
	}
	// What is booted comes after a newer version, and after an older one when its own tries are used up.
	running, _ := s.entry(s.booted)
	if compareVersions(version, s.booted) > 0 || running.left == 0 || added && next.left == 0 {
		return nil
	}
	return e.rename(running, 0, running.done)
}

// rename changes an entry's counters.
func (e *Engine) rename(from entry, left, done int) error {
	e.step()
	dir := e.path(kernelsDir)
	err := os.Rename(filepath.Join(dir, from.name), filepath.Join(dir, fileName(from.version, left, done)))
	if err != nil {
		return err
	}
	return e.syncDir(dir)
}

// Reboot implements update.Engine.
func (e *Engine) Reboot(ctx context.Context) error {
	if _, err := e.run(ctx, systemctl, "reboot"); err != nil {
		return fmt.Errorf("cannot reboot: %w", err)
	}
	return nil
}

// Good implements update.Engine: it lets boot-complete.target be reached, whereupon systemd-bless-boot ends the counting.
func (e *Engine) Good(ctx context.Context) error {
	if err := e.good(ctx); err != nil {
		return fmt.Errorf("cannot mark the booted slot as good: %w", err)
	}
	return nil
}

func (e *Engine) good(ctx context.Context) error {
	if err := e.release(); err != nil {
		return err
	}
	s, err := e.look(ctx)
	if err != nil {
		return err
	}
	running, _ := s.entry(s.booted)
	switch {
	case running.left < 0:
		return nil
	case !s.counted: // nothing to bless: the entry was marked to let another one come first
		return e.rename(running, -1, 0)
	}
	if _, err := e.run(ctx, systemctl, "start", "systemd-bless-boot.service"); err != nil {
		return err
	}
	if s, err = e.look(ctx); err != nil {
		return err
	}
	if running, _ = s.entry(s.booted); running.left >= 0 {
		return fmt.Errorf("systemd-bless-boot left %s as it is: see journalctl -u systemd-bless-boot", running.name)
	}
	return nil
}

// release ends what muster-good.service waits for.
func (e *Engine) release() error {
	e.step()
	if err := os.MkdirAll(filepath.Dir(e.path(GoodFile)), 0o755); err != nil {
		return err
	}
	return os.WriteFile(e.path(GoodFile), nil, 0o600)
}

// Forget implements update.Engine. The entry goes first.
func (e *Engine) Forget(ctx context.Context, version string) error {
	s, err := e.look(ctx)
	if _, added := s.entry(version); err == nil && version != s.booted && (added || s.other() == version) {
		err = e.empty(ctx, s.booted, "")
	}
	if err != nil {
		return fmt.Errorf("cannot empty the slot of %s: %w", version, err)
	}
	return nil
}
