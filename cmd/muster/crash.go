package main

import (
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
)

// crashPoint is for tests: with MUSTER_CRASH_AT=N in the environment, the Nth call of the function that it returns ends
// the process with SIGKILL, as a power cut would. Without, it returns nil.
func crashPoint() func(string) {
	at, err := strconv.ParseInt(os.Getenv("MUSTER_CRASH_AT"), 10, 64)
	if err != nil || at < 1 {
		return nil
	}
	var passed atomic.Int64
	return func(string) {
		if passed.Add(1) == at {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // nothing more happens until the signal arrives
		}
	}
}
