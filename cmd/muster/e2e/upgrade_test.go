package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestAgentUpgraded replaces the binary of every host's musterd and starts that: nothing of the units notices, whether the
// one before was asked to end or had no time to.
func TestAgentUpgraded(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "musterd")
	install(t, binary)
	c := newCluster(t, strings.ReplaceAll(sleeperFile(3, 3, 6), "driver: local", "driver: local, musterd: "+binary),
		map[string]string{"nap@.service": napUnit})
	c.must("up", "--yes")
	c.eventually(30*time.Second, whole(3, 3, 6))
	before := c.unitPIDs()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		install(t, binary)
		for _, host := range []string{"node-1", "node-2", "node-3"} {
			c.end(sig, c.hostProcesses(host, true))
		}
		c.must("up", "--yes")
		c.eventually(30*time.Second, whole(3, 3, 6))
		for _, host := range []string{"node-1", "node-2", "node-3"} {
			for _, p := range c.hostProcesses(host, true) {
				if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", p.pid)); err != nil || exe != binary {
					t.Errorf("%s runs %q, %v", host, exe, err)
				}
			}
		}
		if after := c.unitPIDs(); !equal(before, after) {
			t.Errorf("units were restarted after %v: before %v, after %v", sig, before, after)
		}
	}
}

// install puts a musterd of its own where a file may be, which those that run it keep until they end.
func install(t testing.TB, path string) {
	t.Helper()
	program, err := os.ReadFile(filepath.Join(binDir, "musterd"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+".new", program, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// end sends a signal to processes and waits until they are gone.
func (c *cluster) end(sig syscall.Signal, processes []process) {
	c.t.Helper()
	c.signal(sig, processes)
	for deadline := time.Now().Add(time.Minute); ; <-time.After(20 * time.Millisecond) {
		left := map[int]bool{}
		for _, p := range c.processes() {
			left[p.pid] = true
		}
		gone := true
		for _, p := range processes {
			gone = gone && !left[p.pid]
		}
		if gone {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("%v did not end %v", sig, processes)
		}
	}
}
