//go:build lab

package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/agent/journal"
)

// upgraded restarts the musterd of a host, ends it with SIGKILL, and starts another binary of it in its place, and checks
// that no unit of the host notices.
func (c *cluster) upgraded(host string) {
	c.t.Helper()
	s, err := c.status()
	if err != nil {
		c.t.Fatal(err)
	}
	before := c.processesOfUnits(s, host)
	if len(before) == 0 {
		c.t.Fatalf("%s has no units", host)
	}
	root := fmt.Sprintf("/proc/%d/root", c.guestInit(host))
	for _, step := range []struct {
		what string
		do   func()
	}{
		{"a restart", func() { c.inGuest(host, "systemctl", "restart", "musterd.service") }},
		{"SIGKILL", func() { c.inGuest(host, "systemctl", "kill", "--kill-whom=main", "--signal=KILL", "musterd.service") }},
		{"an upgrade", func() {
			install(c.t, filepath.Join(root, "var/musterd"))
			const text = "[Service]\nExecStart=\nExecStart=/var/musterd --root /\n"
			dropIn := filepath.Join(root, "run/systemd/system/musterd.service.d")
			if err := os.MkdirAll(dropIn, 0o755); err != nil {
				c.t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dropIn, "upgrade.conf"), []byte(text), 0o644); err != nil {
				c.t.Fatal(err)
			}
			c.inGuest(host, "systemctl", "daemon-reload")
			c.inGuest(host, "systemctl", "restart", "musterd.service")
		}},
		{"daemon-reexec", func() { c.inGuest(host, "systemctl", "daemon-reexec") }},
	} {
		step.do()
		c.serving(host, before)
		c.eventually(time.Minute, whole(3, 3, 3))
		for unit, after := range c.processesOfUnits(s, host) {
			if after != before[unit] {
				c.t.Errorf("%s on %s was %s, and is %s after %s", unit, host, before[unit], after, step.what)
			}
		}
	}
	pid := c.inGuest(host, "systemctl", "show", "--value", "--property=MainPID", "musterd.service")
	if exe := c.inGuest(host, "readlink", "/proc/"+pid+"/exe"); exe != "/var/musterd" {
		c.t.Errorf("musterd on %s is %s", host, exe)
	}
}

// processesOfUnits is which process each unit of a host has, and since when.
func (c *cluster) processesOfUnits(s api.Status, host string) map[string]string {
	c.t.Helper()
	found := map[string]string{}
	for _, u := range s.Units {
		if u.Host == host {
			shown := c.inGuest(host, "systemctl", "show", "--property=MainPID,ExecMainStartTimestampMonotonic,NRestarts", u.Name)
			found[u.Name] = strings.ReplaceAll(shown, "\n", " ")
		}
	}
	return found
}

// serving waits until the agent of a host answers for its units.
func (c *cluster) serving(host string, units map[string]string) {
	c.t.Helper()
	for unit := range units {
		for deadline := time.Now().Add(time.Minute); ; <-time.After(100 * time.Millisecond) {
			r := c.run(30*time.Second, nil, "logs", unit, "--host", host, "-n", "1")
			if r.code == 0 {
				break
			}
			if time.Now().After(deadline) {
				c.t.Fatalf("%s does not show the log of %s: %s", host, unit, r.output())
			}
		}
	}
}

// logged reads the journal of a unit through the cluster, follows it, and leaves nothing behind on its host.
func (c *cluster) logged(unit, host string) {
	c.t.Helper()
	var line journal.Line
	text := c.must("logs", unit, "-n", "1", "-o", "json", "--since", "1h").stdout
	if err := json.Unmarshal([]byte(text), &line); err != nil || line.Host != host || line.Unit != unit || line.Time == nil || line.PID == 0 {
		c.t.Errorf("the last entry is %q, %v", text, err)
	}
	if text := c.must("journal", unit, "-n", "-1").stdout; !strings.Contains(text, "systemd[1]: Started "+unit) {
		c.t.Errorf("the journal says %q", text)
	}
	follow := c.command(c.t.Context(), nil, "logs", unit, "-f")
	out, err := follow.StdoutPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	if err := follow.Start(); err != nil {
		c.t.Fatal(err)
	}
	if first, err := bufio.NewReader(out).ReadString('\n'); err != nil || first == "" {
		c.t.Errorf("following begins with %q, %v", first, err)
	}
	if readers := c.inGuest(host, "sh", "-c", "pgrep -x journalctl || true"); readers == "" {
		c.t.Error("nobody follows the journal")
	}
	_ = follow.Process.Kill()
	_ = follow.Wait() // it was ended
	for deadline := time.Now().Add(time.Minute); ; <-time.After(50 * time.Millisecond) {
		left := c.inGuest(host, "sh", "-c", "pgrep -x journalctl || true")
		if left == "" {
			break
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("after its reader has gone, journalctl %s is left on %s", left, host)
		}
	}
}
