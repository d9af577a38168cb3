//go:build lab

package image

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestReproducible builds the image a second time, from its manifest and its musterd: every file has the same bytes. It
// downloads what the first build's cache lacks.
func TestReproducible(t *testing.T) {
	dir, again := images(t), t.TempDir()
	if _, err := os.Stat(filepath.Join(dir, "cache")); err == nil {
		run(t, "cp", "-al", filepath.Join(dir, "cache"), again)
	}
	manifest := filepath.Join(dir, "muster_1.manifest")
	cmd := exec.CommandContext(t.Context(), "./build", again)
	cmd.Env = append(os.Environ(), "MANIFEST="+manifest, "MUSTERD="+filepath.Join(dir, "tree/usr/bin/musterd"),
		"INSTALLER="+filepath.Join(dir, "installer.tree/bin/muster-installer"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	first, err := os.ReadFile(manifest)
	if err != nil {
		t.Fatal(err)
	}
	second, err := os.ReadFile(filepath.Join(again, "muster_1.manifest"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(first), string(second)); diff != "" {
		t.Errorf("-first build +second build\n%s", diff)
	}
}
