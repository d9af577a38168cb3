package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/agent/release"
	"github.com/musterhq/muster/agent/release/repository"
)

// releases is a repository that hosts can reach.
type releases struct {
	repository.Repository
	t   testing.TB
	url string
}

func newReleases(t testing.TB) *releases {
	t.Helper()
	dir := t.TempDir()
	r := &releases{t: t, Repository: repository.Repository{
		Dir: filepath.Join(dir, "releases"), Keys: filepath.Join(dir, "keys"), Life: time.Hour, Now: time.Now,
	}}
	if err := r.Init(repository.InitOptions{RootKeys: 1, Threshold: 1}); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.FileServer(http.Dir(r.Dir)))
	t.Cleanup(server.Close)
	r.url = server.URL
	return r
}

// root is the file that hosts trust.
func (r *releases) root() string {
	r.t.Helper()
	path, err := r.RootFile()
	if err != nil {
		r.t.Fatal(err)
	}
	return path
}

// add brings a program as musterd of a version into the channel alpha.
func (r *releases) add(engine, version, program string) {
	r.t.Helper()
	custom := release.Custom{Version: version, Engine: engine, Arch: goruntime.GOARCH}
	if err := r.Add(context.Background(), custom, []string{program}); err != nil {
		r.t.Fatal(err)
	}
}

// musterdOf links musterd as another version.
func musterdOf(t testing.TB, version string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "musterd")
	build := exec.Command("make", "-s", "-C", repoRoot(), "musterd", "BIN="+filepath.Dir(path), "VERSION="+version)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("cannot link musterd: %v\n%s", err, out)
	}
	return path
}

// updatingFile is sleeperFile's cluster with hosts that run one musterd and take others, and with a lease that a musterd is
// back before on a machine that is busy.
func updatingFile(r *releases, engine, musterd string, hosts, voters, units int) string {
	file := strings.NewReplacer("driver: local", "driver: local, musterd: "+musterd, "lease: 5s", "lease: 20s").
		Replace(sleeperFile(hosts, voters, units))
	return file + fmt.Sprintf(`update:
  source: [%s]
  root: %s
  channel: alpha
  engine: %s
  max: 2
  interval: 1s
  drain: 20s
  health: {within: 40s}
`, r.url, r.root(), engine)
}

// updates asks how hosts update until ok finds nothing wrong.
func (c *cluster) updates(timeout time.Duration, ok func(api.Update) error) api.Update {
	c.t.Helper()
	for deadline := time.Now().Add(timeout); ; <-time.After(200 * time.Millisecond) {
		r := c.run(30*time.Second, nil, "update", "status", "-o", "json")
		var u api.Update
		err := json.Unmarshal([]byte(r.stdout), &u)
		if err == nil {
			err = ok(u)
		}
		if err == nil {
			return u
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("after %v: %v\n%s", timeout, err, r.output())
		}
	}
}

// allRun is a check for updates: every host runs a version and is at rest.
func allRun(version string, hosts int) func(api.Update) error {
	return func(u api.Update) error {
		for _, h := range u.Hosts {
			if h.Version != version || h.Phase != "idle" {
				return fmt.Errorf("%s runs %s and is %s", h.Host, h.Version, h.Phase)
			}
		}
		if len(u.Hosts) != hosts {
			return fmt.Errorf("%d hosts", len(u.Hosts))
		}
		return nil
	}
}

// TestAgentUpdates has three voters and a fourth host take a new musterd while an application writes: no write that was
// acknowledged is lost, and no unit notices. Then they are offered one that ends at once: the first of them goes back by itself,
// keeps the lock, and nobody follows.
func TestAgentUpdates(t *testing.T) {
	r := newReleases(t)
	c := newCluster(t, updatingFile(r, "agent", musterdOf(t, "1.0.0"), 4, 3, 6), map[string]string{"nap@.service": napUnit})
	c.must("up", "--yes")
	s := c.eventually(time.Minute, whole(4, 3, 6))
	c.updates(time.Minute, allRun("1.0.0", 4))
	before := c.unitPIDs()
	address := s.Hosts[3].Address
	writes := begin(t, "update", putV2(address))

	r.add("agent", "1.0.1", musterdOf(t, "1.0.1"))
	c.updates(4*time.Minute, allRun("1.0.1", 4))
	c.eventually(time.Minute, whole(4, 3, 6))
	writes.check(t, address+":4001")
	t.Logf("%d writes, the longest time without one %v: %s", len(writes.acked), writes.gap, writes.after)
	if after := c.unitPIDs(); !equal(before, after) {
		t.Errorf("units were restarted: before %v, after %v", before, after)
	}

	bad := filepath.Join(t.TempDir(), "musterd")
	if err := os.WriteFile(bad, []byte("#!/bin/sh\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	r.add("agent", "1.0.2", bad)
	u := c.updates(2*time.Minute, func(u api.Update) error {
		if u.Hold == nil {
			return fmt.Errorf("the rollout is not held")
		}
		return nil
	})
	for _, h := range u.Hosts {
		if h.Version != "1.0.1" {
			t.Errorf("%s runs %s", h.Host, h.Version)
		}
	}
	if locks := c.must("lock", "status").stdout; !strings.Contains(locks, u.Hold.Host) {
		t.Errorf("%s, on which the release failed, does not hold the lock:\n%s", u.Hold.Host, locks)
	}
	if text := c.must("update", "status").stdout; !strings.Contains(text, "release 1.0.2 failed on "+u.Hold.Host) {
		t.Errorf("update status:\n%s", text)
	}
	c.must("update", "pin", "1.0.1")
	c.must("update", "resume", "--reason", "1.0.2 is withdrawn")
	c.updates(2*time.Minute, allRun("1.0.1", 4))
	if text := c.must("update", "history").stdout; !strings.Contains(text, "fell back") || !strings.Contains(text, "resumed") {
		t.Errorf("update history:\n%s", text)
	}
	if after := c.unitPIDs(); !equal(before, after) {
		t.Errorf("units were restarted by the fallback: before %v, after %v", before, after)
	}
}
