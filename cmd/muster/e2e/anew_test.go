package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/musterhq/muster/agent/api"
)

// burn ends a host with all that runs on it, and takes what its provider knows of it away. The directory is where it is, and
// comes back to where it was.
func (c *cluster) burn(host string) (was hostDir, aside string) {
	c.t.Helper()
	was, aside = c.dirOf(host), filepath.Join(c.dir, "burnt-"+host)
	c.signal(syscall.SIGKILL, c.hostProcesses(host, false))
	if err := os.Rename(was.path, aside); err != nil {
		c.t.Fatal(err)
	}
	return was, aside
}

// kept are the backups on a host, the oldest first.
func (c *cluster) kept(host string) []string {
	found, _ := filepath.Glob(filepath.Join(c.dirOf(host).path, "srv/backups", "*.tar"))
	slices.Sort(found)
	return found
}

// rotated waits until a host has written so many backups more, and checks that it never keeps more than two. It returns them.
func (c *cluster) rotated(host string, more int) []string {
	c.t.Helper()
	seen := map[string]bool{}
	for deadline := time.Now().Add(2 * time.Minute); ; <-time.After(200 * time.Millisecond) {
		have := c.kept(host)
		for _, name := range have {
			seen[name] = true
		}
		if len(have) > 3 { // the third for the moment between the writing of one and the removal of another
			c.t.Fatalf("%s keeps %d backups: %v", host, len(have), have)
		}
		if len(seen) >= more && len(have) == 2 {
			return have
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("%s has %d backups, and had %d in all; want %d", host, len(have), len(seen), more)
		}
	}
}

// TestRestoreOntoNewHosts loses every host of a cluster, and has only its operator's directory and a backup that a voter wrote by
// itself. Restore makes new hosts, which have the keys and run the units, those that were started by hand too. When old hosts
// are there again after all, `up` ends them, and the new ones go on undisturbed.
func TestRestoreOntoNewHosts(t *testing.T) {
	c := sleepers(t, 3, 3, 3)
	c.edit("voters: 3\n", "voters: 3\nbackups: {every: 10s, keep: 2, dir: /srv/backups}\n")
	c.must("up", "--yes")
	s := c.eventually(30*time.Second, whole(3, 3, 3))
	set := func(s api.Status, value string) {
		t.Helper()
		if code, body := ask(t, http.MethodPut, s.Hosts[0].Address+":4001", "/v2/keys/database", "value="+value); code >= 300 {
			t.Fatalf("cannot write a key: %d %s", code, body)
		}
	}
	has := func(s api.Status, value string) {
		t.Helper()
		for _, h := range s.Hosts {
			if code, body := ask(t, http.MethodGet, h.Address+":4001", "/v2/keys/database?quorum=true", ""); code != 200 || !strings.Contains(body, `"`+value+`"`) {
				t.Errorf("%s says of the key: %d %s", h.Name, code, body)
			}
		}
	}
	set(s, "before")
	c.must("units", "start", filepath.Join(c.dir, "units", "nap@.service"), "nap@9.service")
	have := c.rotated("node-1", len(c.kept("node-1"))+3)
	file := filepath.Join(c.dir, "backup.tar")
	if err := os.Rename(have[1], file); err != nil {
		t.Fatal(err)
	}

	was, aside := map[string]hostDir{}, map[string]string{}
	for _, host := range []string{"node-1", "node-2", "node-3"} {
		was[host], aside[host] = c.burn(host)
	}
	r := c.run(3*time.Minute, nil, "restore", "backup.tar", "--yes")
	if r.code != 0 || !strings.Contains(r.stderr, "all are made anew") {
		t.Fatalf("restore: exit status %d\n%s", r.code, r.output())
	}
	s = c.eventually(time.Minute, whole(3, 3, 4))
	for _, h := range s.Hosts {
		if h.Generation != 2 {
			t.Errorf("%s is of generation %d", h.Name, h.Generation)
		}
	}
	has(s, "before")
	set(s, "after")
	units := c.unitPIDs()

	for _, host := range []string{"node-1", "node-2"} {
		if err := os.Rename(aside[host], was[host].path); err != nil {
			t.Fatal(err)
		}
	}
	if r := c.must("plan"); !strings.Contains(r.output(), "2 to destroy") {
		t.Errorf("the plan does not have the hosts that came back:\n%s", r.output())
	}
	c.must("up", "--yes")
	s = c.eventually(30*time.Second, whole(3, 3, 4))
	has(s, "after")
	for _, d := range c.hostDirs() {
		if d.instance == was[d.host].instance {
			t.Errorf("%s of the old cluster is still there", d.host)
		}
	}
	for unit, pids := range units {
		if after := c.unitPIDs()[unit]; !slices.Equal(after, pids) {
			t.Errorf("%s did not run on: its processes were %v and are %v", unit, pids, after)
		}
	}
}
