package hooks

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/musterhq/muster/agent/update"
)

func program(t *testing.T, dir, name, script string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
}

// TestCalls has programs be told what the engine's calls say, and the engine what they answer.
func TestCalls(t *testing.T) {
	dir := t.TempDir()
	e := New(dir)
	program(t, dir, "slots", `echo '{"booted": {"version": "1", "good": true, "tries_left": -1}, "other": {"version": "2", "tries_left": 3}, "next": "2"}'`)
	program(t, dir, "stage", `cat > "$(dirname "$0")/release"; test "$MUSTER_UPDATE_CALL $MUSTER_UPDATE_VERSION $1" = "stage 2 2"`)
	program(t, dir, "switch", `echo first >&2; echo "the loader says no" >&2; exit 3`)
	got, err := e.Slots(t.Context())
	want := update.Slots{Booted: update.Slot{Version: "1", Good: true, TriesLeft: -1}, Other: update.Slot{Version: "2", TriesLeft: 3}, Next: "2"}
	if err != nil || got != want {
		t.Errorf("slots %+v, %v", got, err)
	}
	r := update.Release{Version: "2", Files: []update.File{{Name: "root.img", Path: "/f", Size: 7, SHA256: "ab"}}}
	if err := e.Stage(t.Context(), r); err != nil {
		t.Error(err)
	}
	told, err := os.ReadFile(filepath.Join(dir, "release"))
	if want := `{"version":"2","files":[{"name":"root.img","path":"/f","size":7,"sha256":"ab"}]}`; err != nil || string(told) != want {
		t.Errorf("stage was told %s, %v", told, err)
	}
	if err := e.Switch(t.Context(), "2"); err == nil || !strings.Contains(err.Error(), "cannot switch: exit status 3: the loader says no") {
		t.Errorf("switch: %v", err)
	}
	if err := e.Good(t.Context()); err == nil {
		t.Error("a program that is not there did its work")
	}
}

func TestSlotsRefused(t *testing.T) {
	for _, answer := range []string{"", "{}", "nonsense", `{"booted": {"version": "1"}, "more": 1}`} {
		dir := t.TempDir()
		program(t, dir, "slots", "echo '"+answer+"'")
		if got, err := New(dir).Slots(t.Context()); err == nil {
			t.Errorf("%q is taken for %+v", answer, got)
		}
	}
}
