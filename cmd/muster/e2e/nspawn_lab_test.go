//go:build lab

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/musterhq/muster/agent/api"
)

// network is a network of a test's own, with nothing in it but lo: whatever a test leaves behind ends with it.
type network struct {
	t  testing.TB
	in []string // the command that runs others there
}

func newNetwork(t testing.TB) network {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("containers need root")
	}
	cmd := exec.Command("unshare", "--net", "sleep", "infinity")
	runtime.LockOSThread() // the death signal is that of the thread
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	n := network{t, []string{"nsenter", fmt.Sprintf("--net=/proc/%d/ns/net", cmd.Process.Pid)}}
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; <-time.After(5 * time.Millisecond) {
		if theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid)); err == nil && theirs != own {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("unshare makes no network: %v", err)
		}
	}
	n.run("ip", "link", "set", "lo", "up")
	return n
}

// try runs a command in the network.
func (n network) try(args ...string) (string, error) {
	args = slices.Concat(n.in, args)
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, out)
	}
	return string(out), err
}

func (n network) run(args ...string) string {
	n.t.Helper()
	out, err := n.try(args...)
	if err != nil {
		n.t.Fatal(err)
	}
	return out
}

// nspawnLab is examples/nspawn in a network, with a lease that a musterd is back before on a machine that is busy.
func nspawnLab(t testing.TB, n network) *cluster {
	t.Helper()
	image := os.Getenv("MUSTER_IMAGE")
	if _, err := os.Stat(filepath.Join(image, "tree")); err != nil {
		t.Fatalf("MUSTER_IMAGE names no host image, which `make image` builds: %v", err)
	}
	c := example(t, "nspawn", "../../image/", image+"/", "lease: 5s", "lease: 20s")
	c.under = n.in
	return c
}

