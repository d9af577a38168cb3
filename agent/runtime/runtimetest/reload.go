package runtimetest

import (
	"errors"
	"testing"

	"github.com/musterhq/muster/agent/runtime"
)

// testReload holds those runtimes that reload units to it: in place, and only what runs and has an ExecReload=.
func testReload(t *testing.T, h *Host) {
	reloader, able := h.Runtime.(runtime.Reloader)
	if !able {
		return // it says so itself, and whoever asks is told
	}
	h.LoadUnit("a.service", Server+"ExecReload=/bin/sh -c 'echo again $$MAINPID'\n")
	if err := reloader.Reload(h.context(), "a.service"); !errors.Is(err, runtime.ErrNotActive) {
		t.Errorf("a stopped unit: %v", err)
	}
	h.StartUnit("a.service")
	h.AwaitState("a.service", "active", "running")
	pid := h.PID("a.service", "up")
	if err := reloader.Reload(h.context(), "a.service"); err != nil {
		t.Fatal(err)
	}
	if again := h.PID("a.service", "again"); again != pid {
		t.Errorf("process %d was reloaded, %d runs", again, pid)
	}
	h.AwaitState("a.service", "active", "running")
	h.LoadUnit("b.service", Server)
	h.StartUnit("b.service")
	h.AwaitState("b.service", "active", "running")
	if err := reloader.Reload(h.context(), "b.service"); !errors.Is(err, runtime.ErrNoReload) {
		t.Errorf("without ExecReload=: %v", err)
	}
	if err := reloader.Reload(h.context(), "c.service"); !errors.Is(err, runtime.ErrNotLoaded) {
		t.Errorf("an unknown unit: %v", err)
	}
}
