package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/musterhq/muster/agent/api"
)

// whoVotes is a check for eventually: exactly these hosts vote, and all of them well.
func whoVotes(want ...string) func(api.Status) error {
	return func(s api.Status) error {
		var got []string
		for _, h := range s.Hosts {
			if h.Voter {
				got = append(got, h.Name)
			}
		}
		if !slices.Equal(got, want) || s.Voters.Healthy != len(want) || s.Stale {
			return fmt.Errorf("%v vote, want %v: %+v", got, want, s.Voters)
		}
		return nil
	}
}

// TestVotersHeal loses a voter for good: the standby takes its place. Then all voters are lost: the records come back from a
// backup, on the host that is left, and no unit there notices.
func TestVotersHeal(t *testing.T) {
	c := sleepers(t, 4, 3, 4)
	c.edit("voters: 3\n", "voters: 3\nvoter_grace: 5s\n")
	c.must("up", "--yes")
	c.eventually(30*time.Second, whole(4, 3, 4))

	c.signal(syscall.SIGKILL, c.hostProcesses("node-2", false))
	s := c.eventually(time.Minute, whoVotes("node-1", "node-3", "node-4"))
	if n := len(s.Voters.Changes); n == 0 || !strings.Contains(fmt.Sprint(s.Voters.Changes), "takes the place of node-2") {
		t.Errorf("status does not tell of the change: %+v", s.Voters.Changes)
	}
	if out := c.must("status").stdout; !strings.Contains(out, "node-4 takes the place of node-2") {
		t.Errorf("status does not tell of the change:\n%s", out)
	}
	c.eventually(30*time.Second, func(s api.Status) error { return runningElsewhere(s, "node-2", 4) })

	file := filepath.Join(c.dir, "backup.tar")
	c.must("backup", "backup.tar")
	if _, err := os.Stat(file); err != nil {
		t.Fatal(err)
	}
	c.must("units", "start", filepath.Join(c.dir, "units", "nap@.service"), "nap@9.service") // after the backup
	for _, host := range []string{"node-1", "node-3"} {
		c.signal(syscall.SIGKILL, c.hostProcesses(host, false))
		c.vanish(host)
	}
	c.vanish("node-2")
	before := c.unitPIDs() // on the host that is left
	r := c.run(2*time.Minute, nil, "restore", "backup.tar", "--yes")
	if r.code != 0 || !strings.Contains(r.stderr, "is lost") || !strings.Contains(r.stderr, "node-3") {
		t.Fatalf("restore: exit status %d\n%s", r.code, r.output())
	}
	c.eventually(30*time.Second, whoVotes("node-4"))
	after := c.unitPIDs()
	for unit, pids := range before {
		if unit != "nap@9.service" && !slices.Equal(after[unit], pids) {
			t.Errorf("%s did not run on: its processes were %v and are %v", unit, pids, after[unit])
		}
	}
	c.must("up", "--yes")
	c.eventually(time.Minute, whole(4, 3, 4))
}

// edit replaces a part of the cluster file.
func (c *cluster) edit(old, new string) {
	c.t.Helper()
	data, err := os.ReadFile(c.file)
	if err == nil && !strings.Contains(string(data), old) {
		err = errors.New("the cluster file has no " + old)
	}
	if err == nil {
		err = os.WriteFile(c.file, []byte(strings.Replace(string(data), old, new, 1)), 0o644)
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

// vanish removes all that is left of a host that is off, as if its machine had burnt.
func (c *cluster) vanish(host string) {
	c.t.Helper()
	for _, d := range c.hostDirs() {
		if d.host == host {
			if err := os.RemoveAll(d.path); err != nil {
				c.t.Fatal(err)
			}
		}
	}
}
