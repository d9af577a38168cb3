package state

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
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

// lock is an flock(2) on a file. The system drops it when the process ends, however it ends.
type lock struct{ f *os.File }

// acquire takes the lock of a directory without waiting. The directory may have been removed by the previous holder
// between open and flock; then the lock is of no use and acquire begins again.
func acquire(dir string) (*lock, error) {
	name := filepath.Join(dir, "lock")
	for {
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, fmt.Errorf("cannot lock %s: %w", dir, err)
		}
		if err := flock(f, dir); err != nil {
			_ = f.Close()
			return nil, err
		}
		if !sameFile(f, name) {
			_ = f.Close()
			continue
		}
		return &lock{f: f}, writePID(f)
	}
}

func flock(f *os.File, dir string) error {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EWOULDBLOCK):
			return &LockedError{Path: dir, PID: readPID(f)}
		default:
			return fmt.Errorf("cannot lock %s: %w", dir, err)
		}
	}
}

func sameFile(f *os.File, name string) bool {
	held, err1 := f.Stat()
	there, err2 := os.Stat(name)
	return err1 == nil && err2 == nil && os.SameFile(held, there)
}

func writePID(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return fmt.Errorf("cannot write lock: %w", err)
	}
	if _, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0); err != nil {
		return fmt.Errorf("cannot write lock: %w", err)
	}
	return nil
}

func readPID(f *os.File) int {
	b, err := io.ReadAll(io.LimitReader(f, 32))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(string(bytes.TrimSpace(b)))
	if err != nil {
		return 0
	}
	return pid
}

func (l *lock) release() error { return l.f.Close() }
