package e2e

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// long is true where there is time for every crash point and many kills: `make lab`.
var long = os.Getenv("MUSTER_LONG") != ""

// TestCrashSweepLocal ends the CLI with SIGKILL at every journal write and every provider call that makes hosts. After
// each, `up` again leads to exactly the desired hosts and a further `up` changes nothing; `down` instead leaves nothing.
func TestCrashSweepLocal(t *testing.T) {
	points := 0
	for ; points == 0 || !t.Failed(); points++ {
		c := sleepers(t, 3, 3, 0)
		if !c.crashAt(points+1, "up", "--yes", "--no-wait") {
			break
		}
		c.must("down", "--yes")
		c.nothingLeft()

		c.crashAt(points+1, "up", "--yes", "--no-wait")
		c.must("up", "--yes", "--no-wait")
		c.onlyHosts(3)
		before := c.daemons()
		c.must("up", "--yes", "--no-wait")
		if after := c.daemons(); !slices.Equal(before, after) {
			t.Errorf("crash point %d: the second run changes hosts: %v, then %v", points+1, before, after)
		}
		c.destroy()
		c.nothingLeft()
	}
	t.Logf("%d crash points", points)
	if points < 20 {
		t.Errorf("only %d crash points: the sweep does not reach the journal and the provider", points)
	}
}

// TestCrashWhileForming ends the CLI at the points of a whole `up`, also while hosts join and units are submitted. In the
// short run it takes every ninth of them.
func TestCrashWhileForming(t *testing.T) {
	stride := 9
	if long {
		stride = 1
	}
	points := 0
	for n := stride; !t.Failed(); n += stride {
		c := sleepers(t, 3, 3, 2)
		if !c.crashAt(n, "up", "--yes") {
			break
		}
		points++
		c.must("up", "--yes")
		c.eventually(30*time.Second, whole(3, 3, 2))
		c.onlyHosts(3)
		if plan := c.must("plan"); !strings.Contains(plan.output(), "nothing to do") {
			t.Errorf("crash point %d: there is still something to do:\n%s", n, plan.output())
		}
		c.destroy()
		c.nothingLeft()
	}
	t.Logf("%d crash points", points)
}

// TestCrashSweepDown ends the CLI at the points of `down`: a second `down` leaves nothing.
func TestCrashSweepDown(t *testing.T) {
	points := 0
	for ; !t.Failed(); points++ {
		c := sleepers(t, 3, 3, 0)
		c.must("up", "--yes", "--no-wait")
		crashed := c.crashAt(points+1, "down", "--yes")
		c.destroy()
		c.nothingLeft()
		if !crashed {
			break
		}
	}
	t.Logf("%d crash points", points)
}

// crashAt runs muster until its crash point n and reports whether there is one.
func (c *cluster) crashAt(n int, args ...string) bool {
	c.t.Helper()
	r := c.run(2*time.Minute, []string{fmt.Sprintf("MUSTER_CRASH_AT=%d", n)}, args...)
	if r.code != 0 && r.code != -1 {
		c.t.Fatalf("crash point %d: exit status %d\n%s", n, r.code, r.output())
	}
	return r.code == -1
}

// daemons lists every musterd of the cluster: instance and process ID.
func (c *cluster) daemons() []string {
	var daemons []string
	for _, p := range c.processes() {
		if p.unit == "" {
			daemons = append(daemons, fmt.Sprintf("%s pid %d", p.instance, p.pid))
		}
	}
	slices.Sort(daemons)
	return daemons
}

// onlyHosts checks that exactly so many hosts exist, each with one daemon.
func (c *cluster) onlyHosts(hosts int) {
	c.t.Helper()
	if dirs, daemons := c.hostDirs(), c.daemons(); len(dirs) != hosts || len(daemons) != hosts {
		c.t.Fatalf("%d directories and %d daemons for %d hosts: %v", len(dirs), len(daemons), hosts, daemons)
	}
}

// nothingLeft checks that no process and no file of the cluster exists.
func (c *cluster) nothingLeft() {
	c.t.Helper()
	if left := c.processes(); len(left) > 0 {
		c.t.Errorf("processes are left: %v", left)
	}
	if entries, err := os.ReadDir(c.state); err == nil && len(entries) > 0 {
		c.t.Errorf("files are left in the state directory: %v", entries)
	}
}
