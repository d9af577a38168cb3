//go:build lab

package quadlet_test

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/agent/quadlet"
	"github.com/musterhq/muster/agent/runtime"
	"github.com/musterhq/muster/agent/runtime/systemd"
	"github.com/musterhq/muster/agent/runtime/systemd/nspawntest"
)

// patience is how long the tests wait for what must happen. Nothing is measured against it.
const patience = time.Minute

// host is one with a systemd and podman, of which muster's runtime is outside.
type host struct {
	*testing.T
	in      *nspawntest.Host
	runtime *systemd.Runtime
}

// sh runs a command in the host.
func (h *host) sh(argv ...string) string {
	h.Helper()
	return h.in.Run(h.T, argv...)
}

// startHost starts a host with the image localhost/busybox. This machine may lack what podman limits processes with.
func startHost(t *testing.T) *host {
	t.Helper()
	in := nspawntest.Start(t, nspawntest.Tree(t), "containers", nspawntest.Options{
		Args: []string{"--private-network", "--system-call-filter=bpf"},
		Mask: []string{"musterd.service", "muster-firstboot.service", "ssh.service", "sshd.service"},
		Prepare: func(root string) error {
			dir := filepath.Join(root, "etc/containers/containers.conf.d")
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(dir, "50-lab.conf"), []byte("[containers]\npids_limit = 0\n"), 0o644)
		},
	})
	rt, err := systemd.New(context.WithoutCancel(t.Context()), systemd.Config{
		Root: in.Root, Bus: in.Bus, Journalctl: append(in.Enter(), "journalctl"), Env: []string{"MUSTER_HOST=node-1"},
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := rt.Close(); err != nil {
			t.Error(err)
		}
	})
	in.Run(t, "sh", "-c", "mkdir -p /tmp/root/bin /tmp/root/tmp && cp /bin/busybox /tmp/root/bin/ && ln -s busybox /tmp/root/bin/sh && "+
		"tar -C /tmp/root -c . | podman import - localhost/busybox")
	return &host{t, in, rt}
}

// start renders a unit for the host, and has systemd run it.
func (h *host) start(name, text string, on quadlet.Host) {
	h.Helper()
	file, _, err := quadlet.Parse(name, []byte(text))
	if err != nil {
		h.Fatal(err)
	}
	if file, err = quadlet.Render(name, file, on); err != nil {
		h.Fatal(err)
	}
	sum := sha256.Sum256([]byte(text + on.Path))
	if err := h.runtime.Load(h.Context(), runtime.Unit{Name: name, Hash: hex.EncodeToString(sum[:]), File: file}); err != nil {
		h.Fatal(err)
	}
	if err := h.runtime.Start(h.Context(), name); err != nil {
		h.Fatal(err)
	}
}

// wait waits until a unit is as ok says, and returns how it is then.
func (h *host) wait(name string, ok func(runtime.Status) bool) runtime.Status {
	h.Helper()
	ctx, cancel := context.WithTimeout(h.Context(), patience)
	defer cancel()
	for {
		list, err := h.runtime.List(ctx)
		if err != nil {
			h.Fatal(err)
		}
		for _, s := range list {
			if s.Name == name && ok(s) {
				return s
			}
		}
		select {
		case <-h.runtime.Changed():
		case <-ctx.Done():
			h.Fatalf("%s does not become what it shall: %+v\n%s", name, list, h.journal(name))
		}
	}
}

func running(s runtime.Status) bool { return s.Active == "active" }

func failed(s runtime.Status) bool { return s.Active == "failed" }

func (h *host) journal(name string) string {
	out, _ := h.in.Command(context.WithoutCancel(h.Context()), "journalctl", "--no-pager", "--output=cat", "--unit="+name).CombinedOutput()
	return string(out)
}

