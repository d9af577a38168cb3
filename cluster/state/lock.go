package state

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

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

// acquire takes the lock of a directory without waiting, and leaves word who has it.
func acquire(dir string) (*crashsafe.Lock, error) {
	name := filepath.Join(dir, fileLock)
	lock, err := crashsafe.TryAcquire(name)
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