// leftovers are interfaces of the network, and the machine's mounts and control groups that are those of hosts.
func (n network) leftovers(c *cluster) []string {
	var left []string
	for line := range strings.Lines(n.run("ip", "-brief", "link")) {
		if !strings.HasPrefix(line, "lo ") {
			left = append(left, "interface "+strings.TrimSpace(line))
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		n.t.Fatal(err)
	}
	if strings.Contains(string(mounts), c.dir) {
		left = append(left, "a mount in "+c.dir)
	}
	for line := range strings.Lines(string(mounts)) {
		if fields := strings.Fields(line); strings.Contains(line, " - cgroup2 ") {
			for instance := range c.instances() {
				if dir := filepath.Join(fields[4], "muster-"+instance); exists(dir) {
					left = append(left, dir)
				}
			}
		}
	}
	return left
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// guestInit is the process ID of a host's init, as seen from here.
func (c *cluster) guestInit(host string) int {
	c.t.Helper()
	for _, p := range c.hostProcesses(host, true) {
		children, err := exec.Command("pgrep", "--exact", "systemd", "--parent", strconv.Itoa(p.pid)).Output()
		if err != nil {
			continue // another process around the container
		}
		if pid, err := strconv.Atoi(strings.TrimSpace(string(children))); err == nil {
			return pid
		}
	}
	c.t.Fatalf("%s has no init", host)
	return 0
}

// inGuest runs a command on a host.
func (c *cluster) inGuest(host string, args ...string) string {
	c.t.Helper()
	enter := append([]string{"--target", strconv.Itoa(c.guestInit(host)), "--all", "--"}, args...)
	out, err := exec.Command("nsenter", enter...).CombinedOutput()
	if err != nil {
		c.t.Fatalf("%v on %s: %v\n%s", args, host, err, out)
	}
	return strings.TrimSpace(string(out))
}

// TestNspawn is the life of three containers: up, units on systemd and podman, their journals, another musterd on a host, a
// host that loses its power and is started again, one that reboots, and down.
func TestNspawn(t *testing.T) {
	n := newNetwork(t)
	c := nspawnLab(t, n)
	began := time.Now()
	up := c.must("up", "--yes")
	t.Logf("up took %.1f s\n%s", time.Since(began).Seconds(), up.output())
	whole := whole(3, 3, 3)
	s := c.eventually(time.Minute, whole)
	serves(t, n.try, s)
	for _, h := range s.Hosts {
		t.Logf("%s: %.1f s from the start of systemd to musterd", h.Name, c.bootTime(h.Name))
	}
	if plan := c.must("plan"); !strings.Contains(plan.output(), "nothing to do") {
		t.Errorf("there is still something to do:\n%s", plan.output())
	}
	c.limited()
	clock := hostsOf(s, "clock.service")[0]
	c.logged("clock.service", clock)
	c.upgraded(clock)
	if said := c.must("hosts", "console", "box-1"); !strings.Contains(said.output(), "joined the cluster") {
		t.Errorf("the console has nothing of musterd:\n%s", said.output())
	}

	lost := hostsOf(s, "web@")[0]
	c.signal(syscall.SIGKILL, c.hostProcesses(lost, false))
	c.eventually(time.Minute, func(s api.Status) error { return runningElsewhere(s, lost, 3) })
	t.Logf("%s is lost, and its units run elsewhere", lost)
	c.must("up", "--yes")
	serves(t, n.try, c.eventually(time.Minute, whole))

	c.rebooted(hostsOf(s, "clock")[0])
	serves(t, n.try, c.eventually(time.Minute, whole))

	instances := len(c.instances())
	c.must("down", "--yes")
	c.nothingLeft()
	if left := n.leftovers(c); len(left) > 0 || instances != 3 {
		t.Errorf("of %d hosts are left: %v", instances, left)
	}
}

// controllers are those of a control group, version 2.
func controllers(t testing.TB, group string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(group, "cgroup.controllers"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(text))
}

// unifiedGroups is where this machine has the control groups, version 2.
func unifiedGroups(t testing.TB) string {
	t.Helper()
	mounts, err := exec.Command("findmnt", "--noheadings", "--output", "TARGET", "--types", "cgroup2").Output()
	path, _, _ := strings.Cut(strings.TrimSpace(string(mounts)), "\n")
	if err != nil || path == "" {
		t.Fatalf("there are no control groups, version 2: %v", err)
	}
	return path
}

const limitedUnit = "[Service]\nExecStart=/bin/sleep infinity\nMemoryMax=64M\nTasksMax=50\nCPUQuota=40%\n"

// limits are files of a control group, by their controllers, and what limitedUnit makes them.
var limits = map[string][2]string{"memory": {"memory.max", "67108864"}, "pids": {"pids.max", "50"}, "cpu": {"cpu.max", "40000 100000"}}

// limited runs a unit with limits on a host, and checks that the host is given every controller that this machine has, and
// that those limit the unit. Where version 1 has a controller no host gets it, and the unit runs without the limit.
func (c *cluster) limited() {
	c.t.Helper()
	c.writeFile("limited.service", limitedUnit)
	c.must("start", filepath.Join(c.dir, "limited.service"))
	s, err := c.status()
	if err != nil {
		c.t.Fatal(err)
	}
	hosts := hostsOf(s, "limited.service")
	if len(hosts) != 1 || whole(3, 3, 4)(s) != nil {
		c.t.Fatalf("limited.service does not run: %+v", s.Units)
	}
	init := c.guestInit(hosts[0])
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", init))
	if err != nil {
		c.t.Fatal(err)
	}
	_, own, _ := strings.Cut("\n"+string(text), "\n0::")
	own, _, _ = strings.Cut(own, "/boot-") // each boot has a group in the host's
	has := controllers(c.t, unifiedGroups(c.t))
	if got := controllers(c.t, filepath.Join(unifiedGroups(c.t), own)); !slices.Equal(got, has) {
		c.t.Errorf("%s is given the controllers %v of %v", hosts[0], got, has)
	}
	group := c.inGuest(hosts[0], "systemctl", "show", "--value", "-p", "ControlGroup", "limited.service")
	for controller, limit := range limits {
		if !slices.Contains(has, controller) {
			c.t.Logf("not tested: control groups of version 1 have the controller %s on this machine", controller)
			continue
		}
		path := fmt.Sprintf("/proc/%d/root/sys/fs/cgroup/%s/%s", init, group, limit[0])
		if text, err := os.ReadFile(path); err != nil || strings.TrimSpace(string(text)) != limit[1] {
			c.t.Errorf("%s of limited.service is %q, %v, want %s", limit[0], text, err, limit[1])
		}
	}
	c.must("destroy", "limited.service")
}

// bootTime is how many seconds passed on a host between the start of its init and that of musterd.
func (c *cluster) bootTime(host string) float64 {
	c.t.Helper()
	microseconds := func(args ...string) float64 {
		value, err := strconv.ParseFloat(c.inGuest(host, append([]string{"systemctl", "show", "--value", "-p"}, args...)...), 64)
		if err != nil {
			c.t.Fatal(err)
		}
		return value
	}
	return (microseconds("ActiveEnterTimestampMonotonic", "musterd.service") - microseconds("UserspaceTimestampMonotonic")) / 1e6
}

// rebooted reboots a host and waits until its musterd works again, after another boot.
func (c *cluster) rebooted(host string) {
	c.t.Helper()
	boot := func(s api.Status) string {
		for _, h := range s.Hosts {
			if h.Name == host && h.State == api.HostReady {
				return h.Facts.BootID
			}
		}
		return ""
	}
	s, err := c.status()
	if err != nil {
		c.t.Fatal(err)
	}
	before := boot(s)
	c.inGuest(host, "systemctl", "reboot")
	c.eventually(time.Minute, func(s api.Status) error {
		if now := boot(s); now == "" || now == before {
			return fmt.Errorf("%s has boot %q, and had %q", host, now, before)
		}
		return nil
	})
}

// serves checks that both web servers answer, asked by a command that try runs. A container that has been started may not
// listen yet.
func serves(t testing.TB, try func(args ...string) (string, error), s api.Status) {
	t.Helper()
	served := 0
	for _, u := range s.Units {
		for _, h := range s.Hosts {
			if h.Name != u.Host || !strings.HasPrefix(u.Name, "web@") {
				continue
			}
			_, err := try("curl", "--silent", "--show-error", "--fail", "--output", "/dev/null", "--retry", "60", "--retry-delay", "1",
				"--retry-connrefused", "http://"+h.Address+":8080/busybox")
			if err != nil {
				t.Errorf("%s on %s does not answer: %v", u.Name, h.Name, err)
			}
			served++
		}
	}
	if served != 2 {
		t.Errorf("%d web servers, want 2", served)
	}
}

// TestNspawnKilled ends muster at random moments while it makes containers. What a second run makes of it is exactly what
// was asked for, and `down` leaves nothing, whichever comes first.
func TestNspawnKilled(t *testing.T) {
	n := newNetwork(t)
	for i := range 12 {
		c := nspawnLab(t, n)
		c.upKilled(t, 600*time.Millisecond)
		if i%2 == 0 {
			c.must("up", "--yes")
			if dirs := c.hostDirs(); len(dirs) != 3 {
				t.Errorf("%d hosts, want three", len(dirs))
			}
		}
		c.must("down", "--yes")
		c.nothingLeft()
		if left := n.leftovers(c); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	}
}
