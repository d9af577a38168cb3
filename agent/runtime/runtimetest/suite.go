// Package runtimetest is the conformance suite of runtime.Runtime. Every implementation passes it, so that an agent need
// not know which one it has. Units are services that run /bin/sh and tell in their log what happens to them.
package runtimetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/musterhq/muster/agent/runtime"
)

// Open returns a Runtime over the place that belongs to the test. Called again after Close it returns one that finds
// what the first one left. The suite closes it.
type Open func(t *testing.T) runtime.Runtime

// patience is how long the suite waits for what must happen. Nothing is measured against it.
const patience = time.Minute

// Run holds an implementation against the contract. place makes a fresh place for one test.
func Run(t *testing.T, place func(t *testing.T) Open) {
	for _, c := range []struct {
		name string
		test func(*testing.T, *Host)
	}{
		{"LoadAndList", testLoadAndList},
		{"StartAndStop", testStartAndStop},
		{"StartTwice", testStartTwice},
		{"StopLeavesNothing", testStopLeavesNothing},
		{"ReasonOfFailure", testReasonOfFailure},
		{"Oneshot", testOneshot},
		{"RestartOnFailure", testRestartOnFailure},
		{"Reload", testReload},
		{"CannotRunHere", testCannotRunHere},
		{"NotLoaded", testNotLoaded},
		{"UnloadOnlyAtRest", testUnloadOnlyAtRest},
		{"ReplacedContents", testReplacedContents},
		{"CloseLeavesRunning", testCloseLeavesRunning},
		{"ExitWhileClosed", testExitWhileClosed},
		{"Logs", testLogs},
		{"FollowLogs", testFollowLogs},
		{"ChooseLogs", testChooseLogs},
		{"LogsOfReaders", testLogsOfReaders},
		{"ManyAtOnce", testManyAtOnce},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := &Host{T: t, open: place(t)}
			h.Open()
			t.Cleanup(h.end)
			c.test(t, h)
		})
	}
}

// Server is a service that tells its ID and goes on until it is told to end.
const Server = "ExecStart=/bin/sh -c 'exec 2>/dev/null; trap \"echo bye; exit 0\" TERM; echo up $$$$; while :; do sleep 1000 & wait $!; done'\n"

func testLoadAndList(t *testing.T, h *Host) {
	if list := h.list(); len(list) != 0 {
		t.Fatalf("a fresh place has %v", list)
	}
	h.LoadUnit("b.service", Server)
	h.LoadUnit("a@1.service", Server)
	h.LoadUnit("b.service", Server)
	list := h.list()
	if len(list) != 2 || list[0].Name != "a@1.service" || list[1].Name != "b.service" {
		t.Fatalf("got %+v", list)
	}
	for _, s := range list {
		if s.Load != "loaded" || s.Active != "inactive" || s.Sub != "dead" || s.Hash != hash("[Service]\n"+Server) ||
			s.RunningHash != "" || s.Reason != "" {
			t.Errorf("got %+v", s)
		}
	}
	if err := h.Load(h.context(), runtime.Unit{Name: "no type"}); err == nil {
		t.Error("a unit without a proper name was loaded")
	}
}

func testStartAndStop(t *testing.T, h *Host) {
	h.LoadUnit("a.service", Server)
	h.StartUnit("a.service")
	s := h.AwaitState("a.service", "active", "running")
	if s.RunningHash != s.Hash || s.Since.IsZero() || time.Since(s.Since) < 0 {
		t.Errorf("got %+v", s)
	}
	pid := h.PID("a.service", "up")
	h.StopUnit("a.service")
	if Runs(pid) {
		t.Error("the process goes on")
	}
	if s := h.Status("a.service"); s.Active != "inactive" || s.Sub != "dead" || s.RunningHash != "" {
		t.Errorf("got %+v", s)
	}
	if log := h.Log("a.service"); !strings.Contains(log, "bye") {
		t.Errorf("the unit was not asked to end: %q", log)
	}
	h.StopUnit("a.service")
	h.StartUnit("a.service")
	h.AwaitState("a.service", "active", "running")
	h.AwaitLogs("a.service", "up", 2)
}

