package systemd

import "golang.org/x/sys/unix"

// monotonic is CLOCK_MONOTONIC in microseconds, as systemd gives times.
func monotonic() uint64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return 0 // as long as the kernel is Linux, it has this clock
	}
	return uint64(t.Nano() / 1000)
}
