package process

import (
	"context"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// id names a process for good: its number, which the kernel gives away again, and when it began, in the system's own
// unit since boot.
type id struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"`
}

// none is no process.
var none id

// errUnseen is returned for a process whose exit status this system, or its permissions, do not show.
var errUnseen = errors.New("exit status is not visible")

// look is what the system says of a process.
type look struct {
	id
	Parent  int
	Session int // on systems that do not tell, the process group
	Zombie  bool
	Kernel  bool            // a thread of the kernel
	Status  unix.WaitStatus // of a zombie
}

// alive says whether the process still runs. A zombie does not.
func (i id) alive() bool {
	l, err := inspect(i.PID)
	return err == nil && l.id == i && !l.Zombie
}

// exists is true for zombies, too.
func (i id) exists() bool {
	l, err := inspect(i.PID)
	return err == nil && l.id == i
}

// signal sends a signal, to this process and never to another one that was given its number.
func (i id) signal(s unix.Signal) error {
	h, err := open(i)
	if err != nil {
		return err
	}
	defer h.Close()
	return h.signal(s)
}

// reap takes the exit status of a zombie that is a child of this very process, so that it goes away.
func (i id) reap() {
	if l, err := inspect(i.PID); err == nil && l.id == i && l.Zombie && l.Parent == os.Getpid() {
		var status unix.WaitStatus
		_, _ = unix.Wait4(i.PID, &status, unix.WNOHANG, nil)
	}
}

// pollInterval is how often a process is looked at where the kernel does not tell that it has ended.
const pollInterval = 200 * time.Millisecond

// poll waits until the process has ended by looking again and again.
func poll(ctx context.Context, i id) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for i.alive() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
	return nil
}
