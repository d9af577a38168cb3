package process

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/musterhq/muster/agent/runtime"
	"github.com/musterhq/muster/agent/runtime/guard"
	"github.com/musterhq/muster/agent/unitfile"
)

var _ runtime.Holder = (*Runtime)(nil)

// strictIn says whether a unit's contents ask for Singleton=strict.
func strictIn(name, text string) bool {
	f, _, err := unitfile.Parse(name, []byte(text))
	return err == nil && f.Muster(name).Strict
}

// Holds implements runtime.Holder.
func (rt *Runtime) Holds() bool { return guard.Available && len(rt.config.Guard) > 0 }

// Held implements runtime.Holder.
func (rt *Runtime) Held() (time.Duration, bool) { return rt.holder.Read() }

// Hold implements runtime.Holder. Without strict units there is no guard, and nobody to tell.
func (rt *Runtime) Hold(until time.Duration) (killed bool, err error) {
	rt.holding.Lock()
	defer rt.holding.Unlock()
	rt.until = until
	if !rt.anyStrict() {
		return false, nil
	}
	killed, err = rt.holder.Set(until)
	return killed, errors.Join(err, rt.ensureGuard())
}

func (rt *Runtime) anyStrict() bool {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	for _, u := range rt.units {
		u.mu.Lock()
		strict := u.loaded.strict
		u.mu.Unlock()
		if strict {
			return true
		}
	}
	return false
}

// guardTimeout bounds how long a guard may take to start.
const guardTimeout = 5 * time.Second

// guarded returns until when a strict unit that starts now may run, with a guard that sees to it.
func (rt *Runtime) guarded() (until time.Duration, err error) {
	rt.holding.Lock()
	defer rt.holding.Unlock()
	if !rt.Holds() {
		return 0, fmt.Errorf("%w: nobody here could kill it in time", runtime.ErrNotHeld)
	}
	if guard.Now() >= rt.until {
		return 0, runtime.ErrNotHeld
	}
	if _, err := rt.holder.Set(rt.until); err != nil {
		return 0, err
	}
	if err := rt.ensureGuard(); err != nil {
		return 0, err
	}
	ctx, cancel := rt.within(guardTimeout)
	defer cancel()
	return rt.until, rt.holder.Await(ctx)
}

// ensureGuard starts a guard if none lives.
func (rt *Runtime) ensureGuard() error {
	if rt.guardPID > 0 {
		var status unix.WaitStatus
		_, _ = unix.Wait4(rt.guardPID, &status, unix.WNOHANG, nil)
	}
	lives, err := rt.holder.Guarded()
	if err != nil || !rt.Holds() {
		return err
	}
	if lives {
		return rt.holder.Succeed(rt.config.Guard[0])
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("cannot start the guard: %w", err)
	}
	defer null.Close()
	said, err := os.OpenFile(filepath.Join(rt.config.Dir, "guard.log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("cannot start the guard: %w", err)
	}
	defer said.Close()
	argv := append(rt.config.Guard[:len(rt.config.Guard):len(rt.config.Guard)],
		"-dir", rt.config.Dir, "-instance", rt.config.Instance)
	p, err := os.StartProcess(argv[0], argv, &os.ProcAttr{
		Dir: "/", Env: append(os.Environ(), instanceMark+"="+rt.config.Instance), Files: []*os.File{null, null, said},
		Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return fmt.Errorf("cannot start the guard: %w", err)
	}
	rt.guardPID = p.Pid
	return p.Release()
}

// Guard kills the strict units of a Runtime whose directory is dir when it does not renew its hold on them. It runs in a
// process of its own, until ctx ends or there are no strict units any more.
func Guard(ctx context.Context, dir, instance string, log *slog.Logger) error {
	boot, err := bootID()
	if err != nil {
		return err
	}
	return guard.Run(ctx, guard.Dir{Path: dir, Boot: boot}, strictUnits{dir: dir, instance: instance}, log)
}

// strictUnits are those of a Runtime's directory, as another process sees it.
type strictUnits struct{ dir, instance string }

// each calls a function with every strict unit's job of being killed. What cannot be read is killed by its marks alone.
func (s strictUnits) each(f func(job)) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		dir := filepath.Join(s.dir, e.Name())
		var l loaded
		if !e.IsDir() || readJSON(filepath.Join(dir, unitFile), &l) != nil {
			continue
		}
		r, _ := readRecord(dir)
		strict := strictIn(l.Name, l.Text) || r.Running != nil && strictIn(l.Name, r.Running.Text)
		if strict {
			f(job{
				want: want{signal: "SIGKILL", whom: everybody}, unit: l.Name, instance: s.instance, main: r.Main, control: r.Control,
			})
		}
	}
}

// Any implements guard.Units.
func (s strictUnits) Any() (any bool) {
	s.each(func(job) { any = true })
	return any
}

// Kill implements guard.Units.
func (s strictUnits) Kill(ctx context.Context) error {
	var errs []error
	s.each(func(j job) { errs = append(errs, j.run(ctx)) })
	return errors.Join(errs...)
}

// uptime is when a moment will be in /proc/uptime, in hundredths of a second: the clock that a shell can read. Where that
// is not the machine's own, the time that is left counts.
func uptime(until time.Duration) (int64, error) {
	data, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return 0, err
	}
	text, _, _ := strings.Cut(string(data), " ")
	seconds, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return 0, fmt.Errorf("cannot read /proc/uptime: %w", err)
	}
	return int64(math.Floor((seconds + (until - guard.Now()).Seconds()) * 100)), nil
}
