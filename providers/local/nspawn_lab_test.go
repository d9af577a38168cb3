//go:build lab

package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/musterhq/muster/providers"
	"github.com/musterhq/muster/providers/providertest"
)

// insideVariable tells a test that it runs in a network namespace of its own, where its bridges are nobody's concern.
const insideVariable = "MUSTER_TEST_INSIDE"

// bootPatience is how long a container may take to boot, many times what it takes.
const bootPatience = 2 * time.Minute

// TestContainers runs this program's tests of containers in a network of their own, with the image that MUSTER_IMAGE
// names, the output of `make image`.
func TestContainers(t *testing.T) {
	image, dir := os.Getenv("MUSTER_IMAGE"), t.TempDir()
	if _, err := os.Stat(filepath.Join(image, "tree")); err != nil {
		t.Fatalf("MUSTER_IMAGE names no host image, which `make image` builds: %v", err)
	}
	musterd := filepath.Join(dir, "musterd")
	if out, err := exec.Command("go", "build", "-o", musterd, "../../cmd/musterd").CombinedOutput(); err != nil {
		t.Fatalf("cannot build musterd: %v\n%s", err, out)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "unshare", "--net", "--", self, "-test.run=^TestInside", "-test.v", "-test.timeout=20m")
	cmd.Env = append(os.Environ(), insideVariable+"=yes", imageVariable+"="+filepath.Join(image, "tree"), musterdVariable+"="+musterd)
	out, err := cmd.CombinedOutput()
	t.Logf("in a network of its own:\n%s", out)
	if err != nil {
		t.Fatal(err)
	}
}

func inside(t *testing.T) {
	t.Helper()
	if os.Getenv(insideVariable) == "" {
		t.Skip("TestContainers runs it, in a network of its own")
	}
}

func TestInsideConformance(t *testing.T) {
	inside(t)
	providertest.Run(t, containers("written"))
}

func TestInsideConformanceOfCrashes(t *testing.T) {
	inside(t)
	for _, step := range []string{"tagged", "leased", "written", "bridged", "gated", "grouped", "launched"} {
		t.Run(step, func(t *testing.T) { providertest.RunCrash(t, containers(step)) })
	}
}

// containers is a provider of containers whose creates crash after a step.
func containers(step string) providertest.Factory {
	return func(t *testing.T) providertest.Fixture {
		before := groups(t)
		f := fixture(step)(t)
		f.Settings, f.Patience = nil, bootPatience
		left := f.Leftovers
		f.Leftovers = func(t *testing.T, cluster string) []string {
			return append(left(t, cluster), containerLeftovers(t, f.Provider.(*Provider), before)...)
		}
		return f
	}
}

// groups are the control groups of all containers of this machine.
func groups(t *testing.T) []string {
	t.Helper()
	root, err := groupsRoot()
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, pattern := range []string{"muster-*", "machine.slice/muster-*"} {
		dirs, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, dirs...)
	}
	return found
}

