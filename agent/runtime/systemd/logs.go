package systemd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Logs implements runtime.Runtime. Lines are as the unit wrote them, without what systemd says about the unit.
func (rt *Runtime) Logs(ctx context.Context, name string, lines int, follow bool, w io.Writer) error {
	now := time.Now()
	err := rt.with(name, func(*unit) {})
	if err == nil && (lines != 0 || follow) {
		err = rt.read(ctx, logArguments(name, lines, follow, now), w, !follow)
	}
	if err != nil {
		return fmt.Errorf("cannot read the log of %s: %w", name, err)
	}
	return nil
}

// logArguments are those of journalctl. To follow without older lines is to see what is written from now on, however
// long journalctl takes to begin.
func logArguments(name string, lines int, follow bool, now time.Time) []string {
	args := []string{"--quiet", "--no-pager", "--all", "--output=cat"}
	if follow {
		args = append(args, "--follow")
	}
	switch {
	case lines == 0:
		args = append(args, "--lines=all", "--since=@"+strconv.FormatFloat(float64(now.UnixMicro())/1e6, 'f', 6, 64))
	case lines < 0:
		args = append(args, "--lines=all")
	default:
		args = append(args, "--lines="+strconv.Itoa(lines))
	}
	return append(args, "_SYSTEMD_UNIT="+name)
}

// read runs journalctl. With sync it has journald write first what it has received.
func (rt *Runtime) read(ctx context.Context, args []string, w io.Writer, sync bool) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(rt.ctx, func() { cancel(errClosed) })
	defer stop()
	if sync {
		if err := rt.journalctl(ctx, []string{"--sync"}, io.Discard); err != nil {
			rt.config.Log.Warn("the last lines of a log may be missing", "error", err)
		}
	}
	err := rt.journalctl(ctx, args, w)
	switch {
	case errors.Is(context.Cause(ctx), errClosed):
		return errClosed
	case ctx.Err() != nil:
		return nil
	}
	return err
}

func (rt *Runtime) journalctl(ctx context.Context, args []string, w io.Writer) error {
	command := slices.Concat(rt.config.Journalctl, args)
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = time.Second
	var problem bytes.Buffer
	cmd.Stdout, cmd.Stderr = w, &problem
	err := cmd.Run()
	if err != nil && problem.Len() > 0 {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(problem.String()))
	}
	return err
}

// explain finds in the journal what systemd has against a unit. It falls back to the message that it has already.
func (rt *Runtime) explain(ctx context.Context, name, message string) string {
	var b bytes.Buffer
	args := []string{
		"--quiet", "--no-pager", "--output=cat", "--boot", "--lines=1", "--priority=warning", "_PID=1", "UNIT=" + name,
	}
	if err := rt.read(ctx, args, &b, true); err != nil {
		return message
	}
	if why := strings.TrimPrefix(strings.TrimSpace(b.String()), name+": "); why != "" {
		return message + " " + why
	}
	return message
}
