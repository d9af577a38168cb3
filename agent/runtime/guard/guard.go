// Package guard is what kills units of Singleton=strict when musterd does not: because it is frozen, killed, or hangs. A
// guard is a process of its own, with a file that says until when the units may run, and a timer on a clock that nobody
// sets and that goes on while the machine sleeps (CLOCK_BOOTTIME). musterd moves the moment forward in the file; when it
// has passed, the guard removes the file, so that musterd learns of it, and kills until nothing is left.
//
// # What it guarantees
//
// While a guard lives, no unit of its kind runs for longer after the moment than the kernel takes to wake a process and to
// deliver SIGKILL. It needs nothing of musterd, of a bus or of the network, and lives on when musterd ends. What it does
// not know is whether musterd was right: see agent/partition.
//
// If both are killed in the same moment nobody is left to kill, but on hosts with systemd, which starts the guard again. A
// guard that was killed is also started again by musterd at the next renewal. A musterd of another version has it become
// that version's guard (Holder.Succeed), which no moment is lost by.
package guard

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Dir is where a guard and musterd keep what they share.
type Dir struct {
	Path string
	Boot string // ID: readings of the clock mean nothing in another one
}

func (d Dir) file() string { return filepath.Join(d.Path, "hold-"+d.Boot) }
func (d Dir) lock() string { return filepath.Join(d.Path, "guard.lock") }

// Read returns the moment that was set last in this boot, false if there is none, or a guard has killed since.
func (d Dir) Read() (time.Duration, bool) {
	for range 3 {
		data, err := os.ReadFile(d.file())
		if err != nil {
			return 0, false
		}
		// It is written twice, so that one that is half written is seen.
		if a, b, ok := strings.Cut(string(data), " "); ok && a+"\n" == b {
			n, err := strconv.ParseInt(a, 10, 64)
			return time.Duration(n), err == nil
		}
	}
	return 0, false
}

// Holder sets the moment. It is for one goroutine at a time.
type Holder struct {
	Dir
	file      *os.File
	succeeded bool
}

// Set moves the moment. killed says that a guard has killed since the last call. A value, however late it arrives, is of no
// harm: it says itself until when it holds.
func (h *Holder) Set(until time.Duration) (killed bool, err error) {
	text := fmt.Sprintf("%020d", int64(until))
	for {
		if h.file == nil {
			if h.file, err = os.OpenFile(h.Dir.file(), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
				return killed, fmt.Errorf("cannot tell the guard: %w", err)
			}
		}
		if _, err = h.file.WriteAt([]byte(text+" "+text+"\n"), 0); err != nil {
			return killed, fmt.Errorf("cannot tell the guard: %w", err)
		}
		var stat unix.Stat_t
		if err = unix.Fstat(int(h.file.Fd()), &stat); err != nil {
			return killed, fmt.Errorf("cannot tell the guard: %w", err)
		}
		if stat.Nlink > 0 {
			return killed, nil
		}
		killed = true
		h.Close()
	}
}

// Close gives the file back; what it says stays.
func (h *Holder) Close() {
	if h.file != nil {
		_ = h.file.Close()
		h.file = nil
	}
}

// Guarded says whether a guard lives.
func (d Dir) Guarded() (bool, error) {
	f, err := os.OpenFile(d.lock(), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return false, fmt.Errorf("cannot look for the guard: %w", err)
	}
	defer f.Close()
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return true, nil
	}
	return false, err
}

// Await returns when a guard lives.
func (d Dir) Await(ctx context.Context) error {
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for {
		if lives, err := d.Guarded(); lives || err != nil {
			return err
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return fmt.Errorf("cannot start the guard: %w", ctx.Err())
		}
	}
}

// Units are what a guard kills.
type Units interface {
	// Kill ends every process of strict units, and returns when none is left.
	Kill(ctx context.Context) error
	// Any says whether there are strict units.
	Any() bool
}

// Gate is what Units may be, too, if others than musterd start strict units: it keeps them from that while nobody has said
// that they may run. What was begun before the gate was shut is killed.
type Gate interface{ Open(open bool) error }

// How often a guard looks whether the moment was moved, or whether something runs after it has passed; and for how long
// there must be nothing to guard until it ends.
const (
	lookEvery = time.Second
	killEvery = 250 * time.Millisecond
	idleFor   = 30 * time.Second
)

// Run guards until ctx ends, or there is nothing to guard any more. Another guard of the same directory is left alone. It
// is for a process of its own, which may become another program, see Holder.Succeed.
func Run(ctx context.Context, d Dir, units Units, log *slog.Logger) error {
	lock, err := d.acquire(ctx)
	if lock == nil {
		return err
	}
	defer lock.Close()
	timer, err := newTimer()
	if err != nil {
		return err
	}
	defer timer.Close()
	g := guard{Dir: d, units: units, log: log}
	idle := Now()
	for {
		wait, ahead := g.look(ctx)
		if now := Now(); units.Any() {
			idle = now
		} else if now-idle > idleFor {
			return nil
		}
		if ahead <= 0 || ahead > succession {
			if err := d.succeed(lock); err != nil {
				log.Error("the guard stays what it is", "err", err)
			}
		}
		if err := timer.wait(ctx, wait); err != nil {
			return err
		}
	}
}

// guard is one at work.
type guard struct {
	Dir
	units Units
	log   *slog.Logger
}

// look kills if the moment has passed. It returns for how long to wait then, and what is left until the moment.
func (g guard) look(ctx context.Context) (pause, ahead time.Duration) {
	until, held := g.Read()
	now := Now()
	kill, wait := Look(until, held, now)
	if !kill {
		g.open(true)
		return wait, until - now
	}
	if held {
		g.log.Warn("musterd has not renewed its hold on units of Singleton=strict: they are killed", "late", now-until)
	}
	g.open(false)
	if err := os.Remove(g.file()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		g.log.Error("cannot tell musterd", "err", err) // what matters is done all the same
	}
	if err := g.units.Kill(ctx); err != nil {
		g.log.Error("cannot kill units of Singleton=strict", "err", err)
	}
	return wait, 0
}

func (g guard) open(open bool) {
	if gate, ok := g.units.(Gate); ok {
		if err := gate.Open(open); err != nil {
			g.log.Error("cannot say whether units of Singleton=strict may start", "open", open, "err", err)
		}
	}
}

// acquire returns nothing if another guard lives. A look whether one does takes the lock for a moment.
func (d Dir) acquire(ctx context.Context) (*os.File, error) {
	if f := d.inherited(); f != nil {
		return f, nil
	}
	f, err := os.OpenFile(d.lock(), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot guard: %w", err)
	}
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for range 50 {
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
			return f, nil
		}
		select {
		case <-again.C:
		case <-ctx.Done():
		}
	}
	_ = f.Close()
	return nil, ctx.Err()
}
