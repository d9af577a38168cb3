package guard

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// succession is how much time there must be before the moment for a guard to become another program: more than it takes
// to begin, so that none is late.
const succession = 2 * time.Second

// lockVariable tells a guard the descriptor with the lock of the one that it was.
const lockVariable = "MUSTER_GUARD_LOCK"

// successor is a file with the path of the program that the guard shall be.
func (d Dir) successor() string { return filepath.Join(d.Path, "guard.program") }

// Succeed has the guard become a program, unless it is that already: the one of a musterd that was upgraded. It keeps its
// process and its lock, so that there is no moment without a guard; if the program cannot be executed, the old one goes
// on. It is asked once, and does so with at least two seconds before the moment, or while there is none.
func (h *Holder) Succeed(program string) error {
	if h.succeeded {
		return nil
	}
	path := h.successor()
	err := os.WriteFile(path+".new", []byte(program), 0o600)
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return fmt.Errorf("cannot tell the guard of %s: %w", program, err)
	}
	h.succeeded = true
	return nil
}

// succeed becomes the program that musterd named, if it has named another one than this. It returns only if it has not, or
// if that cannot be.
func (d Dir) succeed(lock *os.File) error {
	program, err := os.ReadFile(d.successor())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = os.Remove(d.successor())
	}
	if err != nil {
		return fmt.Errorf("cannot learn which program to become: %w", err)
	}
	is, err := os.Stat("/proc/self/exe")
	shall, missing := os.Stat(string(program))
	if err = errors.Join(err, missing); err != nil || os.SameFile(is, shall) {
		return err
	}
	fd := lock.Fd()
	if _, err := unix.FcntlInt(fd, unix.F_SETFD, 0); err != nil {
		return fmt.Errorf("cannot pass the lock on: %w", err)
	}
	env := append(os.Environ(), fmt.Sprintf("%s=%d", lockVariable, fd))
	err = syscall.Exec(string(program), append([]string{string(program)}, os.Args[1:]...), env)
	_, _ = unix.FcntlInt(fd, unix.F_SETFD, unix.FD_CLOEXEC)
	return fmt.Errorf("cannot become %s: %w", program, err)
}

// inherited is the lock of the guard that this process was before, nil if it was none.
func (d Dir) inherited() *os.File {
	fd, err := strconv.Atoi(os.Getenv(lockVariable))
	_ = os.Unsetenv(lockVariable)
	if err != nil || fd <= 2 {
		return nil
	}
	var passed, named unix.Stat_t
	if unix.Fstat(fd, &passed) != nil || unix.Stat(d.lock(), &named) != nil || passed.Ino != named.Ino || passed.Dev != named.Dev {
		return nil
	}
	_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC)
	return os.NewFile(uintptr(fd), d.lock())
}
