//go:build lab

package systemd

import (
	"context"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/musterhq/muster/agent/runtime"
	"github.com/musterhq/muster/agent/runtime/runtimetest"
	"github.com/musterhq/muster/agent/runtime/systemd/nspawntest"
)

// insideVariable tells the test that it runs in a host of its own, which it may use as it likes.
const insideVariable = "MUSTER_TEST_INSIDE"

// unitsOfTheTree start with the image and have nothing to do here.
var unitsOfTheTree = []string{"musterd.service", "muster-firstboot.service", "ssh.service", "sshd.service"}

func startHost(t *testing.T, name string) *nspawntest.Host {
	t.Helper()
	return nspawntest.Start(t, nspawntest.Tree(t), name, nspawntest.Options{Mask: unitsOfTheTree})
}

// TestConformance runs this program's TestInside in a host with a systemd, so that the suite sees the processes that
// units start, and the runtime what it sees on a real host.
func TestConformance(t *testing.T) {
	host := startHost(t, "conformance")
	inside(t, host, "^TestInside$")
}

func inside(t *testing.T, host *nspawntest.Host, run string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(host.Root, "usr/local/bin/runtime.test"), program, 0o755); err != nil {
		t.Fatal(err)
	}
	args := []string{"env", insideVariable + "=yes", "/usr/local/bin/runtime.test", "-test.run=" + run, "-test.timeout=10m"}
	if testing.Verbose() {
		args = append(args, "-test.v")
	}
	out, err := host.Command(t.Context(), args...).CombinedOutput()
	t.Logf("in the host:\n%s", out)
	if err != nil {
		t.Fatal(err)
	}
}

func TestInside(t *testing.T) {
	if os.Getenv(insideVariable) == "" {
		t.Skip("TestConformance runs it, in a host of its own")
	}
	runtimetest.Run(t, func(t *testing.T) runtimetest.Open {
		t.Cleanup(func() { clearHost(t) })
		return func(t *testing.T) runtime.Runtime { return open(t, Config{}) }
	})
}

// clearHost makes a fresh place of the host: without units of muster's and without a journal.
func clearHost(t *testing.T) {
	rt := open(t, Config{})
	list, err := rt.List(context.WithoutCancel(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list {
		if err := rt.Unload(context.WithoutCancel(t.Context()), s.Name); err != nil {
			t.Error(err)
		}
	}
	if err := rt.Close(); err != nil {
		t.Error(err)
	}
	for _, arg := range []string{"--rotate", "--vacuum-time=1us"} {
		if out, err := exec.Command("journalctl", arg).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	}
}

func open(t *testing.T, config Config) *Runtime {
	t.Helper()
	config.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	config.Env = []string{"MUSTER_HOST=node-1", "OWN=host"}
	rt, err := New(context.WithoutCancel(t.Context()), config)
	if err != nil {
		t.Fatal(err)
	}
	return rt
}
