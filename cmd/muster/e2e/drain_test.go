package e2e

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/agent/api"
)

// hostOf finds a host in a status.
func hostOf(s api.Status, name string) api.HostStatus {
	for _, h := range s.Hosts {
		if h.Name == name {
			return h
		}
	}
	return api.HostStatus{}
}

// TestDrain drains a voter: its units move and it goes on voting, no new ones come until it is uncordoned, and
// rebalancing then brings some back.
func TestDrain(t *testing.T) {
	c := sleepers(t, 3, 3, 6)
	c.must("up", "--yes")
	c.eventually(30*time.Second, whole(3, 3, 6))

	r := c.must("drain", "node-2", "--wait", "--deadline", "10m")
	for _, says := range []string{"node-2: is being drained", "node-2 goes on voting", "node-2: drained"} {
		if !strings.Contains(r.stdout, says) {
			t.Errorf("drain does not say %q:\n%s", says, r.output())
		}
	}
	s := c.eventually(30*time.Second, func(s api.Status) error { return runningElsewhere(s, "node-2", 6) })
	if h := hostOf(s, "node-2"); h.Order != api.OrderDrained || h.State != api.HostReady || h.Units != 0 || s.Voters.Healthy != 3 {
		t.Errorf("drained: %+v, voters %+v", h, s.Voters)
	}
	c.oneProcessEach(6)
	if r := c.must("hosts"); !strings.Contains(r.stdout, "drained") {
		t.Errorf("muster hosts does not show it:\n%s", r.stdout)
	}
	if r := c.must("why", "nap@1.service"); !strings.Contains(r.stdout, "is being drained") {
		t.Errorf("why says nothing of the drain:\n%s", r.stdout)
	}

	file := filepath.Join(c.dir, "units", "nap@.service")
	c.must("units", "start", file, "nap@7.service", "nap@8.service")
	c.eventually(30*time.Second, func(s api.Status) error { return runningElsewhere(s, "node-2", 8) })
	c.must("hosts", "uncordon", "node-2")
	c.must("units", "start", file, "nap@9.service")
	c.eventually(30*time.Second, func(s api.Status) error {
		if h := hostOf(s, "node-2"); h.Units != 1 || h.Order != "" {
			return fmt.Errorf("the host that is open again has not got the new unit: %+v", h)
		}
		return runningElsewhere(s, "node-2", 8)
	})

	var proposed api.Rebalance
	if err := json.Unmarshal([]byte(c.must("rebalance", "--dry-run", "-o", "json").stdout), &proposed); err != nil || len(proposed.Moves) != 2 {
		t.Errorf("%d moves proposed, want 2: %+v, %v", len(proposed.Moves), proposed, err)
	}
	c.must("rebalance")
	c.eventually(time.Minute, func(s api.Status) error {
		if err := whole(3, 3, 9)(s); err != nil {
			return err
		}
		for _, h := range s.Hosts {
			if h.Units != 3 {
				return fmt.Errorf("%s has %d units, not 3", h.Name, h.Units)
			}
		}
		return nil
	})
	c.oneProcessEach(9)
	moved := proposed.Moves[len(proposed.Moves)-1].Unit
	if r := c.must("why", moved); !strings.Contains(r.stdout, "rebalancing moved it here") {
		t.Logf("why %s does not tell of its move, which another one may have followed:\n%s", moved, r.stdout)
	}
	if r := c.must("rebalance"); !strings.Contains(r.stdout, "nothing to move") {
		t.Errorf("there is more to move:\n%s", r.stdout)
	}
}
