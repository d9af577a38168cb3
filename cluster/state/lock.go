package state

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/musterhq/muster/providers/crashsafe"
)

// LockedError says that another process writes to the directory. PID is 0 when it cannot be told.
type LockedError struct {
	Path string
	PID  int
}

func (e *LockedError) Error() string {
	who := "another muster"
	if e.PID > 0 {
		who = fmt.Sprintf("another muster (process %d)", e.PID)
	}
	return fmt.Sprintf("%s is working on the cluster in %s; wait until it is done, or end it", who, e.Path)
}

// acquire takes the lock of a directory and leaves word who has it. It does not wait for a process that works.
func acquire(dir string) (*crashsafe.Lock, error) {
	name := filepath.Join(dir, fileLock)
	lock, err := crashsafe.TryAcquire(name)
	if errors.Is(err, crashsafe.ErrHeld) {
		lock, err = inherit(name)
	}
	if errors.Is(err, crashsafe.ErrHeld) {
		return nil, &LockedError{Path: dir, PID: readPID(name)}
	}
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(name, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600); err != nil {
		return nil, fmt.Errorf("cannot write lock: %w", errors.Join(err, lock.Release()))
	}
	return lock, nil
}

// inheritance is how long a lock may outlive the process that took it, and inheritPause the time between two looks.
const (
	inheritance  = 10 * time.Second
	inheritPause = 5 * time.Millisecond
)

// inherit takes a lock whose holder is dead as soon as it is free. A process that is killed between fork and exec of a
// child, while it starts a host, leaves its lock to the child until that runs a program of its own.
func inherit(name string) (*crashsafe.Lock, error) {
	late := time.NewTimer(inheritance)
	defer late.Stop()
	look := time.NewTicker(inheritPause)
	defer look.Stop()
	lock, err := (*crashsafe.Lock)(nil), error(crashsafe.ErrHeld)
	for errors.Is(err, crashsafe.ErrHeld) && ended(readPID(name)) {
		select {
		case <-late.C:
			return nil, err
		case <-look.C:
			lock, err = crashsafe.TryAcquire(name)
		}
	}
	return lock, err
}

// ended tells whether no process has the ID any more. Of an ID that cannot be told, 0, it says that one has.
func ended(pid int) bool { return pid > 0 && errors.Is(unix.Kill(pid, 0), unix.ESRCH) }

// readPID reads who has the lock, 0 when that cannot be told.
func readPID(name string) int {
	b, err := os.ReadFile(name)
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(string(bytes.TrimSpace(b)))
	if err != nil {
		return 0
	}
	return pid
}
