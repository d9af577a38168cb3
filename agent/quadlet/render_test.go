package quadlet_test

import (
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/musterhq/muster/agent/quadlet"
	"github.com/musterhq/muster/agent/unitfile"
	"github.com/musterhq/muster/cloudconfig/golden"
)

var hosts = []struct {
	name string
	host quadlet.Host
}{
	{"podman.service", quadlet.Host{Engine: "podman", Path: "/usr/bin/podman", Systemd: true}},
	{"docker.service", quadlet.Host{Engine: "docker", Path: "/usr/bin/docker", Systemd: true}},
	{"podman-without-systemd.service", quadlet.Host{Engine: "podman", Path: "/usr/bin/podman"}},
}

// TestRender compares what each unit becomes on each kind of host, or why it cannot be there.
func TestRender(t *testing.T) {
	paths, err := filepath.Glob("testdata/render/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("found %v, %v", paths, err)
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			archive, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			source := archive.Files[0]
			name := unitfile.UnitName(source.Name)
			file, warnings, err := quadlet.Parse(name, source.Data)
			if err != nil || len(warnings) > 0 {
				t.Fatalf("%v, warnings %v", err, warnings)
			}
			got := txtar.Archive{Comment: archive.Comment, Files: archive.Files[:1:1]}
			for _, h := range hosts {
				if engine := file.Muster(name).Engine; engine != "" && engine != h.host.Engine {
					continue
				}
				got.Files = append(got.Files, txtar.File{Name: h.name, Data: render(t, name, file, h.host)})
			}
			golden.Compare(t, path, txtar.Format(&got))
		})
	}
}

// render is the service, which muster and systemd can read again, or what the engine cannot do.
func render(t *testing.T, name string, file unitfile.File, host quadlet.Host) []byte {
	rendered, err := quadlet.Render(name, file, host)
	if err != nil {
		return []byte(err.Error() + "\n")
	}
	again, warnings, err := unitfile.Parse(name, rendered.Bytes())
	if err != nil || len(warnings) > 0 {
		t.Errorf("the rendered service cannot be read: %v, %v", err, warnings)
	}
	if again.IsContainer() {
		t.Error("the rendered service is a container still")
	}
	return rendered.Bytes()
}
