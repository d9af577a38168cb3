//go:build lab

package systemd

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/musterhq/muster/agent/runtime"
	"github.com/musterhq/muster/agent/runtime/guard"
	"github.com/musterhq/muster/agent/runtime/runtimetest"
	"github.com/musterhq/muster/agent/unitfile"
)

// What this program is told to be a guard, or an agent.
const (
	beGuard = "be-the-guard"
	beAgent = "be-an-agent"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case beGuard:
			if err := Guard(context.Background(), slog.New(slog.NewTextHandler(os.Stderr, nil))); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			os.Exit(0)
		case beAgent:
			fmt.Fprintln(os.Stderr, agentMain())
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// The services that shall be gone in time: each has processes that are deaf to SIGTERM, in sessions of their own, and is
// started again whenever it ends.
const deafLoop = `trap : TERM; while :; do sleep 0.05; done`

var strictServices = map[string]string{
	"deaf.service":   "Restart=always\nRestartSec=0\nTimeoutStopSec=1h\nExecStart=/bin/sh -c '(setsid sh -c \"" + deafLoop + "\" &); " + deafLoop + "'\n",
	"direct.service": "Restart=always\nRestartMode=direct\nRestartSec=0\nExecStart=/bin/sh -c '" + deafLoop + "'\n",
	"post.service":   "Restart=always\nRestartSec=0\nExecStart=/bin/sleep 1000\nExecStopPost=/bin/sh -c '" + deafLoop + "'\nTimeoutStopSec=1h\n",
	"pre.service": "Type=oneshot\nExecStartPre=/bin/sleep 1000\nExecStart=/bin/true\nTimeoutStartSec=infinity\n" +
		"ExecStop=/bin/sh -c '" + deafLoop + "'\n",
	"slice.service": "Slice=of-its-own.slice\nDelegate=yes\nFinalKillSignal=SIGTERM\nExecStart=/bin/sh -c '" + deafLoop + "'\n",
}

func strictUnit(name string) runtime.Unit {
	text := "[Unit]\nStartLimitIntervalSec=0\n[Service]\n" + strictServices[name] + "[X-Muster]\nSingleton=strict\n"
	f, _, err := unitfile.Parse(name, []byte(text))
	if err != nil {
		panic(err)
	}
	return runtime.Unit{Name: name, Hash: fmt.Sprintf("%x", text), File: f}
}

// agentMain is an agent with all of them. It writes the moment until which it has said that they may run, and moves it as
// long as its standard input tells it to.
func agentMain() error {
	ctx := context.Background()
	rt, err := New(ctx, guardedConfig())
	if err != nil {
		return err
	}
	hold := func() error {
		until := guard.Now() + 4*time.Second
		_, err := rt.Hold(until)
		fmt.Println(int64(until))
		return err
	}
	if err := hold(); err != nil {
		return err
	}
	for name := range strictServices {
		u := strictUnit(name)
		if err := rt.Load(ctx, u); err != nil {
			return err
		}
		if err := rt.Start(ctx, name); err != nil {
			return err
		}
	}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		if err := hold(); err != nil {
			return err
		}
	}
	<-time.After(time.Hour)
	return nil
}

func guardedConfig() Config {
	program, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return Config{Guard: []string{program, beGuard}, Log: slog.New(slog.NewTextHandler(os.Stderr, nil))}
}

// strictAgent is an agent that is a process of its own.
type strictAgent struct {
	*exec.Cmd
	in    io.Writer
	out   *bufio.Scanner
	until time.Duration
}

func startAgent(t *testing.T) *strictAgent {
	t.Helper()
	a := &strictAgent{Cmd: exec.Command(os.Args[0], beAgent)}
	in, err := a.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := a.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	a.in, a.out, a.Stderr = in, bufio.NewScanner(out), t.Output()
	if err := a.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Process.Kill(); _ = a.Wait() })
	a.heard(t)
	return a
}

// renew has the agent move the moment.
func (a *strictAgent) renew(t *testing.T) {
	t.Helper()
	if _, err := fmt.Fprintln(a.in); err != nil {
		t.Fatal(err)
	}
	a.heard(t)
}

func (a *strictAgent) heard(t *testing.T) {
	t.Helper()
	if !a.out.Scan() {
		t.Fatalf("the agent has ended: %v", a.out.Err())
	}
	n, err := strconv.ParseInt(a.out.Text(), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	a.until = time.Duration(n)
}

// allRun says whether every strict service has processes.
func allRun(t *testing.T) bool {
	t.Helper()
	for name := range strictServices {
		if len(processesOf(t, name)) == 0 {
			return false
		}
	}
	return true
}

// left are the processes of strict units, as the kernel has them.
func left(t *testing.T) (pids []int) {
	t.Helper()
	for name := range strictServices {
		pids = append(pids, processesOf(t, name)...)
	}
	return pids
}

func processesOf(t *testing.T, name string) (pids []int) {
	t.Helper()
	for _, dir := range groups(hierarchy("/"), map[string]bool{name: true}) {
		some, err := processesIn(dir)
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, some...)
	}
	return pids
}

