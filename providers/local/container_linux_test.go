package local

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestImages(t *testing.T) {
	dir := t.TempDir()
	for _, file := range []string{"tree/usr/lib/systemd/systemd", "tree/usr/bin/musterd", "other/bin/sh", "text"} {
		path := filepath.Join(dir, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("text"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "muster_1.root"), []byte("hsqs..."), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"tree":          "",
		"muster_1.root": "",
		"":              "set `image:` to " + filepath.Join(dir, "tree"),
		"other":         "has no /usr/lib/systemd/systemd; build one with `make image`",
		"none":          "there is no image at " + filepath.Join(dir, "none") + "; build one with `make image`",
		"text":          "neither a directory nor a squashfs",
	} {
		c := &container{Image: filepath.Join(dir, name)}
		err := c.checkImage()
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", name, err, want)
		}
	}
}
