package image

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// versions writes a manifest for each version into a directory.
func versions(t *testing.T, list ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, v := range list {
		m := Manifest{Name: "muster", Version: v, Suite: "trixie", Files: []File{{"muster_" + v + ".root", sumA, 1}}}
		write(t, filepath.Join(dir, m.Base()+suffix), []byte(m.String()))
	}
	return dir
}

func TestList(t *testing.T) {
	dir := versions(t, "10", "9", "1.10", "1.2")
	write(t, filepath.Join(dir, "muster_9.raw"), nil)
	list, err := List(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range list {
		got = append(got, r.Version)
	}
	if want := []string{"1.2", "1.10", "9", "10"}; !slices.Equal(got, want) {
		t.Errorf("listed %v, want %v", got, want)
	}
	for _, name := range []string{"muster_9.manifest", "muster_9.raw", "muster_9.root"} {
		if r, err := Of(filepath.Join(dir, name)); err != nil || r.Version != "9" || r.Path() != filepath.Join(dir, "muster_9.manifest") {
			t.Errorf("%s is of %s, %v", name, r.Path(), err)
		}
	}
}

// TestOfShared: a file that every build makes anew is the last one's.
func TestOfShared(t *testing.T) {
	dir := t.TempDir()
	for _, v := range []string{"9", "10"} {
		m := Manifest{Name: "muster", Version: v, Suite: "trixie", Files: []File{{"vmlinuz", sumA, 1}}}
		write(t, filepath.Join(dir, m.Base()+suffix), []byte(m.String()))
	}
	if r, err := Of(filepath.Join(dir, "vmlinuz")); err != nil || r.Version != "10" {
		t.Errorf("vmlinuz is of %s, %v", r.Path(), err)
	}
}

func TestListRefuses(t *testing.T) {
	if _, err := List(t.TempDir()); !errors.Is(err, ErrNoManifest) {
		t.Errorf("a directory without manifests: %v", err)
	}
	if _, err := List(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
	if _, err := Of(filepath.Join(t.TempDir(), "muster_1.manifest")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a manifest that is not there: %v", err)
	}
	for _, name := range []string{"none/x.raw", "debian.raw", "muster_1.txt"} {
		if _, err := Of(filepath.Join(versions(t, "1"), name)); !errors.Is(err, ErrNoManifest) {
			t.Errorf("%s: %v", name, err)
		}
	}
	dir := versions(t, "1")
	if err := os.Rename(filepath.Join(dir, "muster_1.manifest"), filepath.Join(dir, "muster_2.manifest")); err != nil {
		t.Fatal(err)
	}
	if _, err := List(dir); err == nil || !strings.Contains(err.Error(), "it is of muster_1") {
		t.Errorf("a manifest under another version's name: %v", err)
	}
	write(t, filepath.Join(dir, "muster_2.manifest"), []byte("image\n"))
	if _, err := List(dir); err == nil || !strings.Contains(err.Error(), "muster_2.manifest: line 1") {
		t.Errorf("a bad manifest: %v", err)
	}
}

func TestCompareVersions(t *testing.T) {
	sorted := []string{"01", "1", "1.2", "1.10", "1.10-rc", "2", "9", "10", "20260101", "a", "a9", "a10", "b"}
	for i, a := range sorted {
		for j, b := range sorted {
			if got, want := CompareVersions(a, b), sign(i-j); sign(got) != want {
				t.Errorf("CompareVersions(%s, %s) = %d, want %d", a, b, got, want)
			}
		}
	}
}

func sign(n int) int {
	switch {
	case n < 0:
		return -1
	case n > 0:
		return 1
	default:
		return 0
	}
}
