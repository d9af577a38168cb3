//go:build lab

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/agent/api"
)

// TestNspawnContainers is the life of container units on hosts with systemd and podman, with examples/containers.
func TestNspawnContainers(t *testing.T) {
	n := newNetwork(t)
	image := os.Getenv("MUSTER_IMAGE")
	if !exists(filepath.Join(image, "tree")) {
		t.Fatal("MUSTER_IMAGE names no host image, which `make image` builds")
	}
	c := example(t, "containers", "../../image/", image+"/")
	c.under = n.in
	c.must("up", "--yes")
	whole := whole(2, 1, 5)
	s := c.eventually(time.Minute, whole)
	c.servesPages(n, s)
	c.sharesKeys(s)

	web := hostsOf(s, "web@1")[0]
	c.saw(web, "web-1", "INSTANCE=1", "GREETING=two words, 100%", "MUSTER_HOST="+web, "MUSTER_UNIT=web@1.service")
	if said := c.must("units", "cat", "web@1"); !strings.Contains(said.stdout, "PublishPort=8080:80") {
		t.Errorf("the unit is not as it was written:\n%s", said.output())
	}
	c.must("units", "verify", filepath.Join(c.dir, "units/web@.container"), filepath.Join(c.dir, "units/clock.container"))

	killed := c.inGuest(web, "podman", "ps", "--quiet", "--filter", "name=web-1")
	c.inGuest(web, "podman", "kill", killed)
	c.eventually(time.Minute, func(api.Status) error {
		if now := c.inGuest(web, "podman", "ps", "--quiet", "--filter", "name=web-1"); now == "" || now == killed {
			return fmt.Errorf("the container is %q", now)
		}
		return nil
	})
	c.servesPages(n, c.eventually(time.Minute, whole))

	clock := hostsOf(s, "clock")[0]
	c.must("stop", "web@1.container", "web@2", "announce@1", "announce@2", "clock")
	for _, host := range []string{web, clock} {
		if left := c.inGuest(host, "podman", "ps", "--all", "--quiet"); left != "" {
			t.Errorf("%s has containers of stopped units: %s", host, left)
		}
	}
	if now := c.inGuest(clock, "podman", "volume", "ls", "--quiet"); now != "clock" {
		t.Errorf("%s has the volumes %q", clock, now)
	}
	c.cannotRun()
	c.must("down", "--yes")
	c.nothingLeft()
	if left := n.leftovers(c); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// servesPages checks that both web servers answer on the ports that they publish, with a page of their host's.
func (c *cluster) servesPages(n network, s api.Status) {
	c.t.Helper()
	for _, host := range hostsOf(s, "web@") {
		for _, h := range s.Hosts {
			if h.Name != host {
				continue
			}
			page, err := n.try("curl", "--silent", "--fail", "--retry", "60", "--retry-delay", "1", "--retry-all-errors",
				"--max-time", "5", "http://"+h.Address+":8080/index.html")
			if err != nil || strings.TrimSpace(page) != "served from a directory of the host" {
				c.t.Errorf("%s has %q, %v", host, page, err)
			}
		}
	}
}

// sharesKeys has containers tell where the web servers are, and read and write other keys from behind podman's bridge.
func (c *cluster) sharesKeys(s api.Status) {
	c.t.Helper()
	at := map[string]string{}
	for _, h := range s.Hosts {
		at[h.Name] = h.Address
	}
	for i, container := range []string{"announce-1", "announce-2"} {
		host := hostsOf(s, fmt.Sprintf("announce@%d", i+1))[0]
		c.eventually(time.Minute, func(api.Status) error {
			r := c.run(30*time.Second, nil, "kv", "get", fmt.Sprintf("/services/web/%d", i+1))
			if strings.TrimSpace(r.stdout) != at[host]+":8080" {
				return fmt.Errorf("announced is %s", r.output())
			}
			return nil
		})
		wget := func(args string) string {
			return c.inGuest(host, "podman", "exec", container, "/bin/sh", "-c", "/bin/busybox wget -q -O - "+args+" 2>&1 || true")
		}
		c.must("kv", "put", "/database", "10.0.0.7:3306")
		const base = "http://10.88.0.1:4001/"
		for _, tt := range []struct{ args, want string }{
			{base + "v2/keys/database?quorum=true", `"value":"10.0.0.7:3306"`},
			{base + "v1/keys/services/web", at[host] + ":8080"},
			{"--post-data value=x " + base + "v1/keys/database", "403 Forbidden"},
			{"--header 'Origin: http://evil.example' " + base + "v1/keys/database", "403 Forbidden"},
			{"--header 'Host: evil.example' " + base + "v1/keys/database", "403 Forbidden"},
			{base + "v2/keys/coreos.com/updateengine/rebootlock/semaphore", "403 Forbidden"},
			{"http://" + at[host] + ":4001/v1/keys/database", "refused"},
		} {
			if got := wget(tt.args); !strings.Contains(got, tt.want) {
				c.t.Errorf("%s gets %q for %s; want %q", container, got, tt.args, tt.want)
			}
		}
	}
}

// saw checks the variables of a container's first process.
func (c *cluster) saw(host, container string, want ...string) {
	c.t.Helper()
	env := c.inGuest(host, "podman", "exec", container, "/bin/busybox", "env")
	for _, variable := range want {
		if !strings.Contains("\n"+env+"\n", "\n"+variable+"\n") {
			c.t.Errorf("%s on %s does not have %q:\n%s", container, host, variable, env)
		}
	}
}

// cannotRun submits containers that cannot be made, and reads what is said of them.
func (c *cluster) cannotRun() {
	c.t.Helper()
	for _, tt := range []struct{ name, text, want string }{
		{"refused", "Image=localhost/busybox\nAutoUpdate=registry\n", "refused.container:3:12: `AutoUpdate`: not supported in [Container]"},
		{"missing", "Image=localhost/nope\nPull=never\n", "exit status 125 of podman: it cannot make the container: an image that the host lacks"},
		{"engine", "Image=localhost/busybox\n[X-Muster]\nEngine=docker\n", "cannot find docker on this host; install it, or give the unit hosts that have it"},
	} {
		c.writeFile(tt.name+".container", "[Container]\n"+tt.text)
		r := c.run(time.Minute, nil, "start", filepath.Join(c.dir, tt.name+".container"), "--timeout", "10s")
		if r.code == 0 || !strings.Contains(r.output(), tt.want) {
			c.t.Errorf("%s: exit status %d, want %q\n%s", tt.name, r.code, tt.want, r.output())
		}
	}
}
