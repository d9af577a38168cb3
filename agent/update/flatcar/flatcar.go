// Package flatcar is the engine of hosts that run Flatcar Container Linux: its update_engine, asked over D-Bus, writes the
// passive partition, and its boot loader boots the partition of the highest priority and counts its one try.
//
// update_engine downloads by itself, by Omaha, from the server that /etc/flatcar/update.conf names: that has to be musterd's
// own Omaha server on this host. What was verified is offered there before update_engine is asked, and nothing else is.
//
// update_engine makes what it has written the next boot's as soon as it is done. The engine takes that back at once (cgpt
// prioritize, as Flatcar's manual has it for a rollback by hand), so that a release waits for Switch. A power cut in that
// moment boots the new release, whole, with its one try.
//
// Flatcar marks a boot as good by itself, some time after update_engine has started: what it takes for good may be less than
// what musterd does. A host that musterd finds unwell later than that has to be switched back, it does not fall back.
//
// The package knows nothing of where releases come from, nor of what makes a host good.
package flatcar

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/godbus/dbus/v5"

	"github.com/musterhq/muster/agent/update"
)

const (
	osRelease  = "/usr/lib/os-release"
	recordPath = "/var/lib/muster/update/flatcar.json"
	systemctl  = "/usr/bin/systemctl"
)

// Errors of hosts that this engine cannot update.
var (
	ErrNotFlatcar = errors.New("this host does not run Flatcar: its /usr/lib/os-release has no ID=flatcar with a VERSION_ID")
	ErrNoStaged   = errors.New("the passive partition does not hold that version: stage it first")
)

// Host is what the engine uses of its host. The functions are the machine's own but in tests.
type Host struct {
	Root string // "/"
	// Dial connects to the system's bus.
	Dial func(context.Context) (*dbus.Conn, error)
	// Run runs a program and returns what it prints; the error holds what it said.
	Run func(ctx context.Context, program string, args ...string) ([]byte, error)
	// Offer has the Omaha server that update_engine asks offer this release, and only this.
	Offer func(context.Context, update.Release) error
}

// Engine implements update.Engine.
type Engine struct {
	host Host
	log  *slog.Logger
	step func() // called before what changes anything; tests cut the power there
}

// New returns a host's engine.
func New(host Host, log *slog.Logger) *Engine { return &Engine{host: host, log: log, step: func() {}} }

// Name implements update.Engine.
func (e *Engine) Name() string { return "flatcar" }

// record is what the partitions hold, which they do not tell unless they run.
type record struct {
	Versions map[string]string `json:"versions"` // by partition, as "/dev/sda4"; without one that is being written
	Switched string            `json:"switched"` // the version whose try was set
}

// state is what there is.
type state struct {
	running, passive partition
	booted           string // version
	record           record
}

func (s state) slots() update.Slots {
	slots := update.Slots{Booted: s.running.slot(s.booted), Other: s.passive.slot(s.other()), Next: s.booted}
	if s.passive.bootable() && s.passive.priority > s.running.priority {
		slots.Next = s.other()
	}
	return slots
}

// other is the version in the passive partition, "" when nothing is known to be whole there.
func (s state) other() string { return s.record.Versions[s.passive.device] }

// Slots implements update.Engine.
func (e *Engine) Slots(ctx context.Context) (update.Slots, error) {
	s, err := e.look(ctx)
	if err != nil {
		return update.Slots{}, fmt.Errorf("cannot read the slots: %w", err)
	}
	return s.slots(), nil
}

func (e *Engine) look(ctx context.Context) (state, error) {
	var s state
	text, err := os.ReadFile(e.path(osRelease))
	if err != nil {
		return s, err
	}
	fields := map[string]string{}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		fields[key] = strings.Trim(value, `"'`)
	}
	if s.booted = fields["VERSION_ID"]; fields["ID"] != "flatcar" || s.booted == "" {
		return s, ErrNotFlatcar
	}
	if s.running, s.passive, err = e.partitions(ctx); err != nil {
		return s, err
	}
	text, err = os.ReadFile(e.path(recordPath))
	if err == nil {
		err = json.Unmarshal(text, &s.record)
	} else if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if s.record.Versions == nil {
		s.record.Versions = map[string]string{}
	}
	s.record.Versions[s.running.device] = s.booted
	return s, err
}

