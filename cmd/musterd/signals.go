package main

import (
	"os"
	"os/signal"
	"syscall"
)

// catchIgnored catches the signals that whoever started musterd ignores, SIGHUP for one under nohup, and does nothing about
// them. Units would ignore them too, and a shell cannot change that: what is ignored stays so in every program that is
// started, and what is caught is back to its default there (POSIX, exec).
func catchIgnored() {
	nobody := make(chan os.Signal, 1)
	for _, s := range []os.Signal{
		syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGALRM, syscall.SIGCHLD, syscall.SIGTSTP,
	} {
		if signal.Ignored(s) {
			signal.Notify(nobody, s)
		}
	}
}
