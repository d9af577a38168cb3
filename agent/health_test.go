package agent

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/agent/health"
	"github.com/musterhq/muster/agent/runtime/process"
	"github.com/musterhq/muster/agent/unitfile"
	"github.com/musterhq/muster/cluster/store"
)

const checked = body + "[X-Muster]\nHealthCheck=exec:/bin/check %i\nHealthInterval=1s\nHealthRetries=2\nHealthStartPeriod=5s\n"

// TestHealthIsReported: what checks say of a unit is in its state, and an unhealthy one is left alone or restarted as its
// file says.
func TestHealthIsReported(t *testing.T) {
	inBubble(t, 1, func(w *world) {
		w.submit("web@1.service", checked, store.DesiredLaunched)
		w.submit("web@2.service", checked+"HealthAction=restart\n", store.DesiredLaunched)
		w.submit("plain.service", body, store.DesiredLaunched)
		expect := func(what, want string) {
			t.Helper()
			time.Sleep(5 * time.Second)
			got := ""
			for _, u := range w.view().Status(nil).Units {
				got += u.Name + "=" + u.Health + " "
			}
			if strings.TrimSpace(got) != want {
				t.Errorf("%s: %s, want %s", what, got, want)
			}
		}
		expect("at first", "plain.service= web@1.service=healthy web@2.service=healthy")
		w.hosts[1].ill.Store(true)
		time.Sleep(5 * time.Second)
		started := w.hosts[1].runtime.started
		if one, two := started("web@1.service"), started("web@2.service"); one != 1 || two != 2 {
			t.Errorf("started %d and %d times", one, two)
		}
		warnings := w.view().Status(nil).Warnings
		if len(warnings) != 1 || !strings.HasPrefix(warnings[0], "a unit is unhealthy: web@1.service on node-1 (exit status 1)") {
			t.Errorf("warnings %q", warnings)
		}
		w.hosts[1].ill.Store(false)
		expect("at last", "plain.service= web@1.service=healthy web@2.service=healthy")
		if n := started("web@2.service"); n > 3 {
			t.Errorf("started %d times", n)
		}
	})
}

// answer is what checks of a simulated host say.
func (h *simHost) answer(_ context.Context, t health.Target, _ []string) (string, error) {
	if _, ill := h.w.ill.Load(t.File); ill || h.ill.Load() {
		return "", errors.New("exit status 1")
	}
	return "", nil
}

// TestCommandsRunLikeTheUnit: with its environment and directory, with bounded output, and not for longer than they may.
func TestCommandsRunLikeTheUnit(t *testing.T) {
	dir := t.TempDir()
	content := "[Service]\nExecStart=/bin/sleep 1\nEnvironment=WHO=%i PORT=80%i\nWorkingDirectory=" + dir +
		"\n[X-Muster]\nHealthCheck=exec:/bin/sh\n"
	sum := store.FileSum([]byte(content))
	c := newChecks(files{dir: t.TempDir()}, process.Config{Path: "/bin:/usr/bin", Env: []string{"MUSTER_HOST=node-1"}, Instance: "i"}, quiet())
	parsed, _, err := unitfile.Parse("web@7.service", []byte(content))
	if err != nil {
		t.Fatal(err)
	}
	c.known[sum] = parsed
	run := func(ctx context.Context, script string) (string, error) {
		return c.execute(ctx, health.Target{Unit: "web@7.service", File: sum}, []string{"/bin/sh", "-c", script})
	}
	out, err := run(t.Context(), `echo "$WHO $PORT $MUSTER_HOST $MUSTER_UNIT $(pwd)"`)
	if want := "7 807 node-1 web@7.service " + dir + "\n"; err != nil || out != want {
		t.Errorf("%q, %v, want %q", out, err, want)
	}
	if _, err := run(t.Context(), "exit 3"); err == nil || err.Error() != "/bin/sh: exit status 3" {
		t.Error(err)
	}
	if out, err := run(t.Context(), "yes | head -c 1000000; echo end"); err != nil || len(out) > maxOutput || !strings.HasSuffix(out, "end\n") {
		t.Errorf("%d bytes, %v", len(out), err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	if _, err := run(ctx, "sleep 100 & sleep 100"); err == nil || time.Since(began) > 20*time.Second {
		t.Errorf("a check that hangs ended after %v with %v", time.Since(began), err)
	}
}

// TestContainersHealth asks the engine, as the file's HealthCmd= says, and not as a process of the unit.
func TestContainersHealth(t *testing.T) {
	const content = "[Container]\nImage=localhost/web\nContainerName=web-%i\nHealthCmd=true\nEnvironment=HEALTHY=no\n"
	sum := store.FileSum([]byte(content))
	parsed, _, err := unitfile.Parse("web@7.service", []byte(content))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ engine, script, out, err string }{
		{"podman", `[ "$*" = "healthcheck run web-7" ]`, "", ""},
		{"podman", "echo unhealthy; exit 1", "unhealthy\n", "exit status 1"},
		{"docker", "echo healthy", "healthy\n", ""},
		{"docker", "echo starting", "starting\n", "the engine says"},
		{"docker", `[ "$*" = "inspect --format {{.State.Health.Status}} web-7" ] && echo healthy`, "healthy\n", ""},
		{"none", "", "", "cannot find podman or docker on this host"},
	} {
		path := filepath.Join(t.TempDir(), tt.engine)
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+tt.script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		c := newChecks(files{dir: t.TempDir()}, process.Config{Path: "/bin:/usr/bin", Instance: "i"}, quiet())
		c.known[sum] = parsed
		c.containers.find = func(program string) (string, error) {
			if program != tt.engine {
				return "", exec.ErrNotFound
			}
			return path, nil
		}
		check := parsed.Muster("web@7.service").HealthCheck
		out, err := c.execute(t.Context(), health.Target{Unit: "web@7.service", File: sum, Check: check}, nil)
		if out != tt.out || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s, %s: %q, %v", tt.engine, tt.script, out, err)
		}
	}
}
