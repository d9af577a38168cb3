package installer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/musterhq/muster/providers/metal/enrol"
	"github.com/musterhq/muster/providers/metal/ledger"
	"github.com/musterhq/muster/providers/metal/netboot"
)

// Server is who runs the rack; *enrol.Client is one. A *enrol.Refusal is final, other errors may pass.
type Server interface {
	Facts(ctx context.Context, facts ledger.Facts) error
	Claim(ctx context.Context, facts ledger.Facts) (enrol.Order, error)
	Progress(ctx context.Context, p enrol.Progress) error
	Outcome(ctx context.Context, reason string) error
	UserData(ctx context.Context) ([]byte, error)
}

// Disk is a whole disk, open for this program alone. Zero makes a range of bytes read as zeros. Flush returns when
// everything is on the disk, and has what is read next come from there.
type Disk interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Zero(ctx context.Context, offset, size int64) error
	Flush() error
}

// Machine is what an installation changes beside the bytes of a disk.
type Machine interface {
	Open(path string) (Disk, error)
	// Seed leaves a host's data in the partition with a number of a disk whose table has just been written.
	Seed(path string, partition int, seed Seed) error
	// BootFrom has the firmware boot from a partition, and returns what was done in words.
	BootFrom(p Partition, networkFirst bool) (string, error)
	// Shell gives the operator one on the console, and returns when it ends.
	Shell(ctx context.Context) error
}

// Seed is what a host's data source reads at its first boot.
type Seed struct {
	Instance, Host string
	UserData       []byte
}

// Config is a machine with its task.
type Config struct {
	Task    netboot.Task
	Facts   ledger.Facts
	Server  Server
	Images  *http.Client // without a limit of time for a whole answer
	Machine Machine
	Log     *slog.Logger
	Waits   Waits
}

// Waits are how long the installer waits.
type Waits struct {
	Discovered time.Duration // before a machine that nothing is to be done with boots again
	First      time.Duration // before something is tried again; each further one is twice as long
	Longest    time.Duration // of those
	Patience   time.Duration // with a server that answers nothing
	Stall      time.Duration // with an answer of which nothing comes
	Report     time.Duration // between two reports of progress
}

// DefaultWaits are those of a machine in a rack.
func DefaultWaits() Waits {
	return Waits{
		Discovered: 10 * time.Minute, First: time.Second, Longest: 15 * time.Second,
		Patience: 15 * time.Minute, Stall: time.Minute, Report: 10 * time.Second,
	}
}

// Run does what the task says and returns when the machine is to boot again. Its error was reported where that was possible,
// and is for the console.
func Run(ctx context.Context, cfg Config) error {
	log := cfg.Log.With("action", cfg.Task.Action, "attempt", cfg.Task.Attempt)
	log.Info("muster installer", "mac", cfg.Task.MAC, "disks", len(cfg.Facts.Disks))
	switch cfg.Task.Action {
	case netboot.ActionRescue:
		return cfg.Machine.Shell(ctx)
	case netboot.ActionDiscover:
		if err := cfg.retry(ctx, func() error { return cfg.Server.Facts(ctx, cfg.Facts) }); err != nil {
			return err
		}
		log.Info("reported what this machine is made of", "next boot in", cfg.Waits.Discovered)
		return wait(ctx, cfg.Waits.Discovered)
	}
	var order enrol.Order
	err := cfg.retry(ctx, func() (err error) {
		order, err = cfg.Server.Claim(ctx, cfg.Facts)
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot learn what to do: %w", err)
	}
	return cfg.conclude(ctx, cfg.carryOut(ctx, order))
}

func (cfg Config) carryOut(ctx context.Context, order enrol.Order) error {
	switch {
	case order.Action != cfg.Task.Action:
		return fmt.Errorf("cannot %s: the boot script said to %s", order.Action, cfg.Task.Action)
	case order.Action == netboot.ActionInstall:
		return cfg.install(ctx, order)
	case order.Action == netboot.ActionWipe:
		return cfg.wipe(ctx, order)
	}
	return fmt.Errorf("cannot %s: this installer installs and wipes", order.Action)
}

// conclude reports how it ended.
func (cfg Config) conclude(ctx context.Context, ended error) error {
	reason := ""
	if ended != nil {
		reason = ended.Error()
		cfg.Log.Error("failed", "error", ended)
	}
	err := cfg.retry(ctx, func() error { return cfg.Server.Outcome(ctx, reason) })
	if err != nil {
		err = fmt.Errorf("cannot report how it ended: %w", err)
	}
	return errors.Join(ended, err)
}

// retry repeats an exchange until it succeeds, is refused, or patience ends.
func (cfg Config) retry(ctx context.Context, exchange func() error) error {
	pause, waited := cfg.Waits.First, time.Duration(0)
	for {
		err := exchange()
		var refusal *enrol.Refusal
		if err == nil || errors.As(err, &refusal) || waited >= cfg.Waits.Patience {
			return err
		}
		cfg.Log.Warn("trying again", "error", err, "in", pause)
		if err := wait(ctx, pause); err != nil {
			return err
		}
		waited += pause
		pause = min(2*pause, cfg.Waits.Longest)
	}
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// progress reports how far a stage is. A server that is away is not waited for; one that refuses ends the work.
func (cfg Config) progress(ctx context.Context, p enrol.Progress) error {
	ctx, cancel := context.WithTimeout(ctx, cfg.Waits.Report)
	defer cancel()
	err := cfg.Server.Progress(ctx, p)
	var refusal *enrol.Refusal
	if errors.As(err, &refusal) {
		return err
	}
	if err != nil {
		cfg.Log.Warn("cannot report progress", "error", err)
	}
	return nil
}

// reporter returns a function that reports bytes done, now and then.
func (cfg Config) reporter(ctx context.Context, stage enrol.Stage, disk string, total int64) func(done int64) error {
	var last time.Time
	return func(done int64) error {
		if now := time.Now(); now.Sub(last) >= cfg.Waits.Report {
			last = now
			cfg.Log.Info(string(stage), "disk", disk, "done", done, "total", total)
			return cfg.progress(ctx, enrol.Progress{Stage: stage, Disk: disk, Done: done, Total: total})
		}
		return nil
	}
}
