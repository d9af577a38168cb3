//go:build lab

package systemd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/agent/runtime"
	"github.com/musterhq/muster/agent/runtime/runtimetest"
	"github.com/musterhq/muster/agent/runtime/systemd/nspawntest"
)

// fromOutside is a Runtime here for the systemd of a host there.
func fromOutside(host *nspawntest.Host) runtimetest.Open {
	return func(t *testing.T) runtime.Runtime {
		return open(t, Config{Root: host.Root, Bus: host.Bus, Journalctl: append(host.Enter(), "journalctl")})
	}
}

// TestBeyondTheSuite is about what only a systemd has. All of it runs in one host.
func TestBeyondTheSuite(t *testing.T) {
	r := newReport()
	t.Cleanup(func() { r.tell(t) }) // last of all
	r.host = startHost(t, "beyond")
	for _, c := range []struct {
		name string
		test func(testing.TB, *nspawntest.Host, *runtimetest.Host)
	}{
		{"Environment", testEnvironment},
		{"HostsOwnUnits", testHostsOwnUnits},
		{"Types", testTypes},
		{"Triggers", testTriggers},
		{"ByHand", testByHand},
		{"FilesRemoved", testFilesRemoved},
		{"Journal", testJournal},
		{"Install", testInstall},
		{"Reasons", testReasons},
		{"RestartTakesNewContents", testRestartTakesNewContents},
		{"NothingIsLeft", testNothingIsLeft},
		{"RootDirectory", testRootDirectory},
		{"Podman", testPodman},
		{"Reexec", testReexec},
		{"BusRestart", testBusRestart},
	} {
		r.run(t, c.name, c.test)
	}
}

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// unloadAll leaves nothing for the next test.
func unloadAll(t testing.TB, h *runtimetest.Host) {
	t.Helper()
	list, err := h.List(within(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list {
		if err := h.Stop(within(t), s.Name); err != nil {
			t.Error(err)
		}
		if err := h.Unload(within(t), s.Name); err != nil {
			t.Error(err)
		}
	}
}

// load loads a whole unit file.
func load(t testing.TB, h *runtimetest.Host, name, text string) {
	t.Helper()
	u := parse(t, name, text)
	u.Hash = fmt.Sprintf("%x", text)
	if err := h.Load(within(t), u); err != nil {
		t.Fatal(err)
	}
}

func testEnvironment(t testing.TB, _ *nspawntest.Host, h *runtimetest.Host) {
	h.LoadUnit("env@7.service", "Type=oneshot\nEnvironment=OWN=unit\nExecStart=/bin/sh -c 'echo $MUSTER_HOST $MUSTER_UNIT $OWN %i'\n")
	h.StartUnit("env@7.service")
	if got := h.AwaitLog("env@7.service", "node-1"); got != "env@7.service unit 7" {
		t.Errorf("got %q", got)
	}
}

func testHostsOwnUnits(t testing.TB, host *nspawntest.Host, h *runtimetest.Host) {
	admins := filepath.Join(host.Root, "run/systemd/system/admins.service")
	if err := os.WriteFile(admins, []byte("[Service]\nExecStart=/bin/true\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	before := host.Run(t, "systemctl", "show", "systemd-journald.service", "--property=MainPID,FragmentPath")
	for name, path := range map[string]string{
		"systemd-journald.service": "/usr/lib/systemd/system/systemd-journald.service",
		"getty@tty9.service":       "/usr/lib/systemd/system/getty@.service",
		"admins.service":           "/run/systemd/system/admins.service",
		"musterd.service":          "/etc/systemd/system/musterd.service", // masked
	} {
		h.LoadUnit(name, runtimetest.Server)
		if s := h.Status(name); s.Load != "error" || !strings.Contains(s.Reason, path) || s.Active != "inactive" {
			t.Errorf("got %+v", s)
		}
		if err := h.Start(within(t), name); !errors.Is(err, runtime.ErrLoad) {
			t.Errorf("starting %s: %v", name, err)
		}
		h.StopUnit(name)
		if err := h.Unload(within(t), name); err != nil {
			t.Error(err)
		}
	}
	if after := host.Run(t, "systemctl", "show", "systemd-journald.service", "--property=MainPID,FragmentPath"); after != before {
		t.Errorf("the host's journal was %s, is %s", before, after)
	}
	if err := os.Remove(admins); err != nil {
		t.Error(err)
	}
}

func testInstall(t testing.TB, host *nspawntest.Host, h *runtimetest.Host) {
	load(t, h, "group.target", "[Unit]\nDescription=Group\n")
	const member = "[Service]\nExecStart=/bin/sleep 1000\n"
	load(t, h, "member.service", member+"[Install]\nWantedBy=group.target\n")
	h.StartUnit("group.target")
	h.AwaitState("member.service", "active", "running")
	link := filepath.Join(host.Root, "run/systemd/system/group.target.wants/member.service")
	if _, err := os.Lstat(link); err != nil {
		t.Error(err)
	}
	h.Open()
	load(t, h, "member.service", member)
	if _, err := os.Lstat(link); err == nil {
		t.Error("the link outlives [Install]")
	}
	load(t, h, "member.service", member+"[Install]\nWantedBy=group.target\nAlias=also.service\n")
	h.StopUnit("member.service")
	if err := h.Unload(within(t), "member.service"); err != nil {
		t.Fatal(err)
	}
	for _, left := range []string{link, filepath.Join(host.Root, "run/systemd/system/also.service")} {
		if _, err := os.Lstat(left); err == nil {
			t.Errorf("left: %s", left)
		}
	}
}

func testReasons(t testing.TB, _ *nspawntest.Host, h *runtimetest.Host) {
	for _, c := range []struct{ name, text, active, reason string }{
		{"user.service", "[Service]\nUser=nobody-there\nExecStart=/bin/true\n", "failed", "exit status 217/USER"},
		{"slow.service", "[Service]\nType=notify\nTimeoutStartSec=1\nExecStart=/bin/sleep 1000\n", "failed", "timeout"},
		{"when.service", "[Unit]\nConditionPathExists=/nowhere\n[Service]\nExecStart=/bin/true\n", "inactive", "a condition of [Unit] is not met"},
		{"base.service", "[Service]\nType=oneshot\nExecStart=/bin/false\n", "failed", "exit status 1"},
		{"top.service", "[Unit]\nRequires=base.service\nAfter=base.service\n[Service]\nExecStart=/bin/true\n", "inactive", "a unit that it requires did not start"},
		{"early.service", "[Service]\nType=notify\nExecStart=/bin/true\n", "failed", "it did not become ready as its Type= wants"},
	} {
		load(t, h, c.name, c.text)
		h.StartUnit(c.name)
		h.Await(c.name, c.active+", "+c.reason, func(s runtime.Status) bool { return s.Active == c.active && s.Reason == c.reason })
	}
	load(t, h, "broken.service", "[Service]\nType=dbus\nBusName=not.a..name\nExecStart=/bin/true\n")
	if s := h.Status("broken.service"); s.Load != "error" || !strings.Contains(s.Reason, "no D-Bus service name") {
		t.Errorf("got %+v", s)
	}
	load(t, h, "lone.service", "[Unit]\nRequires=missing.service\n[Service]\nExecStart=/bin/true\n")
	if err := h.Start(within(t), "lone.service"); !errors.Is(err, runtime.ErrLoad) || !strings.Contains(err.Error(), "missing.service") {
		t.Errorf("starting a unit that requires one that is missing: %v", err)
	}
}

func testRestartTakesNewContents(t testing.TB, host *nspawntest.Host, h *runtimetest.Host) {
	const first = "Restart=always\nRestartSec=0\nExecStart=/bin/sh -c 'echo first; exec sleep 1000'\n"
	h.LoadUnit("a.service", first)
	h.StartUnit("a.service")
	h.AwaitLog("a.service", "first")
	h.LoadUnit("a.service", strings.ReplaceAll(first, "first", "second"))
	if s := h.Status("a.service"); s.RunningHash == s.Hash {
		t.Errorf("got %+v", s)
	}
	host.Run(t, "systemctl", "kill", "a.service")
	h.AwaitLog("a.service", "second")
	h.Await("a.service", "run what is loaded", func(s runtime.Status) bool { return s.Active == "active" && s.RunningHash == s.Hash })
	h.Open()
	if s := h.Status("a.service"); s.RunningHash != s.Hash {
		t.Errorf("after reopening got %+v", s)
	}
}

func testNothingIsLeft(t testing.TB, host *nspawntest.Host, h *runtimetest.Host) {
	before := unitFiles(t, host)
	for _, name := range []string{"a.service", "b@1.service", "c.timer"} {
		text := map[bool]string{true: "[Timer]\nOnActiveSec=1h\n", false: "[Service]\nExecStart=/bin/false\n"}[name == "c.timer"]
		load(t, h, name, text)
		h.StartUnit(name)
	}
	h.AwaitState("a.service", "failed", "failed")
	unloadAll(t, h)
	if after := unitFiles(t, host); !slices.Equal(before, after) {
		t.Errorf("before %v, after %v", before, after)
	}
	if left := host.Run(t, "systemctl", "list-units", "--all", "--no-legend", "--plain", "a.service", "b@1.service", "c.timer"); left != "" {
		t.Errorf("systemd still has %s", left)
	}
}

func unitFiles(t testing.TB, host *nspawntest.Host) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(host.Root, unitDir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// rootfs makes a directory that a container can have as its root.
func rootfs(t testing.TB, host *nspawntest.Host, dir string) {
	t.Helper()
	host.Run(t, "sh", "-c", "mkdir -p "+dir+"/usr "+dir+"/proc "+dir+"/sys "+dir+"/dev "+dir+"/run "+dir+"/tmp "+dir+"/etc "+dir+"/var && "+
		"ln -sfn usr/bin "+dir+"/bin && ln -sfn usr/lib "+dir+"/lib && ln -sfn usr/lib64 "+dir+"/lib64 && echo made > "+dir+"/etc/image")
}

func testRootDirectory(t testing.TB, host *nspawntest.Host, h *runtimetest.Host) {
	rootfs(t, host, "/srv/image")
	h.LoadUnit("box.service", "RootDirectory=/srv/image\nMountAPIVFS=yes\nBindReadOnlyPaths=/usr\nPrivateTmp=yes\n"+
		"ExecStart=/bin/sh -c 'echo image $(cat /etc/image) on $MUSTER_HOST; exec sleep 1000'\n")
	h.StartUnit("box.service")
	if got := h.AwaitLog("box.service", "image"); got != "made on node-1" {
		t.Errorf("got %q", got)
	}
	h.AwaitState("box.service", "active", "running")
}

// testPodman has the flags that a host without control groups and without CAP_SYS_RESOURCE needs.
func testPodman(t testing.TB, host *nspawntest.Host, h *runtimetest.Host) {
	rootfs(t, host, "/srv/image")
	h.LoadUnit("pod.service", "TimeoutStartSec=2min\nKillMode=mixed\nExecStart=/usr/bin/podman run --rm --name pod --cgroups=disabled --network=none "+
		"--log-driver=passthrough --ulimit nofile=4096:4096 --ulimit nproc=4096:4096 --volume /usr:/usr:ro --env MUSTER_HOST "+
		"--rootfs /srv/image /bin/sh -c 'echo image $(cat /etc/image) on $MUSTER_HOST; exec sleep 1000'\n"+
		"ExecStop=/usr/bin/podman stop --time 1 pod\n")
	h.StartUnit("pod.service")
	if got := h.AwaitLog("pod.service", "image"); got != "made on node-1" {
		t.Errorf("got %q", got)
	}
	h.AwaitState("pod.service", "active", "running")
	h.StopUnit("pod.service")
	if left := host.Run(t, "podman", "ps", "--all", "--quiet"); left != "" {
		t.Errorf("left: %s", left)
	}
}

// deaf takes two seconds to stop.
const deaf = "TimeoutStopSec=2\nExecStart=/bin/sh -c 'trap \"\" TERM; echo up; while :; do sleep 1; done'\n"

func testReexec(t testing.TB, host *nspawntest.Host, h *runtimetest.Host) {
	duringStop(t, h, func() { host.Run(t, "systemctl", "daemon-reexec") })
}

func testBusRestart(t testing.TB, host *nspawntest.Host, h *runtimetest.Host) {
	duringStop(t, h, func() { host.Run(t, "systemctl", "restart", "dbus.service") })
}

// duringStop disturbs the bus while a unit stops and sees that nothing of it is lost.
func duringStop(t testing.TB, h *runtimetest.Host, disturb func()) {
	h.LoadUnit("deaf.service", deaf)
	h.LoadUnit("a.service", runtimetest.Server)
	h.StartUnit("deaf.service")
	h.StartUnit("a.service")
	h.AwaitLog("deaf.service", "up")
	before := h.AwaitState("a.service", "active", "running")
	stopped := make(chan error, 1)
	go func() { stopped <- h.Stop(within(t), "deaf.service") }()
	h.Await("deaf.service", "deactivating", func(s runtime.Status) bool { return s.Active == "deactivating" })
	disturb()
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	h.AwaitState("deaf.service", "failed", "failed")
	if after := h.AwaitState("a.service", "active", "running"); !after.Since.Equal(before.Since) || after.RunningHash != before.RunningHash {
		t.Errorf("before %+v, after %+v", before, after)
	}
	h.LoadUnit("b.service", "ExecStart=/bin/sh -c 'exec sleep 0.2'\n")
	h.StartUnit("b.service")
	h.AwaitState("b.service", "inactive", "dead")
}
