package crashsafe_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/musterhq/muster/providers/crashsafe"
)

func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	for name, write := range map[string]func(string, []byte, os.FileMode) error{
		"WriteFile": crashsafe.WriteFile, "WriteFileSync": crashsafe.WriteFileSync,
	} {
		for _, content := range []string{"first", ""} {
			if err := write(path, []byte(content), 0o640); err != nil {
				t.Fatal(err)
			}
			if got, _ := os.ReadFile(path); string(got) != content {
				t.Errorf("%s: file holds %q, want %q", name, got, content)
			}
		}
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, want 0640", info.Mode().Perm())
	}
	if err := crashsafe.WriteFile(filepath.Join(dir, "missing", "file"), nil, 0o600); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("write into a missing directory: %v", err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("left in the directory: %v", entries)
	}
}

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "made", "lock")
	first, err := crashsafe.Acquire(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := crashsafe.TryAcquire(path); !errors.Is(err, crashsafe.ErrHeld) {
		t.Errorf("a held lock: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := crashsafe.Acquire(ended, path); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting with an ended context: %v", err)
	}
	if err := first.Release(); err != nil {
		t.Fatal(err)
	}
	second, err := crashsafe.TryAcquire(path)
	if err != nil {
		t.Fatalf("a released lock: %v", err)
	}
	if err := second.Remove(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Remove left the file: %v", err)
	}
}

// TestLockExcludesWhileFilesGo lets holders remove the file and its directory, which must let nobody in beside another.
func TestLockExcludesWhileFilesGo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dir", "lock")
	var inside atomic.Int32
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 100 {
				lock, err := crashsafe.Acquire(t.Context(), path)
				if err != nil {
					t.Error(err)
					return
				}
				if n := inside.Add(1); n != 1 {
					t.Errorf("%d holders", n)
				}
				inside.Add(-1)
				if err := lock.Remove(); err != nil {
					t.Error(err)
				}
				_ = os.Remove(filepath.Dir(path))
			}
		})
	}
	group.Wait()
}
