package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/musterhq/muster/agent/api"
)

// binDir holds the binaries under test, built once by TestMain.
var binDir string

func TestMain(m *testing.M) {
	code, err := buildAndRun(m)
	if err != nil {
		log.Fatal(err)
	}
	os.Exit(code)
}

// rootVariable names the root directory of a voter to a test that runs inside another one's network, and needs no binaries.
const rootVariable = "MUSTER_TEST_VOTER_ROOT"

func buildAndRun(m *testing.M) (int, error) {
	if os.Getenv(rootVariable) != "" {
		return m.Run(), nil
	}
	dir, err := os.MkdirTemp("", "muster-e2e-bin-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	binDir = dir
	build := exec.Command("make", "-s", "-C", repoRoot(), "build", "BIN="+dir)
	if out, err := build.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("cannot build the binaries: %w\n%s", err, out)
	}
	return m.Run(), nil
}

func repoRoot() string {
	dir, err := filepath.Abs("../../..")
	if err != nil {
		log.Fatal(err)
	}
	return dir
}

// cluster is one cluster file, its state directory and its hosts.
type cluster struct {
	t     testing.TB
	dir   string // holds cluster.yaml and units/
	state string // MUSTER_STATE_DIR
	file  string
	known map[string]bool // every instance ID that the cluster ever had
	under []string        // the command that muster runs under, none for muster itself
}

// newCluster writes a cluster file and units and ends whatever is left of the cluster when the test ends.
func newCluster(t testing.TB, clusterFile string, units map[string]string) *cluster {
	t.Helper()
	dir := t.TempDir()
	c := &cluster{
		t: t, dir: dir, state: filepath.Join(dir, "state"), file: filepath.Join(dir, "cluster.yaml"),
		known: map[string]bool{},
	}
	c.writeFile("cluster.yaml", clusterFile)
	for name, content := range units {
		c.writeFile(filepath.Join("units", name), content)
	}
	t.Cleanup(c.destroy)
	return c
}

func (c *cluster) writeFile(name, content string) {
	c.t.Helper()
	path := filepath.Join(c.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		c.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		c.t.Fatal(err)
	}
}

// destroy takes the cluster down and, when even that fails, ends its processes.
func (c *cluster) destroy() {
	if c.t.Failed() {
		c.dumpLogs()
	}
	if _, err := os.Stat(c.state); errors.Is(err, os.ErrNotExist) {
		return
	}
	r := c.run(time.Minute, nil, "down", "--yes")
	if r.code != 0 {
		c.t.Errorf("down: exit status %d\n%s", r.code, r.output())
	}
	for _, p := range c.processes() {
		c.t.Errorf("process %d is left after down: %s", p.pid, p.command)
		_ = syscall.Kill(p.pid, syscall.SIGKILL)
	}
}

// dumpLogs shows the end of every host's log, for a failed test.
func (c *cluster) dumpLogs() {
	logs, _ := filepath.Glob(filepath.Join(c.state, "providers", "*", "*", "var", "log", "musterd.log"))
	for _, path := range logs {
		data, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		lines := strings.Split(string(data), "\n")
		c.t.Logf("--- %s\n%s", path, strings.Join(lines[max(0, len(lines)-25):], "\n"))
	}
}

// result is what one run of muster gave.
type result struct {
	code           int
	stdout, stderr string
}

func (r result) output() string { return r.stdout + r.stderr }

// command prepares muster with this cluster's file and state.
func (c *cluster) command(ctx context.Context, env []string, args ...string) *exec.Cmd {
	args = slices.Concat(c.under, []string{filepath.Join(binDir, "muster")}, args)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = c.dir
	cmd.Env = append(os.Environ(), append([]string{"MUSTER_STATE_DIR=" + c.state, "MUSTER_FILE=" + c.file}, env...)...)
	return cmd
}

func (c *cluster) run(timeout time.Duration, env []string, args ...string) result {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := c.command(ctx, env, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	r := result{stdout: stdout.String(), stderr: stderr.String()}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		r.code = exit.ExitCode() // -1 when a signal ended it
	} else if err != nil {
		c.t.Fatalf("cannot run muster %v: %v", args, err)
	}
	return r
}

// must runs muster and fails the test unless it exits with 0.
func (c *cluster) must(args ...string) result {
	c.t.Helper()
	r := c.run(2*time.Minute, nil, args...)
	if r.code != 0 {
		c.t.Fatalf("muster %s: exit status %d\n%s", strings.Join(args, " "), r.code, r.output())
	}
	return r
}

// status asks the cluster how it is.
func (c *cluster) status() (api.Status, error) {
	c.t.Helper()
	r := c.run(30*time.Second, nil, "status", "-o", "json")
	if r.code != 0 {
		return api.Status{}, fmt.Errorf("status: exit status %d: %s", r.code, r.output())
	}
	var s api.Status
	err := json.Unmarshal([]byte(r.stdout), &s)
	return s, err
}

// eventually asks for the status until ok finds nothing wrong with it.
func (c *cluster) eventually(timeout time.Duration, ok func(api.Status) error) api.Status {
	c.t.Helper()
	deadline := time.Now().Add(timeout)
	for {
		s, err := c.status()
		if err == nil {
			err = ok(s)
		}
		if err == nil {
			return s
		}
		if time.Now().After(deadline) {
			text, _ := json.MarshalIndent(s, "", " ")
			c.t.Fatalf("after %v: %v\n%s", timeout, err, text)
		}
		<-time.After(100 * time.Millisecond)
	}
}

// whole is a check for eventually: so many hosts ready, voters healthy and units running.
func whole(hosts, voters, units int) func(api.Status) error {
	return func(s api.Status) error {
		ready, running := 0, 0
		for _, h := range s.Hosts {
			if h.State == api.HostReady {
				ready++
			}
		}
		for _, u := range s.Units {
			if u.State == api.UnitRunning {
				running++
			}
		}
		if ready != hosts || len(s.Hosts) != hosts || s.Voters.Healthy != voters || running != units {
			return fmt.Errorf("want %d hosts ready, %d voters, %d units running; have %d of %d, %d, %d of %d",
				hosts, voters, units, ready, len(s.Hosts), s.Voters.Healthy, running, len(s.Units))
		}
		return nil
	}
}