func describe(pids []int) string {
	var all []string
	for _, pid := range pids {
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		group, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
		_, unified, _ := strings.Cut(string(group), "\n0::")
		all = append(all, fmt.Sprintf("%d %q in %q", pid, line, unified))
	}
	return strings.Join(all, ", ")
}

func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for limit := time.After(time.Minute); !is(); {
		select {
		case <-again.C:
		case <-limit:
			t.Fatalf("not so in a minute: %s", what)
		}
	}
}

func systemctl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("systemctl", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("systemctl %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func guardPID(t *testing.T) int {
	t.Helper()
	pid, err := strconv.Atoi(systemctl(t, "show", "--value", "--property=MainPID", guardUnit))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// TestStrict runs TestInsideStrict in a host of its own.
func TestStrict(t *testing.T) {
	inside(t, startHost(t, "strict"), "^TestInsideStrict")
}

func needsHost(t *testing.T) {
	if os.Getenv(insideVariable) == "" {
		t.Skip("TestStrict runs it, in a host of its own")
	}
	t.Cleanup(func() { clearStrict(t) })
}

func clearStrict(t *testing.T) {
	rt, err := New(context.Background(), guardedConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer rt.Close()
	list, err := rt.List(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list {
		_ = exec.Command("systemctl", "kill", "--signal=KILL", s.Name).Run() // it may not run
		if err := rt.Stop(context.Background(), s.Name); err != nil {
			t.Error(err)
		}
		if err := rt.Unload(context.Background(), s.Name); err != nil {
			t.Error(err)
		}
	}
}

// TestInsideStrictKilled freezes, kills or cuts off an agent while it holds strict units: every process of them is gone soon
// after the moment, and none before; nothing starts them again but an agent that has said that they may run.
func TestInsideStrictKilled(t *testing.T) {
	for name, disturb := range map[string]func(t *testing.T, a *strictAgent){
		"cut off": func(*testing.T, *strictAgent) {},
		"frozen":  func(_ *testing.T, a *strictAgent) { _ = a.Process.Signal(unix.SIGSTOP) },
		"killed":  func(_ *testing.T, a *strictAgent) { _ = a.Process.Kill() },
		"killed with its guard": func(t *testing.T, a *strictAgent) {
			pid := guardPID(t)
			_ = a.Process.Kill()
			_ = unix.Kill(pid, unix.SIGKILL)
		},
		"without a bus": func(t *testing.T, a *strictAgent) {
			_ = a.Process.Signal(unix.SIGSTOP)
			systemctl(t, "kill", "--signal=STOP", "dbus.service")
			t.Cleanup(func() { systemctl(t, "kill", "--signal=CONT", "dbus.service") })
		},
	} {
		t.Run(name, func(t *testing.T) {
			needsHost(t)
			a := startAgent(t)
			until(t, "all run", func() bool { return allRun(t) })
			a.renew(t)
			disturb(t, a)
			for guard.Now() < a.until-200*time.Millisecond {
				<-time.After(10 * time.Millisecond)
				if all := allRun(t); !all && guard.Now() < a.until {
					t.Fatalf("only %s are left before the moment", describe(left(t)))
				}
			}
			until(t, "they are gone", func() bool { return len(left(t)) == 0 })
			t.Logf("no process was seen %v after the moment", guard.Now()-a.until)
			if name == "frozen" {
				_ = a.Process.Signal(unix.SIGCONT)
			}
			for name := range strictServices {
				_ = exec.Command("systemctl", "reset-failed", name).Run()
				_ = exec.Command("systemctl", "start", "--no-block", name).Run()
			}
			for range 100 {
				<-time.After(10 * time.Millisecond)
				if pids := left(t); len(pids) > 0 {
					t.Fatalf("processes run, and nobody may have started them: %s", describe(pids))
				}
			}
		})
	}
}

// TestInsideStrictUpgrade replaces the program of the guard, restarts systemd and agents: no unit notices, and there is
// always a guard.
func TestInsideStrictUpgrade(t *testing.T) {
	needsHost(t)
	a := startAgent(t)
	until(t, "all run", func() bool { return allRun(t) })
	before, was := fmt.Sprint(left(t)), guardPID(t)
	_ = a.Process.Kill()
	_ = a.Wait()

	other := filepath.Join(t.TempDir(), "musterd-2")
	program, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(other, program, 0o755); err != nil {
		t.Fatal(err)
	}
	config := guardedConfig()
	config.Guard[0] = other
	rt, err := New(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer rt.Close()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for exe := ""; exe != other; exe, _ = os.Readlink(fmt.Sprintf("/proc/%d/exe", was)) {
		if killed, err := rt.Hold(guard.Now() + 10*time.Second); killed || err != nil {
			t.Fatalf("killed %v, %v", killed, err)
		}
		if lives, err := rt.strict.dir.Guarded(); !lives || err != nil {
			t.Fatalf("nobody guards (%v)", err)
		}
		<-again.C
	}
	if now := guardPID(t); now != was {
		t.Errorf("the guard was %d, is %d", was, now)
	}
	systemctl(t, "daemon-reload")
	systemctl(t, "daemon-reexec")
	for range 50 {
		if killed, err := rt.Hold(guard.Now() + 10*time.Second); killed || err != nil {
			t.Fatalf("killed %v, %v", killed, err)
		}
		<-again.C
	}
	if after := fmt.Sprint(left(t)); !samePIDs(before, after) {
		t.Errorf("processes were %s, are %s", before, after)
	}
	if out, err := exec.Command("systemctl", "stop", guardUnit).CombinedOutput(); err == nil {
		t.Errorf("somebody can stop the guard: %s", out)
	}
	if _, err := rt.Hold(guard.Now()); err != nil {
		t.Fatal(err)
	}
	until(t, "the new guard kills", func() bool { return len(left(t)) == 0 })
}

// samePIDs says whether the processes that do not come and go, as sleep does, are the same: those that both lists have are
// at least one for each unit.
func samePIDs(before, after string) bool {
	same := 0
	for _, pid := range strings.Fields(strings.Trim(before, "[]")) {
		if strings.Contains(" "+strings.Trim(after, "[]")+" ", " "+pid+" ") {
			same++
		}
	}
	return same >= len(strictServices)
}

// TestInsideStrictHeld is the conversation of a runtime with its guard.
func TestInsideStrictHeld(t *testing.T) {
	needsHost(t)
	h := runtimetest.NewHost(t, func(t *testing.T) runtime.Runtime {
		config := guardedConfig()
		rt, err := New(context.WithoutCancel(t.Context()), config)
		if err != nil {
			t.Fatal(err)
		}
		return rt
	})
	rt := func() *Runtime { return h.Runtime.(*Runtime) }
	if !rt().Holds() {
		t.Fatal("it cannot hold")
	}
	const name = "deaf.service"
	if err := rt().Load(within(t), strictUnit(name)); err != nil {
		t.Fatal(err)
	}
	for _, say := range []func() error{
		func() error { return nil },
		func() error { _, err := rt().Hold(guard.Now() - time.Second); return err },
	} {
		if err := say(); err != nil {
			t.Fatal(err)
		}
		if err := rt().Start(within(t), name); err == nil {
			t.Error("it is started, and may not run")
		}
		systemctl(t, "start", name)
		if s := h.Status(name); s.Active != "inactive" {
			t.Errorf("started by hand, it is %+v", s)
		}
	}
	if _, err := rt().Hold(guard.Now() + time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := rt().Start(within(t), name); err != nil {
		t.Fatal(err)
	}
	h.AwaitState(name, "active", "running")
	h.Open() // another agent
	if held, ok := rt().Held(); !ok || held < guard.Now() {
		t.Errorf("another agent finds that it is held until %v, %v", held, ok)
	}
	h.AwaitState(name, "active", "running")
	if _, err := rt().Hold(guard.Now()); err != nil {
		t.Fatal(err)
	}
	until(t, "it is killed", func() bool { return len(left(t)) == 0 })
	until(t, "it is said", func() bool {
		killed, err := rt().Hold(guard.Now() + time.Minute)
		return killed && err == nil
	})
	if err := rt().Start(within(t), name); err != nil {
		t.Fatal(err)
	}
	until(t, "it runs again", func() bool { return len(left(t)) > 1 })
	systemctl(t, "kill", "--signal=KILL", name)
	if _, err := rt().Hold(guard.Now() + time.Minute); err != nil {
		t.Fatal(err)
	}
	h.AwaitState(name, "active", "running")
	systemctl(t, "kill", "--signal=KILL", name)
	h.StopUnit(name)
	if err := rt().Unload(within(t), name); err != nil {
		t.Fatal(err)
	}
	if names := strictNames(rt().strict.dir.Path); len(names) > 0 {
		t.Errorf("the guard is left with %v", names)
	}
}
