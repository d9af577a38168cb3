//go:build lab

package e2e

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/agent/api"
)

// cutOff is how long hosts are without the store: more than two leases of this lab, and in the long run (MUSTER_LONG) the
// ten minutes that are promised.
func cutOff() time.Duration { return max(storeAway(), 45*time.Second) }

// TestNspawnStoreLost cuts the hosts off from each other, so that none has a store, and then empties the store: no unit of
// theirs, service or container of a real systemd, is stopped or started again. What `muster up` makes of an empty store is
// TestStoreEmptied's.
func TestNspawnStoreLost(t *testing.T) {
	n := newNetwork(t)
	c := nspawnLab(t, n)
	c.must("up", "--yes")
	whole := whole(3, 3, 3)
	s := c.eventually(time.Minute, whole)
	before := c.allProcesses(s)

	ports := n.ports()
	if len(ports) != 3 {
		t.Fatalf("three hosts are on the ports %v", ports)
	}
	for _, port := range ports {
		n.run("ip", "link", "set", port, "down")
	}
	if r := c.run(time.Minute, nil, "units", "stop", "clock.service"); r.code == 0 {
		t.Errorf("without a store a unit is to stop: %s", r.output())
	}
	c.goesOn("without the store", s, before)
	for _, port := range ports {
		n.run("ip", "link", "set", port, "up")
	}
	c.eventually(2*time.Minute, whole)
	if d := cmp.Diff(before, c.allProcesses(s)); d != "" {
		t.Errorf("with the store back units are others: %s", d)
	}

	n.empty(fmt.Sprintf("/proc/%d/root", c.guestInit("box-1")), clientEndpoints(s))
	c.goesOn("with an empty store", s, before)
}

// allProcesses are those of all units, by host.
func (c *cluster) allProcesses(s api.Status) map[string]map[string]string {
	c.t.Helper()
	all := map[string]map[string]string{}
	for _, h := range s.Hosts {
		all[h.Name] = c.processesOfUnits(s, h.Name)
	}
	return all
}

// goesOn checks for a while that all units are the processes that they were.
func (c *cluster) goesOn(when string, s api.Status, before map[string]map[string]string) {
	c.t.Helper()
	for end := time.Now().Add(cutOff()); time.Now().Before(end); <-time.After(5 * time.Second) {
		if d := cmp.Diff(before, c.allProcesses(s)); d != "" {
			c.t.Fatalf("%s units did not run on: %s", when, d)
		}
	}
}

// ports are the interfaces of the network by which hosts are on its bridge.
func (n network) ports() []string {
	n.t.Helper()
	ports := map[string]bool{}
	for line := range strings.Lines(n.run("ip", "-oneline", "link")) {
		if fields := strings.Fields(line); slices.Contains(fields, "master") {
			name, _, _ := strings.Cut(strings.TrimSuffix(fields[1], ":"), "@")
			ports[name] = true
		}
	}
	return slices.Sorted(maps.Keys(ports))
}

// endpointsVariable tells TestNspawnEmptiesStore, which runs in the network of a lab, where the voters are.
const endpointsVariable = "MUSTER_TEST_ENDPOINTS"

// empty empties the store as a voter may, from within the network.
func (n network) empty(root string, endpoints []string) {
	n.t.Helper()
	self, err := os.Executable()
	if err != nil {
		n.t.Fatal(err)
	}
	args := slices.Concat(n.in, []string{self, "-test.run=^TestNspawnEmptiesStore$"})
	cmd := exec.CommandContext(n.t.Context(), args[0], args[1:]...)
	cmd.Env = append(os.Environ(), rootVariable+"="+root, endpointsVariable+"="+strings.Join(endpoints, " "))
	if out, err := cmd.CombinedOutput(); err != nil {
		n.t.Fatalf("cannot empty the store: %v\n%s", err, out)
	}
}

func TestNspawnEmptiesStore(t *testing.T) {
	root := os.Getenv(rootVariable)
	if root == "" {
		t.Skip("TestNspawnStoreLost runs it, in the network of its hosts")
	}
	if err := emptyStore(t.Context(), root, strings.Fields(os.Getenv(endpointsVariable))); err != nil {
		t.Fatal(err)
	}
}
