//go:build lab

package systemd

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/musterhq/muster/agent/runtime"
	"github.com/musterhq/muster/agent/runtime/runtimetest"
	"github.com/musterhq/muster/agent/runtime/systemd/nspawntest"
)

// testTypes starts and stops a unit of every type that fleet took and that systemd makes of files.
func testTypes(t testing.TB, host *nspawntest.Host, h *runtimetest.Host) {
	load(t, h, "seldom.service", "[Service]\nExecStart=/bin/sleep 1000\n")
	types := []struct{ name, text, sub string }{
		{"seldom.timer", "[Timer]\nOnActiveSec=1h\n", "waiting"},
		{"seldom.path", "[Path]\nPathExists=/run/nothing\n", "waiting"},
		{"seldom.socket", "[Socket]\nListenStream=/run/seldom.sock\n", "listening"},
		{"run-data.mount", "[Mount]\nWhat=tmpfs\nWhere=/run/data\nType=tmpfs\n", "mounted"},
		{"group.slice", "[Slice]\nTasksMax=50\n", "active"},
		{"group.target", "[Unit]\nDescription=Group\n", "active"},
	}
	for _, c := range types {
		load(t, h, c.name, c.text)
		if s := h.Status(c.name); s.Load != "loaded" || s.Active != "inactive" || s.Sub != "dead" {
			t.Errorf("loaded: %+v", s)
		}
		h.StartUnit(c.name)
		if s := h.AwaitState(c.name, "active", c.sub); s.RunningHash != s.Hash || s.Since.IsZero() {
			t.Errorf("started: %+v", s)
		}
	}
	h.Open()
	for _, c := range types {
		if s := h.Status(c.name); s.Active != "active" || s.Sub != c.sub || s.RunningHash != s.Hash {
			t.Errorf("adopted: %+v", s)
		}
		h.StopUnit(c.name)
		if s := h.Status(c.name); s.Active != "inactive" || s.Sub != "dead" || s.RunningHash != "" {
			t.Errorf("stopped: %+v", s)
		}
	}
	if mounts := host.Run(t, "cat", "/proc/self/mounts"); strings.Contains(mounts, " /run/data ") {
		t.Error("what was mounted still is")
	}
	for name, why := range map[string]string{
		"old.snapshot": "any more", "old.busname": "any more", "some.scope": "use a .service",
	} {
		load(t, h, name, "[Unit]\nDescription=Old\n")
		if s := h.Status(name); s.Load != "error" || !strings.Contains(s.Reason, why) {
			t.Errorf("got %+v", s)
		}
		if err := h.Start(within(t), name); !errors.Is(err, runtime.ErrLoad) {
			t.Errorf("starting %s: %v", name, err)
		}
	}
	testUnsupported(t, host, h)
}

// testUnsupported has units of types that containers may lack: that is told.
func testUnsupported(t testing.TB, host *nspawntest.Host, h *runtimetest.Host) {
	load(t, h, "run-auto.mount", "[Mount]\nWhat=tmpfs\nWhere=/run/auto\nType=tmpfs\n")
	load(t, h, "run-auto.automount", "[Automount]\nWhere=/run/auto\n")
	load(t, h, "run-swap.swap", "[Swap]\nWhat=/run/swap\n")
	load(t, h, "dev-nothing.device", "[Unit]\nDescription=Nothing\nJobTimeoutSec=1\n")
	for _, name := range []string{"run-auto.automount", "run-swap.swap", "dev-nothing.device"} {
		err := h.Start(within(t), name)
		var s runtime.Status
		if err == nil {
			s = h.Await(name, "active or not", func(s runtime.Status) bool { return s.Active != "activating" })
		}
		t.Logf("%s: %v, %s %s %q", name, err, s.Active, s.Sub, s.Reason)
		if err == nil && s.Active != "active" && s.Reason == "" {
			t.Errorf("nothing tells why there is no %s: %+v", name, s)
		}
	}
}

// testTriggers has services that others start: a timer, a path, a socket, and a unit that requires one.
func testTriggers(t testing.TB, host *nspawntest.Host, h *runtimetest.Host) {
	const service = "[Service]\nExecStart=/bin/sh -c 'echo called; exec sleep 1000'\n"
	for _, c := range []struct {
		name, text string
		trigger    []string
	}{
		{name: "tick.timer", text: "[Timer]\nOnActiveSec=1ms\nAccuracySec=1us\n"},
		{name: "seen.path", text: "[Path]\nPathExists=/run/seen\n", trigger: []string{"touch", "/run/seen"}},
		{name: "called.socket", text: "[Socket]\nListenFIFO=/run/called\n", trigger: []string{"sh", "-c", "echo hi > /run/called"}},
	} {
		service, name := strings.TrimSuffix(c.name, filepath.Ext(c.name))+".service", c.name
		load(t, h, service, "[Service]\nExecStart=/bin/sh -c 'echo called; exec sleep 1000'\n")
		load(t, h, name, c.text)
		h.StartUnit(name)
		if c.trigger != nil {
			host.Run(t, c.trigger...)
		}
		if s := h.AwaitState(service, "active", "running"); s.RunningHash != s.Hash {
			t.Errorf("got %+v", s)
		}
		h.AwaitLog(service, "called")
		h.Await(name, "active", func(s runtime.Status) bool { return s.Active == "active" })
		h.StopUnit(name)
		h.StopUnit(service)
	}
	load(t, h, "base.service", service)
	load(t, h, "top@x.service", "[Unit]\nRequires=base.service\nAfter=base.service\n"+strings.ReplaceAll(service, "called", "instance %i"))
	h.StartUnit("top@x.service")
	if got := h.AwaitLog("top@x.service", "instance"); got != "x" {
		t.Errorf("the instance is %q", got)
	}
	h.AwaitState("base.service", "active", "running")
}

