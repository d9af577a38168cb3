package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"syscall"

	"github.com/musterhq/muster/agent"
	"github.com/musterhq/muster/agent/update/dir"
)

// load is musterd as the boot loader of a host whose slots are directories: it starts the musterd of one of them.
func load(ctx context.Context, root string, args []string, stdout, stderr io.Writer, log *slog.Logger) error {
	return (&dir.Loader{Root: root, Args: args, Stdout: stdout, Stderr: stderr, Log: log}).Run(ctx)
}

// restart has this process be started anew after its agent has ended for that: by its boot loader, or in its place as one. Any
// other end of the agent is what it is.
func restart(err error) error {
	if !errors.Is(err, agent.ErrRestart) {
		return err
	}
	if dir.Loaded() >= 0 {
		return &exitStatus{dir.RestartStatus}
	}
	self, err := os.Executable()
	if err == nil {
		err = syscall.Exec(self, os.Args, os.Environ())
	}
	return fmt.Errorf("cannot start musterd anew: %w", err)
}

// exitStatus is an end that somebody waits for, and no failure.
type exitStatus struct{ code int }

// Error implements error.
func (e *exitStatus) Error() string { return fmt.Sprintf("exit status %d", e.code) }
