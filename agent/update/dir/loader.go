package dir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/musterhq/muster/agent/pause"
)

// slotVariable tells a musterd that the boot loader started it, and from which slot.
const slotVariable = "MUSTER_SLOT"

// RestartStatus is the exit status of a musterd that wants to be started anew.
const RestartStatus = 75

// Loaded is the slot that this process was started from by the boot loader, -1 if it was not.
func Loaded() int {
	if n, err := strconv.Atoi(os.Getenv(slotVariable)); err == nil && (n == 0 || n == 1) {
		return n
	}
	return -1
}

// Waiting reports whether a host has slots, so that musterd is to be the boot loader first.
func Waiting(root string) bool {
	_, found, err := readTable(root)
	return Loaded() < 0 && (found || err != nil)
}

// stopTime is how long a musterd that is told to end may take.
const stopTime = 30 * time.Second

// again is how long a release that did not do is left alone before its next try. All tries of one that ends at once are over
// long before others take the host for lost and its units for theirs.
const again = 200 * time.Millisecond

// Loader starts the musterd of the slot that the table names, until it ends for good.
type Loader struct {
	Root   string
	Args   []string // of musterd, without its name
	Stdout io.Writer
	Stderr io.Writer
	Log    *slog.Logger
}

// Run returns when ctx has ended and musterd with it, or when a musterd that is good ends by itself, with that as the error.
func (l *Loader) Run(ctx context.Context) error {
	defer keepThread()()
	for {
		i, counted, patience, err := l.boot(ctx)
		if err != nil {
			return err
		}
		err = l.start(ctx, i, counted, patience)
		var exit *exec.ExitError
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.As(err, &exit) && exit.ExitCode() == RestartStatus:
			continue
		case counted && !l.isGood(i):
			l.Log.Warn("the release did not do", "slot", i, "err", err)
			if err := pause.For(ctx, again); err != nil {
				return nil
			}
			continue
		}
		return err
	}
}

// boot chooses a slot and counts a try before it is used.
func (l *Loader) boot(ctx context.Context) (i int, counted bool, patience time.Duration, err error) {
	t, found, err := readTable(l.Root)
	if err != nil || !found {
		return 0, false, 0, errors.Join(err, errors.New("cannot start musterd: the table of slots is missing or broken"))
	}
	if t.Ends {
		if err := endOthers(ctx, l.Root); err != nil {
			return 0, false, 0, err
		}
		if err := newBoot(l.Root); err != nil {
			return 0, false, 0, err
		}
		t.Ends = false
	}
	i, counted = take(&t)
	return i, counted, t.Patience, writeTable(l.Root, t)
}

// take chooses a slot, and counts it if it is not good.
func take(t *table) (i int, counted bool) {
	i = t.pick()
	t.Want = i
	if counted = !t.Slots[i].Good; counted {
		t.Slots[i].Tries--
	}
	return i, counted
}

func (l *Loader) isGood(i int) bool {
	t, found, err := readTable(l.Root)
	return err == nil && found && t.Slots[i].Good
}

// start runs the musterd of a slot until it ends. One that is not good is ended after some time.
func (l *Loader) start(ctx context.Context, i int, counted bool, patience time.Duration) error {
	t, _, err := readTable(l.Root)
	if err != nil {
		return err
	}
	running, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(running, t.Slots[i].Program, l.Args...)
	cmd.Env = append(os.Environ(), slotVariable+"="+strconv.Itoa(i))
	cmd.Stdout, cmd.Stderr = l.Stdout, l.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopTime
	dieWithParent(cmd)
	l.Log.Info("starting", "slot", i, "version", t.Slots[i].Version, "counted", counted, "tries", t.Slots[i].Tries)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("cannot start release %s: %w", t.Slots[i].Version, err)
	}
	var reaping sync.WaitGroup
	reaping.Go(func() { reapOthers(running, cmd.Process.Pid) })
	defer reaping.Wait()
	defer cancel()
	if counted && patience > 0 {
		timer := time.AfterFunc(patience, func() {
			if !l.isGood(i) {
				l.Log.Warn("the release is not found good in time", "slot", i)
				cancel()
			}
		})
		defer timer.Stop()
	}
	return cmd.Wait()
}
