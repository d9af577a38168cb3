//go:build lab

package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// hypervisor is a libvirtd of a test's own, with mounts, a network and processes of its own: whatever a test leaves behind
// ends with it.
type hypervisor struct {
	t   testing.TB
	dir string // everything that it writes
	in  []string
}

// startHypervisor starts a libvirtd as the driver's own tests do.
func startHypervisor(t testing.TB) *hypervisor {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "muster-lab-") // a socket's path is short, and disks need more than a tmpfs has
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "libvirtd.log"))
	if err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(repoRoot(), "providers", "libvirt", "testdata", "libvirtd")
	cmd := exec.Command("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", script, dir)
	cmd.Stdout, cmd.Stderr = log, log
	// A test that times out takes the daemon with it, as long as the thread that started it is there.
	runtime.LockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatalf("cannot start libvirtd, which needs root: %v", err)
	}
	h := &hypervisor{t: t, dir: dir, in: []string{"nsenter", fmt.Sprintf("--net=/proc/%d/ns/net", cmd.Process.Pid)}}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if err := errors.Join(log.Close(), os.RemoveAll(dir)); err != nil {
			t.Error(err)
		}
	})
	for deadline := time.Now().Add(2 * time.Minute); ; <-time.After(100 * time.Millisecond) {
		if _, err := h.try("virsh", "-c", h.uri(), "list"); err == nil {
			return h
		} else if time.Now().After(deadline) {
			said, _ := os.ReadFile(log.Name())
			t.Fatalf("libvirtd does not answer: %v\n%s", err, said)
		}
	}
}

func (h *hypervisor) uri() string {
	return "qemu:///system?socket=" + filepath.Join(h.dir, "run", "libvirt", "libvirt-sock")
}

// try runs a command in the hypervisor's network.
func (h *hypervisor) try(args ...string) (string, error) {
	args = append(h.in[:len(h.in):len(h.in)], args...)
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, out)
	}
	return string(out), err
}

// virsh lists or changes something, and must succeed. The answer's words are returned.
func (h *hypervisor) virsh(args ...string) []string {
	h.t.Helper()
	out, err := h.try(append([]string{"virsh", "-c", h.uri(), "-q"}, args...)...)
	if err != nil {
		h.t.Fatalf("virsh %v: %v", args, err)
	}
	return strings.Fields(out)
}

// domains are the names of all domains.
func (h *hypervisor) domains() []string { return h.virsh("list", "--all", "--name") }

// images is where the cluster's disks are.
func (h *hypervisor) images() string { return filepath.Join(h.dir, "images") }

// nothingLeft checks that no domain, network, pool, volume, lease or bridge is there.
func (h *hypervisor) nothingLeft() {
	h.t.Helper()
	for what, left := range map[string][]string{
		"domains": h.domains(), "networks": h.virsh("net-list", "--all", "--name"), "pools": h.virsh("pool-list", "--all", "--name"),
	} {
		if len(left) > 0 {
			h.t.Errorf("%s are left: %v", what, left)
		}
	}
	leases, _ := filepath.Glob(filepath.Join(h.dir, "var/lib/libvirt/dnsmasq/*.status"))
	for _, path := range append(leases, h.images()) {
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			h.t.Errorf("%s is left (%v)", path, err)
		}
	}
	if links, err := h.try("ip", "-brief", "link"); err != nil || strings.Count(links, "\n") > 1 {
		h.t.Errorf("links are left beside lo (%v):\n%s", err, links)
	}
}
