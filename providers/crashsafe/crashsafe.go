// Package crashsafe keeps small files whole although processes share them and may end at any moment: files are replaced
// at once, and locks are given up by the kernel when their holder ends.
//
// A replaced file holds either the old or the new contents whatever kills the process. Only WriteFileSync promises the
// same of a power cut. Locks are between processes, and between callers in one process; they are advisory (flock(2)).
// The package knows nothing of what the files mean.
package crashsafe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// WriteFile replaces a file's contents at once.
func WriteFile(path string, data []byte, mode fs.FileMode) error {
	return replace(path, data, mode, false)
}

// WriteFileSync is WriteFile that returns when the contents and the name are on disk.
func WriteFileSync(path string, data []byte, mode fs.FileMode) error {
	return replace(path, data, mode, true)
}

func replace(path string, data []byte, mode fs.FileMode, sync bool) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*.tmp")
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
			err = fmt.Errorf("cannot write %s: %w", path, err)
		}
	}()
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil && sync {
		err = f.Sync()
	}
	if err = cmp.Or(err, f.Close()); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil || !sync {
		return err
	}
	return syncDir(dir)
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return cmp.Or(dir.Sync(), dir.Close())
}

// Lock is a lock that is held.
type Lock struct {
	file *os.File
}

// lockPause is how long Acquire waits between two tries.
const lockPause = 5 * time.Millisecond

// ErrHeld is what TryAcquire says of a lock that somebody holds.
var ErrHeld = errors.New("lock is held")

// Acquire waits until the lock named by path is free and takes it. It makes the file and its directory.
func Acquire(ctx context.Context, path string) (*Lock, error) {
	timer := time.NewTimer(lockPause)
	defer timer.Stop()
	for {
		if err := context.Cause(ctx); err != nil {
			return nil, fmt.Errorf("cannot lock %s: %w", path, err)
		}
		lock, err := TryAcquire(path)
		if !errors.Is(err, ErrHeld) {
			return lock, err
		}
		timer.Reset(lockPause)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
	}
}

// TryAcquire takes the lock named by path or says ErrHeld at once.
func TryAcquire(path string) (*Lock, error) {
	var lock *Lock
	err := errReplaced
	for tries := 0; tries < maxReplaced && vanished(err); tries++ {
		lock, err = lockFile(path)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot lock %s: %w", path, err)
	}
	return lock, nil
}

// errReplaced means that the file was removed between opening and locking it.
var errReplaced = errors.New("lock file was removed")

// maxReplaced is how often in a row others may take file or directory away before something else must be wrong.
const maxReplaced = 1000

// vanished tells whether an error comes of others removing the file, or making and removing its directory, meanwhile.
func vanished(err error) bool {
	return errors.Is(err, errReplaced) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrExist)
}

func lockFile(path string) (*Lock, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = flock(file)
	if err == nil {
		err = stillAt(file, path)
	}
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	return &Lock{file: file}, nil
}

func flock(file *os.File) error {
	for {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EWOULDBLOCK):
			return ErrHeld
		default:
			return err
		}
	}
}

// stillAt checks that path names the file that was locked: a lock on a file that Remove took away excludes nobody.
func stillAt(file *os.File, path string) error {
	locked, err := file.Stat()
	if err != nil {
		return err
	}
	named, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(locked, named) {
		return errReplaced
	}
	return err
}

// Release gives the lock up and leaves its file.
func (l *Lock) Release() error { return l.file.Close() }

// Remove removes the lock's file and gives the lock up. Who waits for it makes a new file.
func (l *Lock) Remove() error {
	err := os.Remove(l.file.Name())
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return cmp.Or(err, l.file.Close())
}
