package process

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/agent/runtime/guard"
)

// TestTooLateToStart lets a process go that shall become a command by a certain moment: it looks at the clock itself.
func TestTooLateToStart(t *testing.T) {
	if !guard.Available {
		t.Skip("units of Singleton=strict need CLOCK_BOOTTIME and pidfds, which this system has not")
	}
	blind := strings.Replace(startScript, `-lt "$_muster_limit"`, `-gt 0`, 1)
	if blind == startScript {
		t.Fatal("there is no look at the clock to take away")
	}
	for _, tt := range []struct {
		name   string
		script string
		limit  func() (int64, error)
		starts bool
	}{
		{"no limit", startScript, func() (int64, error) { return 0, nil }, true},
		{"in an hour", startScript, func() (int64, error) { return uptime(guard.Now() + time.Hour) }, true},
		{"now", startScript, func() (int64, error) { return uptime(guard.Now()) }, false},
		{"an hour ago", startScript, func() (int64, error) { n, err := uptime(guard.Now() - time.Hour); return max(n, 1), err }, false},
		{"now, by a script that does not look", blind, func() (int64, error) { return uptime(guard.Now()) }, true},
	} {
		limit, err := tt.limit()
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		file := func(name, text string) *os.File {
			path := filepath.Join(dir, name)
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = f.Close() })
			return f
		}
		started := filepath.Join(dir, "started")
		const nobody = "0" // for a keeper
		cmd := exec.Command(shell, "-c", tt.script, "muster-start", nobody, shell, "-c", "echo yes >"+started)
		cmd.ExtraFiles = []*os.File{
			file("report", ""), file("go", fmt.Sprintf("%d a line\n", limit)), file("starts", ""), file("exit", ""), file("log", ""),
		}
		err = cmd.Run()
		_, missing := os.Stat(started)
		if runs := missing == nil; runs != tt.starts || (err == nil) != tt.starts {
			t.Errorf("%s: it has started: %v, want %v (%v)", tt.name, runs, tt.starts, err)
		}
	}
}