// containerLeftovers are interfaces, mounts, and control groups that nobody uses and that were not there before.
func containerLeftovers(t *testing.T, p *Provider, before []string) []string {
	t.Helper()
	list, err := links(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, l := range list {
		if l.Name != "lo" {
			left = append(left, "interface "+l.Name)
		}
	}
	for _, dir := range groups(t) {
		events, _ := os.ReadFile(filepath.Join(dir, "cgroup.events"))
		if !slices.Contains(before, dir) && strings.Contains(string(events), "populated 0") {
			left = append(left, "control group "+dir)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(mounts), p.root) {
		left = append(left, "a mount")
	}
	return left
}

func TestInsideDestroyInterrupted(t *testing.T) {
	inside(t)
	for _, step := range []string{"ended", "renamed"} {
		t.Run(step, func(t *testing.T) {
			dir, before := shortDir(t), groups(t)
			p := testProvider(t, dir)
			req := request("web-1", nil)
			instance, err := p.Create(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			crash(t, dir, step, req.Identity)
			if err := errors.Join(p.Destroy(t.Context(), instance), p.Cleanup(t.Context(), testCluster)); err != nil {
				t.Fatal(err)
			}
			if left := append(leftovers(t, p, testCluster), containerLeftovers(t, p, before)...); len(left) != 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

// guest is a container that runs.
type guest struct {
	t    *testing.T
	p    *Provider
	h    host
	made providers.Instance
}

func startGuest(t *testing.T, p *Provider, name string) guest {
	t.Helper()
	req := request(name, nil)
	made, err := p.Create(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	h, found, err := p.find(req.Identity)
	if err != nil || !found {
		t.Fatalf("no directory: %v", err)
	}
	return guest{t, p, h, made}
}

// keeper is the process around the guest.
func (g guest) keeper() process {
	g.t.Helper()
	keeper, running, err := g.p.look().keeper(g.h)
	if err != nil || !running {
		g.t.Fatalf("it does not run (%v)", err)
	}
	return keeper
}

// try runs a command in the guest.
func (g guest) try(args ...string) (string, error) {
	keeper := g.keeper()
	all, err := thisMachine().all()
	if err != nil {
		g.t.Fatal(err)
	}
	kin := newKin(g.h.InstanceID)
	for _, p := range kin.live(all) {
		if p.pid != keeper.pid && slices.Equal(p.args, []string{"/usr/lib/systemd/systemd"}) {
			enter := append([]string{"--target", fmt.Sprint(p.pid), "--all", "--"}, args...)
			out, err := exec.CommandContext(g.t.Context(), "nsenter", enter...).CombinedOutput()
			return strings.TrimSpace(string(out)), err
		}
	}
	return "", errors.New("it has no init yet")
}

func (g guest) run(args ...string) string {
	g.t.Helper()
	out, err := g.try(args...)
	if err != nil {
		g.t.Fatalf("%v: %v: %s", args, err, out)
	}
	return out
}

// await waits until the guest's system has booted, and returns the ID of the boot.
func (g guest) await(not string) string {
	g.t.Helper()
	began, boot := time.Now(), ""
	for time.Since(began) < bootPatience {
		state, err := g.try("systemctl", "is-active", "multi-user.target")
		if boot, _ = g.try("cat", "/proc/sys/kernel/random/boot_id"); err == nil && state == "active" && boot != not {
			g.t.Logf("%s booted %v after it was looked at", g.h.identity().Host, time.Since(began).Round(time.Millisecond))
			return boot
		}
		<-time.After(50 * time.Millisecond)
	}
	var said bytes.Buffer
	_ = g.p.Console(g.t.Context(), g.made, false, &said)
	g.t.Fatalf("%s does not boot: %s", g.h.identity().Host, &said)
	return ""
}

// TestInsideLife has a container that is told who it is, is reached, reboots, loses its power and is started again.
func TestInsideLife(t *testing.T) {
	inside(t)
	p := testProvider(t, shortDir(t))
	g := startGuest(t, p, "web-1")
	first := g.await("")
	for command, want := range map[string]string{
		"cat /etc/machine-id": g.made.Identity.ID(),
		"hostname":            "web-1",
		"stat -f -c %T /var":  g.run("stat", "-f", "-c", "%T", "/var/lib/cloud/seed/nocloud"), // no overlay
	} {
		if got := g.run(strings.Fields(command)...); got != want {
			t.Errorf("%s: %q, want %q", command, got, want)
		}
	}
	if out, err := g.try("cat", "/var/lib/muster/firstboot.json"); err != nil || !strings.Contains(out, g.h.InstanceID) {
		t.Errorf("the first boot did not read the seed: %v, %s", err, out)
	}
	reach(t, g.made)
	g.run("sh", "-c", "echo kept > /etc/kept; echo kept > /var/kept; sync")

	g.run("systemctl", "reboot")
	second := g.await(first)
	stop(t, p, g.h)
	if list, err := p.List(t.Context(), testCluster); err != nil || len(list) != 1 || list[0].State != providers.StateStopped {
		t.Fatalf("after a loss of power: %v, %v", list, err)
	}
	if err := p.Start(t.Context(), g.made); err != nil {
		t.Fatal(err)
	}
	if third := g.await(second); third == first {
		t.Errorf("boot %s came back", third)
	}
	if got := g.run("cat", "/etc/kept", "/var/kept"); got != "kept\nkept" {
		t.Errorf("the disk has %q", got)
	}
	reach(t, g.made)
	follow(t, g)
}

// reach connects to a host: that nobody listens is an answer, too.
func reach(t *testing.T, instance providers.Instance) {
	t.Helper()
	await(t, "the host's network", func() bool {
		connection, err := net.DialTimeout("tcp", net.JoinHostPort(instance.Addresses[0].String(), "9"), time.Second)
		if err == nil {
			_ = connection.Close()
		}
		return err == nil || errors.Is(err, syscall.ECONNREFUSED)
	})
}

// follow reads the console until the host is destroyed.
func follow(t *testing.T, g guest) {
	t.Helper()
	var said bytes.Buffer
	ended := make(chan error, 1)
	go func() { ended <- g.p.Console(context.WithoutCancel(t.Context()), g.made, true, &said) }()
	if err := g.p.Destroy(t.Context(), g.made); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil || strings.Count(said.String(), "Welcome to") != 3 {
		t.Errorf("the console of three boots: %v\n%s", err, &said)
	}
	if err := g.p.Console(t.Context(), g.made, false, &said); !errors.Is(err, providers.ErrNotFound) {
		t.Errorf("the console of no host: %v", err)
	}
}

// TestInsideSystemd runs this program in a container, whose systemd makes the control groups of containers in it.
func TestInsideSystemd(t *testing.T) {
	inside(t)
	p := testProvider(t, shortDir(t))
	g := startGuest(t, p, "web-1")
	g.await("")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(g.h.path(varDir+"/local.test"), program, 0o700); err != nil {
		t.Fatal(err)
	}
	out, err := g.try("env", insideVariable+"=yes", imageVariable+"=/", musterdVariable+"=/usr/bin/musterd", "TMPDIR=/var/tmp",
		"unshare", "--net", "/var/local.test", "-test.v", "-test.timeout=10m",
		"-test.run=^(TestInsideNested|TestInsideConformanceOfCrashes|TestInsideDestroyInterrupted)$")
	t.Logf("in a container:\n%s", out)
	if err != nil || !strings.Contains(out, "--- PASS: TestInsideNested") {
		t.Fatal(err)
	}
}

// TestInsideNested has a container in a container, in a scope.
func TestInsideNested(t *testing.T) {
	inside(t)
	if os.Getenv(imageVariable) != "/" {
		t.Skip("TestInsideSystemd runs it, in a container")
	}
	g := startGuest(t, testProvider(t, shortDir(t)), "web-1")
	g.await("")
	scope, err := os.ReadFile("/proc/" + strconv.Itoa(g.keeper().pid) + "/cgroup")
	if err != nil || !strings.Contains(string(scope), "0::/machine.slice/"+g.h.groupName()+".scope/keeper\n") {
		t.Errorf("it is in %s, %v", scope, err)
	}
}

// TestInsideSquashfs boots the image's file through a loop device.
func TestInsideSquashfs(t *testing.T) {
	inside(t)
	images, err := filepath.Glob(filepath.Join(os.Getenv("MUSTER_IMAGE"), "*.root"))
	if err != nil || len(images) == 0 {
		t.Fatalf("%v, %v", images, err)
	}
	p := testProvider(t, shortDir(t), func(c *Config, _ *providers.Environment) { c.Image = images[0] })
	g := startGuest(t, p, "web-1")
	g.await("")
	attached := loops(images[0])
	if attached == 0 {
		t.Error("no loop device has the image")
	}
	if err := errors.Join(p.Destroy(t.Context(), g.made), p.Cleanup(t.Context(), testCluster)); err != nil {
		t.Fatal(err)
	}
	await(t, "the loop device to be free", func() bool { return loops(images[0]) < attached })
}

// loops counts the loop devices of a file.
func loops(file string) int {
	found := 0
	paths, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	for _, path := range paths {
		if backing, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(backing)) == file {
			found++
		}
	}
	return found
}

// TestInsideForeignNetwork leaves alone what has a bridge's name or its addresses.
func TestInsideForeignNetwork(t *testing.T) {
	inside(t)
	p := testProvider(t, shortDir(t))
	ours := p.leases.bridgeOf(p.container.Network, false)
	for name, args := range map[string][]string{
		ours.name: {"alias", "somebody's"},
		"theirs":  nil,
	} {
		command(t.Context(), "ip", "link", "add", name, "type", "bridge")
		if args != nil {
			command(t.Context(), "ip", append([]string{"link", "set", name}, args...)...)
		} else {
			command(t.Context(), "ip", "address", "add", p.container.Network.Addr().Next().Next().String()+"/30", "dev", name)
		}
		_, err := p.Create(t.Context(), request("web-1", nil))
		if !errors.Is(err, providers.ErrConflict) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
		if err := p.Cleanup(t.Context(), testCluster); err != nil {
			t.Error(err)
		}
		if _, err := command(t.Context(), "ip", "link", "delete", name); err != nil {
			t.Errorf("a foreign bridge is gone: %v", err)
		}
	}
}

// TestInsideNAT has the machine's rules while there are hosts that need them.
func TestInsideNAT(t *testing.T) {
	inside(t)
	p := testProvider(t, shortDir(t), func(c *Config, _ *providers.Environment) { c.NAT = true })
	if err := os.WriteFile(forwarding, []byte("0"), 0); err != nil {
		t.Fatal(err)
	}
	if err := p.Check(t.Context(), nil); !errors.Is(err, providers.ErrInvalid) || !strings.Contains(err.Error(), "sysctl -w net.ipv4.ip_forward=1") {
		t.Errorf("the machine does not forward: %v", err)
	}
	if err := os.WriteFile(forwarding, []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	if err := p.Check(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	first, second := startGuest(t, p, "web-1"), startGuest(t, p, "web-2")
	b := p.leases.bridgeOf(p.container.Network, true)
	for i, left := range []int{1, 1, 0} {
		if rules := masquerades(t, b); rules != left {
			t.Errorf("%d rules after %d hosts were destroyed, want %d", rules, i, left)
		}
		if i < 2 {
			if err := p.Destroy(t.Context(), []guest{first, second}[i].made); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// masquerades counts the rules of a bridge.
func masquerades(t *testing.T, b bridge) int {
	t.Helper()
	program := []string{"iptables", "-t", "nat", "-S"}
	if _, err := exec.LookPath("nft"); err == nil {
		program = []string{"nft", "list", "ruleset"}
	}
	out, err := command(t.Context(), program[0], program[1:]...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(out), b.name)
}
