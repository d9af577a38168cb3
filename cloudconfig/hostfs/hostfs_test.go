package hostfs

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func open(t *testing.T) *Root {
	t.Helper()
	r, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func TestSymlink(t *testing.T) {
	r := open(t)
	if _, err := r.Write("/etc/a", []byte("file"), 0o644, nil); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := r.Symlink("/dev/null", "/etc/a"); err != nil {
			t.Fatal(err)
		}
	}
	if target, err := os.Readlink(filepath.Join(r.Dir(), "etc/a")); err != nil || target != "/dev/null" {
		t.Errorf("%s, %v", target, err)
	}
	if names, err := r.ReadDir("/etc"); err != nil || len(names) != 1 {
		t.Errorf("%v, %v", names, err)
	}
	if err := r.MkdirAll("/dir", 0o700, nil); err != nil {
		t.Fatal(err)
	}
	if err := r.Symlink("x", "/dir"); err == nil {
		t.Error("a link replaced a directory")
	}
}

func TestReplaceKeepsTheMode(t *testing.T) {
	r := open(t)
	for _, want := range []struct{ mode, after fs.FileMode }{{0o640, 0o640}, {0o600, 0o640}} {
		written, err := r.Replace("/etc/shadow", []byte("x"), want.mode, nil)
		if err != nil || written.Mode != octal(want.after) {
			t.Errorf("%+v, %v", written, err)
		}
	}
}

func TestBounds(t *testing.T) {
	r := open(t)
	if _, err := r.Write("/a", []byte("12345"), 0o4755|fs.ModeSetuid, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := r.ReadFile("/a", 4); err == nil || !strings.Contains(err.Error(), "more than 4 bytes") {
		t.Errorf("got %v", err)
	}
	if _, err := r.ReadFile("/etc", 4); err == nil {
		t.Error("no file")
	}
	for _, path := range []string{"", "/", "a", "/a/../b", "/a/", "//a"} {
		if _, err := r.Write(path, nil, 0o644, nil); err == nil {
			t.Errorf("wrote %q", path)
		}
	}
	if err := os.Symlink("/etc", filepath.Join(r.Dir(), "out")); err != nil {
		t.Fatal(err)
	}
	if r.Exists("/out/passwd") {
		t.Error("a link leads out of the root")
	}
	if err := r.Remove("/none"); err != nil {
		t.Error(err)
	}
	long := "/" + strings.Repeat("n", 255)
	if _, err := r.Write(long, nil, 0o644, nil); err != nil {
		t.Error(err)
	}
}
