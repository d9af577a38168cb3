package guard

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Available says whether this system can guard.
const Available = true

// Now is the reading of CLOCK_BOOTTIME.
func Now() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return 1<<63 - 1 // whatever was held is not any more; every Linux has this clock
	}
	return time.Duration(t.Nano())
}

// timer waits on the same clock: after a sleep of the machine it has run out at once.
type timer struct{ *os.File }

func newTimer() (timer, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_BOOTTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return timer{}, fmt.Errorf("cannot make a timer: %w", err)
	}
	return timer{os.NewFile(uintptr(fd), "timer")}, nil
}

func (t timer) wait(ctx context.Context, d time.Duration) error {
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(max(d, time.Microsecond)))}
	if err := t.set(&spec); err != nil {
		return fmt.Errorf("cannot set a timer: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = t.SetReadDeadline(time.Now()) })
	defer stop()
	var times [8]byte
	if _, err := t.Read(times[:]); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("cannot wait: %w", err)
	}
	return ctx.Err()
}

func (t timer) set(spec *unix.ItimerSpec) error {
	conn, err := t.SyscallConn()
	if err != nil {
		return err
	}
	failed := conn.Control(func(fd uintptr) { err = unix.TimerfdSettime(int(fd), 0, spec, nil) })
	return errors.Join(failed, err)
}
