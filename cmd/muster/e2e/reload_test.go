package e2e

import (
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestReload has a unit on every host read its configuration again where it runs, and refuses one that cannot.
func TestReload(t *testing.T) {
	c := sleepers(t, 2, 1, 0)
	signal.Ignore(syscall.SIGHUP) // as nohup does. A unit hears it all the same
	t.Cleanup(func() { signal.Reset(syscall.SIGHUP) })
	c.must("up", "--yes")
	c.writeFile("units/every.service", "[Service]\nExecStart=/bin/sh -c 'trap \"echo read again\" HUP; echo ready; while :; do sleep 0.2; done'\n"+
		"ExecReload=/bin/kill -HUP $MAINPID\n[X-Fleet]\nGlobal=true\n")
	c.writeFile("units/deaf.service", napUnit)
	c.must("start", "units/every.service", "units/deaf.service")
	for _, host := range []string{"node-1", "node-2"} {
		printed(c, host, "ready") // before that a signal would end it
	}
	r := c.run(time.Minute, nil, "units", "reload", "every", "deaf")
	if r.code != 3 || strings.Count(r.output(), "every.service: reloaded on node-") != 2 ||
		!strings.Contains(r.output(), "it has no ExecReload= below [Service]; `muster units restart deaf.service` restarts it") {
		t.Errorf("exit status %d, want 3\n%s", r.code, r.output())
	}
	for _, host := range []string{"node-1", "node-2"} {
		printed(c, host, "read again")
	}
}

// printed waits until what every.service printed on a host has a text in it.
func printed(c *cluster, host, text string) {
	c.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		out := c.must("logs", "every", "--host", host).output()
		if strings.Contains(out, text) {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("on %s it never printed %q:\n%s", host, text, out)
		}
		<-time.After(200 * time.Millisecond)
	}
}
