package process

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/musterhq/muster/agent/runtime/guard"
)

// TestTooLateToStart lets a process go that shall become a command by a certain moment: it looks at the clock itself.
func TestTooLateToStart(t *testing.T) {
	if !guard.Available {
		t.Skip("units of Singleton=strict need CLOCK_BOOTTIME and pidfds, which this system has not")
	}
	for _, tt := range []struct {
		name   string
		limit  func() (int64, error)
		starts bool
	}{
		{"no limit", func() (int64, error) { return 0, nil }, true},
		{"in an hour", func() (int64, error) { return uptime(guard.Now() + time.Hour) }, true},
		{"now", func() (int64, error) { return uptime(guard.Now()) }, false},
		{"an hour ago", func() (int64, error) { n, err := uptime(guard.Now() - time.Hour); return max(n, 1), err }, false},
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
		cmd := exec.Command(shell, "-c", startScript, "muster-start", nobody, shell, "-c", "echo yes >"+started)
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