func testStartTwice(t *testing.T, h *Host) {
	h.LoadUnit("a.service", Server)
	for range 3 {
		h.StartUnit("a.service")
	}
	h.AwaitState("a.service", "active", "running")
	h.StartUnit("a.service")
	h.PID("a.service", "up")
	h.StopUnit("a.service")
	if n := strings.Count(h.Log("a.service"), "up"); n != 1 {
		t.Errorf("started %d times", n)
	}
}

func testStopLeavesNothing(t *testing.T, h *Host) {
	h.LoadUnit("a.service", `ExecStart=/bin/sh -c 'sh -c "echo child $$$$; exec sleep 1000" & \
  sh -c "trap : TERM; echo deaf $$$$; while :; do sleep 1000; done" & \
  (setsid sh -c "echo far $$$$; exec sleep 1000" &) ; echo up $$$$; exec sleep 1000'
TimeoutStopSec=1
`)
	h.StartUnit("a.service")
	var pids []int
	for _, word := range []string{"up", "child", "deaf", "far"} {
		pids = append(pids, h.PID("a.service", word))
	}
	h.StopUnit("a.service")
	for _, pid := range pids {
		if Runs(pid) {
			t.Errorf("process %d goes on", pid)
		}
	}
}

func testReasonOfFailure(t *testing.T, h *Host) {
	for service, want := range map[string]string{
		"ExecStart=/bin/sh -c 'exit 3'\n":                    "exit status 3",
		"ExecStart=/bin/sh -c 'exit 143'\n":                  "exit status 143",
		"ExecStart=/bin/sh -c 'kill -SEGV $$$$'\n":           "killed by SIGSEGV",
		"ExecStart=/nowhere/at/all\n":                        "/nowhere/at/all",
		"ExecStartPre=/bin/sh -c 'exit 4'\nExecStart=true\n": "ExecStartPre: exit status 4",
	} {
		h.LoadUnit("a.service", service+"Restart=no\nStartLimitBurst=0\n")
		h.StartUnit("a.service")
		s := h.AwaitState("a.service", "failed", "failed")
		if !strings.Contains(s.Reason, want) {
			t.Errorf("%s: the reason is %q, want %q", service, s.Reason, want)
		}
		h.StopUnit("a.service")
		if s := h.Status("a.service"); s.Active != "failed" {
			t.Errorf("stopping a failed unit makes it %+v", s)
		}
	}
}

func testOneshot(t *testing.T, h *Host) {
	h.LoadUnit("once.service", "Type=oneshot\nExecStart=/bin/echo one\nExecStart=/bin/echo two\n")
	h.StartUnit("once.service")
	h.AwaitLog("once.service", "two")
	h.AwaitState("once.service", "inactive", "dead")

	h.LoadUnit("stays.service", "Type=oneshot\nRemainAfterExit=yes\nExecStart=/bin/echo one\nExecStop=/bin/echo over\n")
	h.StartUnit("stays.service")
	h.AwaitState("stays.service", "active", "exited")
	h.StopUnit("stays.service")
	if log := h.Log("stays.service"); log != "one\nover\n" {
		t.Errorf("the log is %q", log)
	}

	h.LoadUnit("fails.service", "Type=oneshot\nExecStart=/bin/sh -c 'exit 1'\nExecStart=/bin/echo never\n")
	h.StartUnit("fails.service")
	h.AwaitState("fails.service", "failed", "failed")
	if log := h.Log("fails.service"); log != "" {
		t.Errorf("the log is %q", log)
	}
}

func testRestartOnFailure(t *testing.T, h *Host) {
	h.LoadUnit("a.service", "ExecStart=/bin/sh -c 'echo up; exit 1'\nRestart=on-failure\nRestartSec=10ms\n"+
		"StartLimitBurst=3\nStartLimitInterval=1h\n")
	h.StartUnit("a.service")
	s := h.AwaitState("a.service", "failed", "failed")
	if !strings.Contains(s.Reason, "start limit hit") {
		t.Errorf("the reason is %q", s.Reason)
	}
	if n := strings.Count(h.Log("a.service"), "up"); n != 3 {
		t.Errorf("started %d times", n)
	}
	if err := h.Start(h.context(), "a.service"); !errors.Is(err, runtime.ErrStartLimit) {
		t.Errorf("starting beyond the limit: %v", err)
	}
}