// logged waits until a unit's log, as muster reads it, has a text.
func (h *host) logged(name, text string) string {
	h.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		var log strings.Builder
		err := h.runtime.Logs(h.Context(), name, runtime.LogQuery{Lines: -1}, func(entries []runtime.LogEntry) error {
			for _, e := range entries {
				fmt.Fprintf(&log, "%s\n", e.Message)
			}
			return nil
		})
		if err != nil {
			h.Fatal(err)
		}
		if strings.Contains(log.String(), text) {
			return log.String()
		}
		select {
		case <-deadline.C:
			h.Fatalf("the log of %s has no %q:\n%s", name, text, log.String())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// noContainers checks that podman has none, running or not.
func (h *host) noContainers(when string) {
	h.Helper()
	if out := h.sh("podman", "ps", "--all", "--quiet"); strings.TrimSpace(out) != "" {
		h.Errorf("%s there are containers: %s", when, h.sh("podman", "ps", "--all"))
	}
}

// stop stops a unit, which then is at rest and has not failed.
func (h *host) stop(name string) {
	h.Helper()
	if err := h.runtime.Stop(h.Context(), name); err != nil {
		h.Fatal(err)
	}
	if s := h.wait(name, func(s runtime.Status) bool { return s.Active != "deactivating" }); s.Active != "inactive" {
		h.Errorf("%s is stopped, and %+v\n%s", name, s, h.journal(name))
	}
	h.noContainers("after " + name + " has stopped")
}

const server = `[Container]
Image=localhost/busybox
Pull=never
PublishPort=8080:80
Volume=/srv/data:/data:ro
Volume=cache:/cache
Environment=GREETING="two words" INSTANCE=%i
Exec=/bin/sh -c 'echo "$$GREETING of $$MUSTER_HOST in $$INSTANCE" > /cache/env; exec /bin/busybox httpd -f -p 80 -h /'
StopSignal=SIGKILL
[Service]
Restart=always
RestartSec=100ms
`

// forms are the services that there are. Podman stands in for docker, which takes the same commands but for --replace and
// --ignore: what is tested is the service and not docker.
var forms = []struct {
	name string
	on   quadlet.Host
}{
	{"podman", quadlet.Host{Engine: "podman", Path: "/usr/bin/podman", Systemd: true}},
	{"podman attached", quadlet.Host{Engine: "podman", Path: "/usr/bin/podman"}},
	{"as docker", quadlet.Host{Engine: "docker", Path: "/usr/local/bin/docker", Systemd: true}},
}

// TestContainersOfSystemd runs units that are containers on a host with a real systemd, in every form of their service.
func TestContainersOfSystemd(t *testing.T) {
	h := startHost(t)
	h.sh("sh", "-c", "mkdir -p /srv/data && echo from the host > /srv/data/page")
	h.sh("sh", "-c", "mkdir -p /usr/local/bin && ln -s /usr/bin/podman /usr/local/bin/docker")
	for i, form := range forms {
		h.T = t
		t.Run(form.name, func(t *testing.T) {
			h.T = t
			defer func() { h.T = t }()
			name := fmt.Sprintf("web@%d.service", i+1)
			h.start(name, server, form.on)
			h.wait(name, running)
			h.serves("data/page", "from the host")
			h.serves("cache/env", fmt.Sprintf("two words of node-1 in %d", i+1))
			h.killed(name)
			h.stop(name)
			h.start(name, server, form.on)
			h.wait(name, running)
			h.serves("data/page", "from the host")
			h.stop(name)
		})
	}
}

// serves asks the published port.
func (h *host) serves(path, want string) {
	h.Helper()
	got := h.sh("curl", "--silent", "--fail", "--retry", "60", "--retry-delay", "1", "--retry-all-errors", "--max-time", "5",
		"http://127.0.0.1:8080/"+path)
	if strings.TrimSpace(got) != want {
		h.Errorf("%s has %q, want %q", path, got, want)
	}
}

// killed ends what runs in a unit's container, which then is another one. A container that was left over is in the way of
// none.
func (h *host) killed(name string) {
	h.Helper()
	before := h.container()
	h.sh("podman", "kill", before)
	deadline := time.Now().Add(patience)
	for after := ""; after == "" || after == before; after = h.container() {
		if time.Now().After(deadline) {
			h.Fatalf("%s is not started again:\n%s", name, h.journal(name))
		}
	}
	h.wait(name, running)
	h.serves("data/page", "from the host")
}

// container is the ID of the one that runs, "" if there is none.
func (h *host) container() string {
	return strings.TrimSpace(h.sh("podman", "ps", "--quiet"))
}

// TestContainersWordForWord checks what a real systemd makes of a command line.
func TestContainersWordForWord(t *testing.T) {
	h := startHost(t)
	const text = `[Container]
Image=localhost/busybox
Pull=never
Network=none
StopSignal=SIGKILL
Environment="QUOTES=\"'" 'BACK=\\' PERCENT=100%% DOLLAR=$$HOME
Exec=/bin/sh -c 'for a; do echo "[$$a]"; done; echo "env[$$QUOTES][$$BACK][$$PERCENT][$$DOLLAR]"; exec /bin/busybox sleep 1000' \
  name "two  words" 'sing"le' "dou'ble" back\\slash tab\tend "" ; "%i" %%i ${SET} $SPLIT $$SET é {a,b} * #no -x
[Service]
Environment="SET=a b" "SPLIT=c d"
`
	h.start("words@7.service", text, quadlet.Host{Engine: "podman", Path: "/usr/bin/podman", Systemd: true})
	h.wait("words@7.service", running)
	log := h.logged("words@7.service", "env[")
	want := []string{
		"[two  words]", `[sing"le]`, `[dou'ble]`, `[back\slash]`, "[tab\tend]", "[]", "[;]", "[7]", "[%i]", "[a b]", "[c]", "[d]", "[$SET]",
		"[é]", "[{a,b}]", "[*]", "[#no]", "[-x]", `env["'][\][100%][$HOME]`,
	}
	if !strings.Contains(log, strings.Join(want, "\n")) {
		t.Errorf("the container has\n%s\nwant\n%s", log, strings.Join(want, "\n"))
	}
	h.stop("words@7.service")
}

// TestContainersAreWell asks a real podman for the health of containers, of which it makes checks by itself where systemd
// has the service.
func TestContainersAreWell(t *testing.T) {
	h := startHost(t)
	const text = `[Container]
Image=localhost/busybox
Pull=never
Network=none
ContainerName=well-%i
StopSignal=SIGKILL
HealthCmd=/bin/busybox test -e /tmp/well
HealthInterval=1h
Exec=/bin/sh -c 'echo up; exec /bin/busybox sleep 1000'
`
	for i, form := range forms[:2] {
		name := fmt.Sprintf("web@%d.service", i+1)
		h.start(name, text, form.on)
		h.wait(name, running)
		h.logged(name, "up")
		file, _, err := quadlet.Parse(name, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		words, well, err := quadlet.Health(name, file, form.on)
		if err != nil || well != "" {
			t.Fatal(well, err)
		}
		if out, err := h.in.Command(t.Context(), words...).CombinedOutput(); err == nil || !strings.Contains(string(out), "unhealthy") {
			t.Errorf("%s: before it is well: %s, %v", form.name, out, err)
		}
		h.sh("podman", "exec", fmt.Sprintf("well-%d", i+1), "/bin/busybox", "touch", "/tmp/well")
		h.sh(words...)
		h.stop(name)
	}
}

// TestContainersThatCannotRun reads what is said of them.
func TestContainersThatCannotRun(t *testing.T) {
	h := startHost(t)
	podman := quadlet.Host{Engine: "podman", Path: "/usr/bin/podman", Systemd: true}
	for _, tt := range []struct{ name, text, reason, log string }{
		{"missing.service", "Image=localhost/nope\nPull=never\n", "exit status 125 of podman: it cannot make the container", "localhost/nope: image not known"},
		{"registry.service", "Image=registry.invalid/nope\n", "exit status 125 of podman", "registry.invalid"},
		{"command.service", "Image=localhost/busybox\nExec=/bin/nope\n", "exit status 127 of podman: the container's command is not there", "/bin/nope"},
		{"oneshot.service", "Image=localhost/busybox\nExec=/bin/sh -c 'exit 3'\n[Service]\nType=oneshot\n", "exit status 3", ""},
	} {
		h.start(tt.name, "[Container]\n"+tt.text, podman)
		s := h.wait(tt.name, failed)
		if !strings.Contains(s.Reason, tt.reason) {
			t.Errorf("%s: %s, want %s", tt.name, s.Reason, tt.reason)
		}
		h.logged(tt.name, cmp.Or(tt.log, "\n"))
		h.noContainers("after " + tt.name + " has failed")
	}
}
