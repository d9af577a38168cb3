package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
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

// TestVoterLost ends one voter with everything on it: its units move, writes go on, and it rejoins by itself.
func TestVoterLost(t *testing.T) {
	c := sleepers(t, 3, 3, 6)
	c.must("up", "--yes")
	c.eventually(30*time.Second, whole(3, 3, 6))

	c.signal(syscall.SIGKILL, c.hostProcesses("node-1", false))
	c.eventually(30*time.Second, func(s api.Status) error {
		if err := runningElsewhere(s, "node-1", 6); err != nil {
			return err
		}
		if len(s.Warnings) == 0 {
			return fmt.Errorf("no warning although a voter is gone")
		}
		return nil
	})
	c.must("units", "start", filepath.Join(c.dir, "units", "nap@.service"), "nap@7.service")

	c.must("up", "--yes")
	c.eventually(30*time.Second, whole(3, 3, 7))
}

// runningElsewhere checks that n units run and none of them on the host that was lost.
func runningElsewhere(s api.Status, lost string, n int) error {
	running := 0
	for _, u := range s.Units {
		if u.State == api.UnitRunning && u.Host != lost {
			running++
		}
	}
	if running != n {
		return fmt.Errorf("%d of %d units run elsewhere than on %s", running, n, lost)
	}
	return nil
}

// TestSchedulingLeaderFrozen stops the leader of scheduling with SIGSTOP, submits units meanwhile and wakes it up: no
// unit may have been started on two hosts by two leaders.
func TestSchedulingLeaderFrozen(t *testing.T) {
	c := sleepers(t, 3, 3, 3)
	c.must("up", "--yes")
	s := c.eventually(30*time.Second, whole(3, 3, 3))
	leader := s.Scheduler
	if leader == "" {
		t.Fatal("status does not tell who leads the scheduling")
	}
	daemon := c.hostProcesses(leader, true)
	c.signal(syscall.SIGSTOP, daemon)
	defer c.signal(syscall.SIGCONT, daemon)
	s = c.eventually(30*time.Second, func(s api.Status) error {
		if s.Scheduler == leader || s.Scheduler == "" {
			return fmt.Errorf("nobody has taken over from %s (now %q)", leader, s.Scheduler)
		}
		return runningElsewhere(s, leader, 3)
	})
	c.must("units", "start", "nap@{4..9}.service")
	c.eventually(30*time.Second, func(s api.Status) error { return runningElsewhere(s, leader, 9) })

	c.signal(syscall.SIGCONT, daemon)
	c.eventually(30*time.Second, whole(3, 3, 9))
	c.oneProcessEach(9)
	for unit, starts := range c.starts() {
		if strings.Compare(unit, "nap@4") >= 0 && len(starts) != 1 {
			t.Errorf("%s was started %d times: %v", unit, len(starts), starts)
		}
	}
}

// oneProcessEach checks that each unit runs on exactly one host, by the processes that are really there.
func (c *cluster) oneProcessEach(units int) {
	c.t.Helper()
	hosts := map[string][]string{}
	for _, p := range c.processes() {
		if p.unit != "" && !slices.Contains(hosts[p.unit], p.instance) {
			hosts[p.unit] = append(hosts[p.unit], p.instance)
		}
	}
	if len(hosts) != units {
		c.t.Errorf("%d of %d units have processes", len(hosts), units)
	}
	for unit, instances := range hosts {
		if len(instances) != 1 {
			c.t.Errorf("%s runs on %d hosts: %v", unit, len(instances), instances)
		}
	}
}

// starts reads what the units' own records say of every start, from all hosts.
func (c *cluster) starts() map[string][]string {
	c.t.Helper()
	starts := map[string][]string{}
	for _, d := range c.hostDirs() {
		records, _ := filepath.Glob(filepath.Join(d.path, "var/lib/muster/units", "*", "starts.jsonl"))
		for _, path := range records {
			data, err := os.ReadFile(path)
			if err != nil {
				c.t.Fatal(err)
			}
			lines := bufio.NewScanner(bytes.NewReader(data))
			for lines.Scan() {
				var start struct{ Unit, Time string }
				if err := json.Unmarshal(lines.Bytes(), &start); err != nil {
					c.t.Fatalf("%s: %v", path, err)
				}
				starts[start.Unit] = append(starts[start.Unit], d.host+" "+start.Time)
			}
		}
	}
	return starts
}

// TestMajorityLost ends the daemons of two voters of three: every unit keeps running, status says what is wrong, and
// all heals when they return.
func TestMajorityLost(t *testing.T) {
	c := sleepers(t, 3, 3, 6)
	c.must("up", "--yes")
	c.eventually(30*time.Second, whole(3, 3, 6))
	before := c.unitPIDs()

	for _, host := range []string{"node-1", "node-3"} {
		c.signal(syscall.SIGKILL, c.hostProcesses(host, true))
	}
	c.eventually(30*time.Second, func(s api.Status) error {
		if !s.Stale || s.Voters.Healthy > 1 || len(s.Warnings) == 0 {
			return fmt.Errorf("status does not say that the majority is gone")
		}
		return nil
	})
	if r := c.run(time.Minute, nil, "units", "stop", "nap@1.service"); r.code != 1 || !strings.Contains(r.output(), "voter") {
		t.Errorf("a write without quorum: exit status %d\n%s", r.code, r.output())
	}
	<-time.After(8 * time.Second) // longer than the lease
	if after := c.unitPIDs(); !equal(before, after) {
		t.Errorf("units did not keep running: before %v, after %v", before, after)
	}

	c.must("up", "--yes")
	c.eventually(30*time.Second, whole(3, 3, 6))
	if after := c.unitPIDs(); !equal(before, after) {
		t.Errorf("units were restarted by the healing: before %v, after %v", before, after)
	}
}

// unitPIDs maps each unit to its processes.
func (c *cluster) unitPIDs() map[string][]int {
	pids := map[string][]int{}
	for _, p := range c.processes() {
		if p.unit != "" {
			pids[p.unit] = append(pids[p.unit], p.pid)
		}
	}
	for _, list := range pids {
		slices.Sort(list)
	}
	return pids
}

func equal(a, b map[string][]int) bool {
	if len(a) != len(b) {
		return false
	}
	for unit := range a {
		if !slices.Equal(a[unit], b[unit]) {
			return false
		}
	}
	return true
}

// TestDaemonRestarted ends every daemon at once, with SIGKILL: nothing of the units notices.
func TestDaemonRestarted(t *testing.T) {
	c := sleepers(t, 3, 3, 6)
	c.must("up", "--yes")
	c.eventually(30*time.Second, whole(3, 3, 6))
	before := c.unitPIDs()
	for _, host := range []string{"node-1", "node-2", "node-3"} {
		c.signal(syscall.SIGKILL, c.hostProcesses(host, true))
	}
	c.must("up", "--yes")
	c.eventually(30*time.Second, whole(3, 3, 6))
	if after := c.unitPIDs(); !equal(before, after) {
		t.Errorf("units were restarted: before %v, after %v", before, after)
	}
}

// TestPowerCycle ends a host with everything on it and starts it again before its lease ends: its units run again there.
func TestPowerCycle(t *testing.T) {
	c := sleepers(t, 3, 3, 6)
	c.must("up", "--yes")
	c.eventually(30*time.Second, whole(3, 3, 6))
	c.signal(syscall.SIGKILL, c.hostProcesses("node-2", false))
	c.must("up", "--yes")
	c.eventually(30*time.Second, whole(3, 3, 6))
	c.oneProcessEach(6)
}
