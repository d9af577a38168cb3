//go:build lab

package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/agent/api"
)

// patience is how long emulated guests may take, ten times what they take on an idle machine.
const patience = 25 * time.Minute

// libvirtLab is examples/libvirt-lab on a hypervisor. A grace of 0 is the driver's own.
func libvirtLab(t testing.TB, h *hypervisor, grace time.Duration) *cluster {
	t.Helper()
	image := os.Getenv("MUSTER_IMAGE")
	if _, err := os.Stat(filepath.Join(image, "vmlinuz")); err != nil {
		t.Fatalf("MUSTER_IMAGE names no host image, which `make image` builds: %v", err)
	}
	provider := fmt.Sprintf("uri: %q\n    domain_type: qemu\n    pool: %s", h.uri(), h.images())
	if grace > 0 {
		provider += fmt.Sprintf("\n    grace: %v", grace)
	}
	c := example(t, "libvirt-lab", "../../image/", image+"/", "uri: qemu:///system", provider)
	c.under = h.in
	return c
}

// TestLibvirtLab is the life of three virtual machines: up, units on systemd and podman, a machine that somebody destroys
// and that is made anew, while muster is killed again and again, and down. Nothing that they are told in secret is where
// it does not belong.
func TestLibvirtLab(t *testing.T) {
	h := startHypervisor(t)
	g := plantGuests(t, libvirtLab(t, h, 0), earlyWriteback, false)
	g.upTimed(t)
	whole := whole(3, 3, 3)
	serves(t, h.try, g.eventually(patience, whole))
	if plan := g.must("plan"); !strings.Contains(plan.output(), "nothing to do") {
		t.Errorf("there is still something to do:\n%s", plan.output())
	}

	g.nameTokens(h)
	host, disk := h.lose(t)
	g.disk(h, host, disk)
	g.eventually(patience, func(s api.Status) error {
		for _, host := range s.Hosts {
			if host.State == api.HostLost {
				return nil
			}
		}
		return fmt.Errorf("no host is lost: %+v", s.Hosts)
	})
	t.Logf("%s is lost", host)
	for range 3 {
		g.upKilled(t, time.Minute)
	}
	if r := g.run(patience, nil, "up", "--yes", "--timeout", patience.String()); r.code != 0 {
		t.Fatalf("up: exit status %d\n%s", r.code, r.output())
	}
	serves(t, h.try, g.eventually(patience, whole))
	if domains := h.domains(); len(domains) != 3 {
		t.Errorf("domains %v, want three", domains)
	}

	g.verbs("in life", "status -o json", "hosts console vm-1", "logs clock.service", "cloudconfig render vm-2")
	g.searchHypervisor(h)
	g.verdict(ofMachines)
	g.must("down", "--yes")
	g.nothingLeft()
	h.nothingLeft()
}

// lose cuts the power of a machine and forgets it, behind muster's back. What is left is its volumes: its disk is told.
func (h *hypervisor) lose(t testing.TB) (host, disk string) {
	t.Helper()
	domain := h.domains()[0]
	for _, path := range h.virsh("domblklist", domain) {
		if strings.HasSuffix(path, ".disk.qcow2") {
			disk = path
		}
	}
	<-time.After(written)
	h.virsh("destroy", domain)
	h.virsh("undefine", domain, "--nvram")
	// muster-CLUSTER-HOST-GENERATION
	host = strings.Join(strings.Split(domain, "-")[2:4], "-")
	return host, disk
}

// TestLibvirtKilled ends muster at random moments while it makes machines. What a second run makes of it is exactly what
// was asked for, and `down` leaves nothing, whichever comes first.
func TestLibvirtKilled(t *testing.T) {
	h := startHypervisor(t)
	for i := range 7 {
		c := libvirtLab(t, h, time.Second)
		c.upKilled(t, 6*time.Second)
		if i%2 == 0 {
			c.must("up", "--yes", "--no-wait")
			if domains := h.domains(); len(domains) != 3 {
				t.Errorf("domains %v, want three", domains)
			}
		}
		c.must("down", "--yes")
		c.nothingLeft()
		h.nothingLeft()
	}
}

// upKilled ends `up` with SIGKILL before a time has passed.
func (c *cluster) upKilled(t testing.TB, within time.Duration) {
	t.Helper()
	after := rand.N(within)
	ctx, cancel := context.WithTimeout(t.Context(), after)
	defer cancel()
	err := c.command(ctx, nil, "up", "--yes").Run()
	t.Logf("up was killed after %v: %v", after.Round(time.Millisecond), err)
}

// upTimed runs `up` and tells how long it took, and how long of that without the guests' booting.
func (c *cluster) upTimed(t testing.TB) {
	t.Helper()
	began := time.Now()
	r := c.run(patience, nil, "up", "--yes", "-o", "json", "--timeout", patience.String())
	if r.code != 0 {
		t.Fatalf("up: exit status %d\n%s", r.code, r.output())
	}
	ended := time.Now()
	var booting, joined time.Time
	for lines := bufio.NewScanner(strings.NewReader(r.stdout)); lines.Scan(); {
		var e struct {
			Time  time.Time
			Phase string
		}
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			continue
		}
		switch e.Phase {
		case "create":
			booting = e.Time
		case "join":
			joined = e.Time
		}
	}
	t.Logf("up took %.1f s: %.1f s until the machines were made, %.1f s until all had joined, %.1f s until units ran",
		ended.Sub(began).Seconds(), booting.Sub(began).Seconds(), joined.Sub(booting).Seconds(), ended.Sub(joined).Seconds())
}
