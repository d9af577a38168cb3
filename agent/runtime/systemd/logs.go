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

	"github.com/musterhq/muster/agent/journal"
	"github.com/musterhq/muster/agent/runtime"
)

// Logs implements runtime.Runtime. It reads the journal by a journalctl of its own, which is there as long as the call: it
// knows the formats of the host's journal, rotates with it, and follows it without polling.
func (rt *Runtime) Logs(ctx context.Context, name string, q runtime.LogQuery, yield func([]runtime.LogEntry) error) error {
	now := time.Now()
	err := rt.with(name, func(*unit) {})
	if err == nil && (q.Lines != 0 || q.Follow) {
		err = rt.entries(ctx, logArguments(name, q, now), !q.Follow, yield)
	}
	if err != nil {
		return fmt.Errorf("cannot read the log of %s: %w", name, err)
	}
	return nil
}

// logArguments are those of journalctl. To follow without older lines is to see what is written from now on, however
// long journalctl takes to begin. Matches cannot be taken for options: none begins with a dash.
func logArguments(name string, q runtime.LogQuery, now time.Time) []string {
	args := []string{"--quiet", "--no-pager", "--all", "--output=json", "--output-fields=" + journal.Fields}
	if q.Follow {
		args = append(args, "--follow")
	}
	lines, since := "all", q.Since
	switch {
	case q.Lines == 0:
		since = now
	case q.Lines > 0:
		lines = strconv.Itoa(q.Lines)
	}
	args = append(args, "--lines="+lines)
	if !since.IsZero() {
		args = append(args, "--since=@"+strconv.FormatFloat(float64(since.UnixMicro())/1e6, 'f', 6, 64))
	}
	if q.Levels > 0 {
		args = append(args, "--priority="+strconv.Itoa(q.Levels-1))
	}
	args = append(args, "_SYSTEMD_UNIT="+name)
	if q.System {
		args = append(args, "+", "_PID=1", "UNIT="+name)
	}
	return args
}

// entries hands on what journalctl writes. That waits while yield does, and ends when yield fails.
func (rt *Runtime) entries(ctx context.Context, args []string, sync bool, yield func([]runtime.LogEntry) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var refused error
	lines := &journal.Lines{Max: journal.MaxEntry, Each: func(lines [][]byte) error {
		batch := make([]runtime.LogEntry, 0, len(lines))
		for _, line := range lines {
			e, err := journal.Parse(line)
			if err != nil {
				rt.config.Log.Warn("an entry of the journal is left out", "error", err, "bytes", len(line))
				continue
			}
			batch = append(batch, e)
		}
		if refused = yield(batch); refused != nil {
			cancel()
		}
		return refused
	}}
	err := rt.read(ctx, args, lines, sync)
	if refused != nil {
		return refused
	}
	return err
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

// journalctl ends with ctx, at the latest a second after it. One that outlives a killed agent ends by itself, as its output
// is closed.
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