// write keeps the record.
func (e *Engine) write(r record) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	e.step()
	path := e.path(recordPath)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	file, err := os.OpenFile(path+".part", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".part", path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func (e *Engine) path(p string) string { return filepath.Join(e.host.Root, p) }

// Stage implements update.Engine.
func (e *Engine) Stage(ctx context.Context, r update.Release) error {
	if err := e.stage(ctx, r); err != nil {
		return fmt.Errorf("cannot stage %s: %w", r.Version, err)
	}
	return nil
}

func (e *Engine) stage(ctx context.Context, r update.Release) error {
	s, err := e.look(ctx)
	switch {
	case err != nil:
		return err
	case r.Version == s.booted:
		return errors.New("it is the version that runs")
	case s.other() == r.Version:
		return nil
	case len(r.Files) == 0:
		return errors.New("the release has no payload for update_engine")
	}
	for _, f := range r.Files {
		if err := verify(f); err != nil {
			return err
		}
	}
	delete(s.record.Versions, s.passive.device)
	s.record.Switched = ""
	if err := e.write(s.record); err != nil {
		return err
	}
	e.step()
	if err := e.host.Offer(ctx, r); err != nil {
		return err
	}
	if err := e.attempt(ctx, r.Version); err != nil {
		return errors.Join(err, e.prefer(ctx, s.running))
	}
	if err := e.prefer(ctx, s.running); err != nil {
		return err
	}
	e.log.Info("update_engine has written the passive partition", "version", r.Version, "partition", s.passive.device)
	s.record.Versions[s.passive.device] = r.Version
	return e.write(s.record)
}

// verify reads a file again and compares what it holds with what the release says.
func verify(f update.File) error {
	from, err := os.Open(f.Path)
	if err != nil {
		return err
	}
	defer from.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, from); err != nil {
		return err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != f.SHA256 {
		return fmt.Errorf("%s has SHA-256 %s, the release says %s: fetch it again", f.Path, got, f.SHA256)
	}
	return nil
}

// Switch implements update.Engine. The try is set before the partition comes first, and once.
func (e *Engine) Switch(ctx context.Context, version string) error {
	s, err := e.look(ctx)
	switch {
	case err != nil || version == s.booted:
	case s.other() != version:
		err = ErrNoStaged
	default:
		err = e.switchTo(ctx, s, version)
	}
	if err != nil {
		return fmt.Errorf("cannot switch to %s: %w", version, err)
	}
	return nil
}

func (e *Engine) switchTo(ctx context.Context, s state, version string) error {
	if s.record.Switched != version {
		if err := e.mark(ctx, s.passive, 0, 1); err != nil {
			return err
		}
		s.record.Switched = version
		if err := e.write(s.record); err != nil {
			return err
		}
	}
	return e.prefer(ctx, s.passive)
}

// Reboot implements update.Engine.
func (e *Engine) Reboot(ctx context.Context) error {
	if _, err := e.host.Run(ctx, systemctl, "reboot"); err != nil {
		return fmt.Errorf("cannot reboot: %w", err)
	}
	return nil
}

// Good implements update.Engine. Flatcar may have done it already.
func (e *Engine) Good(ctx context.Context) error {
	s, err := e.look(ctx)
	if err == nil && !s.running.good {
		err = e.mark(ctx, s.running, 1, 0)
	}
	if err != nil {
		return fmt.Errorf("cannot mark the booted partition as good: %w", err)
	}
	return nil
}

// Forget implements update.Engine.
func (e *Engine) Forget(ctx context.Context, version string) error {
	s, err := e.look(ctx)
	if err == nil && version != s.booted && s.other() == version {
		err = e.forget(ctx, s)
	}
	if err != nil {
		return fmt.Errorf("cannot empty the slot of %s: %w", version, err)
	}
	return nil
}

func (e *Engine) forget(ctx context.Context, s state) error {
	if err := e.prefer(ctx, s.running); err != nil {
		return err
	}
	if err := e.mark(ctx, s.passive, 0, 0); err != nil {
		return err
	}
	delete(s.record.Versions, s.passive.device)
	s.record.Switched = ""
	return e.write(s.record)
}
