package agent

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/musterhq/muster/cluster/store"
)

// Each host finds its own engine where the cluster file names none.
func TestOwnEngine(t *testing.T) {
	const image = "NAME=muster\nIMAGE_ID=muster\nIMAGE_VERSION=2026.11.3\n"
	const loader = "sys/firmware/efi/efivars/LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
	for _, tt := range []struct {
		name  string
		files map[string]string
		named string
		want  string // "" is refused
	}{
		{name: "any host", want: engineAgent},
		{name: "local", files: map[string]string{metaDataFile: "{}"}, want: engineDir},
		{name: "image", files: map[string]string{"usr/lib/os-release": image, loader: ""}, want: engineAB},
		{name: "image in a container", files: map[string]string{"usr/lib/os-release": image}, want: engineAgent},
		{name: "another system with systemd-boot", files: map[string]string{"usr/lib/os-release": "ID=debian\n", loader: ""}, want: engineAgent},
		{name: "named", named: engineAB, want: engineAB},
		{name: "exec", named: engineExec, want: engineExec},
		{name: "dir elsewhere", named: engineDir},
		{name: "unknown", named: "magic"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			for name, text := range tt.files {
				path := filepath.Join(root, name)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			u := newUpdater(host{root: root}, "1.0.0", nil, slog.New(slog.DiscardHandler))
			engine, err := u.newEngine(store.UpdateSettings{Engine: tt.named})
			switch {
			case err == nil && engine.Name() != tt.want:
				t.Errorf("the engine is %s, not %s", engine.Name(), tt.want)
			case (err != nil) != (tt.want == ""):
				t.Error(err)
			}
		})
	}
}