func testCannotRunHere(t *testing.T, h *Host) {
	h.LoadUnit("a.service", "Type=dbus\nBusName=not.a..name\nExecStart=/bin/true\n")
	if s := h.Status("a.service"); s.Load != "error" || s.Reason == "" {
		t.Errorf("got %+v", s)
	}
	if err := h.Start(h.context(), "a.service"); !errors.Is(err, runtime.ErrLoad) {
		t.Errorf("starting it: %v", err)
	}
	h.LoadUnit("a.service", Server)
	if s := h.Status("a.service"); s.Load != "loaded" || s.Reason != "" {
		t.Errorf("got %+v", s)
	}
}

func testNotLoaded(t *testing.T, h *Host) {
	ctx := h.context()
	if err := h.Start(ctx, "a.service"); !errors.Is(err, runtime.ErrNotLoaded) {
		t.Errorf("Start: %v", err)
	}
	if err := h.Stop(ctx, "a.service"); !errors.Is(err, runtime.ErrNotLoaded) {
		t.Errorf("Stop: %v", err)
	}
	if err := h.Unload(ctx, "a.service"); err != nil {
		t.Errorf("Unload: %v", err)
	}
	if _, err := h.Lines(ctx, "a.service", runtime.LogQuery{Lines: 1}); !errors.Is(err, runtime.ErrNotLoaded) {
		t.Errorf("Logs: %v", err)
	}
}

func testUnloadOnlyAtRest(t *testing.T, h *Host) {
	h.LoadUnit("a.service", Server)
	h.StartUnit("a.service")
	h.PID("a.service", "up")
	if err := h.Unload(h.context(), "a.service"); !errors.Is(err, runtime.ErrActive) {
		t.Errorf("unloading a running unit: %v", err)
	}
	h.StopUnit("a.service")
	if err := h.Unload(h.context(), "a.service"); err != nil {
		t.Error(err)
	}
	if list := h.list(); len(list) > 0 {
		t.Errorf("left: %+v", list)
	}
	h.Open()
	if list := h.list(); len(list) > 0 {
		t.Errorf("found again: %+v", list)
	}
	h.LoadUnit("a.service", Server)
	h.StartUnit("a.service")
	h.AwaitState("a.service", "active", "running")
}

func testReplacedContents(t *testing.T, h *Host) {
	const other = "ExecStart=/bin/sh -c 'echo other $$$$; exec sleep 1000'\n"
	h.LoadUnit("a.service", Server)
	h.StartUnit("a.service")
	pid := h.PID("a.service", "up")
	h.LoadUnit("a.service", other)
	s := h.Status("a.service")
	if s.Hash != hash("[Service]\n"+other) || s.RunningHash != hash("[Service]\n"+Server) || s.Active != "active" {
		t.Errorf("got %+v", s)
	}
	if !Runs(pid) {
		t.Error("loading other contents ended the unit")
	}
	h.Open()
	if s := h.Status("a.service"); s.Hash == s.RunningHash || s.RunningHash != hash("[Service]\n"+Server) {
		t.Errorf("after reopening got %+v", s)
	}
	h.StopUnit("a.service")
	h.StartUnit("a.service")
	h.PID("a.service", "other")
	if s := h.AwaitState("a.service", "active", "running"); s.RunningHash != s.Hash {
		t.Errorf("after the restart got %+v", s)
	}
}

func testCloseLeavesRunning(t *testing.T, h *Host) {
	h.LoadUnit("a.service", Server)
	h.LoadUnit("idle.service", Server)
	h.StartUnit("a.service")
	pid := h.PID("a.service", "up")
	before := h.AwaitState("a.service", "active", "running")
	h.Open()
	after := h.Status("a.service")
	if after.Active != "active" || after.Hash != before.Hash || !after.Since.Equal(before.Since) {
		t.Errorf("before %+v, after %+v", before, after)
	}
	if s := h.Status("idle.service"); s.Active != "inactive" {
		t.Errorf("got %+v", s)
	}
	h.StartUnit("a.service")
	h.StopUnit("a.service")
	if Runs(pid) {
		t.Error("the process goes on")
	}
	if n := strings.Count(h.Log("a.service"), "up"); n != 1 {
		t.Errorf("started %d times", n)
	}
}

