package hostfs

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

func TestResolve(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "run", "lock"), 0o755); err != nil {
		t.Fatal(err)
	}
	for link, target := range map[string]string{"absolute": filepath.Join(dir, "run"), "relative": "run", "last": "run/lock"} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]string{
		"/none/of/these":       "/none/of/these",
		dir + "/run/x":         dir + "/run/x",
		dir + "/absolute/x":    dir + "/run/x",
		dir + "/relative/a/b":  dir + "/run/a/b",
		dir + "/last":          dir + "/last",
		dir + "/last/new/file": dir + "/run/lock/new/file",
	} {
		if got, err := resolve(path); err != nil || got != want {
			t.Errorf("%s: %s, %v", path, got, err)
		}
	}
}

func TestLookup(t *testing.T) {
	for owner, want := range map[string]*IDs{"": {0, 0}, "root": {0, 0}, "root:root": {0, 0}, "0:0": {0, 0}} {
		if got, err := Lookup(owner); err != nil || *got != *want {
			t.Errorf("%q: %v, %v", owner, got, err)
		}
	}
	for _, owner := range []string{"no-such-user", "root:no-such-group", strconv.Itoa(1<<31 - 7)} {
		if got, err := Lookup(owner); err == nil {
			t.Errorf("%q: %v", owner, got)
		}
	}
}