// property asks systemctl for properties of a unit.
func property(t testing.TB, host *nspawntest.Host, unit, names string) string {
	t.Helper()
	return strings.TrimSpace(host.Run(t, "systemctl", "show", "--property="+names, "--value", unit))
}

// testByHand has somebody on the host start, stop and end units without muster.
func testByHand(t testing.TB, host *nspawntest.Host, h *runtimetest.Host) {
	h.LoadUnit("a.service", runtimetest.Server)
	h.StartUnit("a.service")
	before := h.AwaitState("a.service", "active", "running")
	host.Run(t, "systemctl", "restart", "a.service")
	after := h.Await("a.service", "started anew", func(s runtime.Status) bool { return s.Active == "active" && s.Since.After(before.Since) })
	if after.RunningHash != after.Hash {
		t.Errorf("restarted: %+v", after)
	}
	host.Run(t, "systemctl", "stop", "a.service")
	h.AwaitState("a.service", "inactive", "dead")
	host.Run(t, "systemctl", "start", "a.service")
	h.AwaitState("a.service", "active", "running")
	host.Run(t, "systemctl", "kill", "--signal=KILL", "a.service")
	if s := h.AwaitState("a.service", "failed", "failed"); s.Reason != "killed by SIGKILL" {
		t.Errorf("killed: %+v", s)
	}
	host.Run(t, "systemctl", "reset-failed", "a.service")
	h.AwaitState("a.service", "inactive", "dead")
	h.StartUnit("a.service")
	h.AwaitState("a.service", "active", "running")
}

// testFilesRemoved has somebody remove the files of a unit that runs. It goes on, and can be loaded again.
func testFilesRemoved(t testing.TB, host *nspawntest.Host, h *runtimetest.Host) {
	const text = "[Service]\nExecStart=/bin/sleep 1000\n[Install]\nWantedBy=multi-user.target\n"
	load(t, h, "a.service", text)
	h.StartUnit("a.service")
	h.AwaitState("a.service", "active", "running")
	pid := property(t, host, "a.service", "MainPID")
	if err := os.Remove(filepath.Join(host.Root, unitDir, "a.service")); err != nil {
		t.Fatal(err)
	}
	host.Run(t, "systemctl", "daemon-reload")
	s := h.Await("a.service", "not found", func(s runtime.Status) bool { return s.Load == "not-found" })
	if s.Active != "active" || s.Reason == "" {
		t.Errorf("without its file: %+v", s)
	}
	load(t, h, "a.service", text)
	if s := h.Status("a.service"); s.Load != "loaded" || s.Active != "active" || s.RunningHash != s.Hash {
		t.Errorf("loaded again: %+v", s)
	}
	if now := property(t, host, "a.service", "MainPID"); now != pid {
		t.Errorf("its process was %s and is %s", pid, now)
	}
}

// testJournal reads a journal that is rotated meanwhile, with what systemd says, and follows a unit through its restart
// and that of journald.
func testJournal(t testing.TB, host *nspawntest.Host, h *runtimetest.Host) {
	h.LoadUnit("a.service", "ExecStart=/bin/sh -c 'echo up; printf \"odd \\\\377 bytes\\\\n\"; exec sleep 1000'\n")
	h.StartUnit("a.service")
	h.AwaitLog("a.service", "up")
	host.Run(t, "journalctl", "--rotate")
	found, ended := make(chan string, 100), make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context()) // each wait for a line has its own time
	defer cancel()
	go func() {
		ended <- h.Logs(ctx, "a.service", runtime.LogQuery{Lines: -1, Follow: true}, func(entries []runtime.LogEntry) error {
			for _, e := range entries {
				if string(e.Message) == "up" {
					found <- e.Identifier
				}
			}
			return nil
		})
	}()
	next := func() string {
		select {
		case who := <-found:
			return who
		case err := <-ended:
			t.Fatalf("following ended early: %v", err)
		case <-within(t).Done():
			t.Fatalf("the unit's line is not followed; its log is\n%s", h.Log("a.service"))
		}
		return ""
	}
	if who := next(); who != "sh" {
		t.Errorf("%q wrote it", who)
	}
	host.Run(t, "journalctl", "--rotate")
	h.StopUnit("a.service")
	h.StartUnit("a.service")
	next()
	host.Run(t, "systemctl", "restart", "systemd-journald.service")
	h.StopUnit("a.service")
	h.StartUnit("a.service")
	next()
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("following ended with %v", err)
	}
	text, err := h.Lines(within(t), "a.service", runtime.LogQuery{Lines: -1, System: true})
	lines := strings.Split(text, "\n")
	if err != nil || !slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, "Started a.service") }) ||
		!strings.Contains(text, "odd \xff bytes\n") {
		t.Errorf("the journal says %q, %v", text, err)
	}
	if plain := h.Log("a.service"); strings.Contains(plain, "Started") || strings.Count(plain, "up\n") != 3 {
		t.Errorf("the unit printed %q", plain)
	}
}