func testExitWhileClosed(t *testing.T, h *Host) {
	services := map[string]string{
		"code.service":   "ExecStart=/bin/sh -c 'trap \"exit 143\" USR1; echo up $$$$; while :; do sleep 1000 & wait $!; done'\n",
		"signal.service": "ExecStart=/bin/sh -c 'echo up $$$$; exec sleep 1000'\n",
		"again.service":  "ExecStart=/bin/sh -c 'echo up $$$$; exec sleep 1000'\nRestart=on-failure\n",
	}
	pids := map[string]int{}
	for name, service := range services {
		h.LoadUnit(name, service)
		h.StartUnit(name)
		pids[name] = h.PID(name, "up")
	}
	h.Shut()
	for _, pid := range pids {
		if err := unix.Kill(pid, unix.SIGUSR1); err != nil {
			t.Fatal(err)
		}
	}
	for _, pid := range pids {
		h.AwaitEnd(pid)
	}
	h.Open()
	for name, want := range map[string]string{"code.service": "exit status 143", "signal.service": "killed by SIGUSR1"} {
		if s := h.AwaitState(name, "failed", "failed"); !strings.Contains(s.Reason, want) {
			t.Errorf("%s: the reason is %q, want %q", name, s.Reason, want)
		}
	}
	h.AwaitState("again.service", "active", "running")
	h.AwaitLogs("again.service", "up", 2)
}

func testLogs(t *testing.T, h *Host) {
	h.LoadUnit("a.service", "Type=oneshot\nExecStart=/bin/sh -c 'for i in 1 2 3 4 5; do echo $$i; done; echo err >&2'\n")
	h.StartUnit("a.service")
	h.AwaitLog("a.service", "err")
	h.AwaitState("a.service", "inactive", "dead")
	for lines, want := range map[int]string{-1: "1\n2\n3\n4\n5\nerr\n", 0: "", 1: "err\n", 3: "4\n5\nerr\n", 9: "1\n2\n3\n4\n5\nerr\n"} {
		if got, err := h.Lines(h.context(), "a.service", runtime.LogQuery{Lines: lines}); err != nil || got != want {
			t.Errorf("the last %d lines: %q, %v; want %q", lines, got, err, want)
		}
	}
	h.Open()
	h.StartUnit("a.service")
	if got := h.AwaitLogs("a.service", "err", 2); len(got) != 2 {
		t.Errorf("the log did not survive: %q", got)
	}
}

func testFollowLogs(t *testing.T, h *Host) {
	h.LoadUnit("a.service", Server)
	ctx, cancel := context.WithCancel(h.context())
	found := make(chan string, 1000)
	done := make(chan error, 1)
	go func() { done <- h.Logs(ctx, "a.service", runtime.LogQuery{Follow: true}, find("", found)) }()
	h.StartUnit("a.service")
	if line := <-found; !strings.HasPrefix(line, "up") {
		t.Errorf("got %q", line)
	}
	h.StopUnit("a.service")
	if line := <-found; line != "bye" {
		t.Errorf("got %q", line)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("following ended with %v", err)
	}
}

func testManyAtOnce(t *testing.T, h *Host) {
	var calls sync.WaitGroup
	for i := range 12 {
		name := fmt.Sprintf("a@%d.service", i)
		unit := Unit(t, name, Server)
		calls.Go(func() {
			for range 2 {
				if err := h.Load(h.context(), unit); err != nil {
					t.Error(err)
				}
				if err := h.Start(h.context(), name); err != nil {
					t.Error(err)
				}
				if _, err := h.List(h.context()); err != nil {
					t.Error(err)
				}
				if err := h.Stop(h.context(), name); err != nil {
					t.Error(err)
				}
			}
			if err := h.Start(h.context(), name); err != nil {
				t.Error(err)
			}
		})
	}
	calls.Wait()
	for i := range 12 {
		h.AwaitState(fmt.Sprintf("a@%d.service", i), "active", "running")
	}
}
