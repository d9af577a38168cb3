package firstboot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

func (machine) SetHostname(name string) error { return unix.Sethostname([]byte(name)) }

// console is the machine's console. A program that opens it so does not get it as its terminal.
type console struct{}

func (console) Write(text []byte) (int, error) {
	f, err := os.OpenFile("/dev/console", os.O_WRONLY|unix.O_NOCTTY, 0)
	if err != nil {
		return 0, err
	}
	n, err := f.Write(text)
	return n, errors.Join(err, f.Close())
}

// lockTimeout is how long shadow's tools wait for each other (lckpwdf(3)).
const lockTimeout = 15 * time.Second

// lockAccounts takes the lock that shadow's tools take, and returns what releases it.
func lockAccounts(root string) (func(), error) {
	f, err := os.OpenFile(filepath.Join(root, "etc/.pwd.lock"), os.O_WRONLY|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	late := time.NewTimer(lockTimeout)
	defer late.Stop()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		err := unix.FcntlFlock(f.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.EAGAIN) {
			_ = f.Close()
			return nil, fmt.Errorf("cannot lock the accounts: %w", err)
		}
		select {
		case <-late.C:
			_ = f.Close()
			return nil, errors.New("cannot lock the accounts: another program holds the lock")
		case <-again.C:
		}
	}
}
