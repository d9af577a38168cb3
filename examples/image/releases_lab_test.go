//go:build lab

package image

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/musterhq/muster/agent/update"
)

// releases are versions of the image that differ in their version, their verity tree and what is broken in them. One tree is
// changed for one after the other.
type releases struct {
	t    *testing.T
	dir  string // as `make image` makes it
	slim bool   // without what these guests do not use, which takes a half of the time to write them
	told map[string]update.Release
}

// variant is what a release has of its own.
type variant struct {
	words string            // for the kernel
	files map[string]string // of the root
}

const driveUnit = `[Unit]
Description=the lab's drive of the engine
After=network.target
StartLimitIntervalSec=0
[Service]
ExecStart=/usr/bin/drive
Restart=always
RestartSec=2
StandardOutput=journal+console
[Install]
WantedBy=multi-user.target
`

func newReleases(t *testing.T) *releases {
	t.Helper()
	r := &releases{t: t, dir: t.TempDir(), told: map[string]update.Release{}}
	run(t, "cp", "-a", filepath.Join(images(t), "tree"), filepath.Join(r.dir, "tree"))
	run(t, "cp", filepath.Join(images(t), "vmlinuz"), filepath.Join(images(t), "kernel"), r.dir)
	build := exec.CommandContext(t.Context(), "go", "build", "-tags", "lab", "-o", filepath.Join(r.dir, "tree/usr/bin/drive"),
		"github.com/musterhq/muster/agent/update/ab/drive")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	r.steps("0", "initrd")
	return r
}

func (r *releases) path(name string) string { return filepath.Join(r.dir, name) }

func (r *releases) steps(version string, steps ...string) {
	r.t.Helper()
	cmd := exec.CommandContext(r.t.Context(), "./build", append([]string{r.dir}, steps...)...)
	cmd.Env = append(os.Environ(), "VERSION="+version, "MUSTERD="+filepath.Join(images(r.t), "tree/usr/bin/musterd"))
	if out, err := cmd.CombinedOutput(); err != nil {
		r.t.Fatalf("%v\n%s", err, out)
	}
}

// make builds a release. What is left out of a slim one is missing in those that are made after it.
func (r *releases) make(version string, own variant) {
	r.t.Helper()
	r.steps(version, "host")
	const units = "/usr/lib/systemd/system/"
	if r.slim {
		for _, pattern := range []string{"bin/podman", "bin/musterd", "lib/podman", "libexec/podman", "lib/modules/*/kernel/drivers/net/ethernet"} {
			paths, _ := filepath.Glob(r.path("tree/usr/" + pattern))
			run(r.t, "rm", append([]string{"-rf"}, paths...)...)
		}
	}
	r.write(units+"drive.service", driveUnit)
	r.write(units+"muster-firstboot.service.d/none.conf", "[Unit]\nConditionPathExists=!/\n") // there is no seed to wait for
	for path, text := range own.files {
		r.write(path, text)
	}
	run(r.t, "chroot", r.path("tree"), "systemctl", "--quiet", "--no-warn", "enable", "drive.service")
	r.steps(version, "root")
	if own.words != "" {
		r.command(own.words)
	}
	r.steps(version, "uki")
	for path := range own.files {
		if err := os.Remove(r.path("tree" + path)); err != nil {
			r.t.Fatal(err)
		}
	}
	r.told[version] = r.release(version)
}

// command adds to what the kernel of the release that is being made is told.
func (r *releases) command(words string) {
	r.t.Helper()
	line, err := os.OpenFile(r.path("cmdline"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		r.t.Fatal(err)
	}
	_, err = line.WriteString(" " + words)
	if err = errors.Join(err, line.Close()); err != nil {
		r.t.Fatal(err)
	}
}

func (r *releases) write(path, text string) {
	r.t.Helper()
	path = r.path("tree" + path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		r.t.Fatal(err)
	}
}

// disk is one with the release in its first slot.
func (r *releases) disk(version string) string {
	r.t.Helper()
	r.steps(version, "disk")
	return r.path("muster_" + version + ".raw")
}

// release is what a host is told of one.
func (r *releases) release(version string) update.Release {
	r.t.Helper()
	told := update.Release{Version: version}
	for _, suffix := range []string{".root", ".efi"} {
		name := "muster_" + version + suffix
		file, err := os.Open(r.path(name))
		if err != nil {
			r.t.Fatal(err)
		}
		sum := sha256.New()
		size, err := io.Copy(sum, file)
		_ = file.Close()
		if err != nil {
			r.t.Fatal(err)
		}
		told.Files = append(told.Files, update.File{Name: name, Size: size, SHA256: hex.EncodeToString(sum.Sum(nil))})
	}
	return told
}
