package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/musterhq/muster/providers"
	"github.com/musterhq/muster/providers/crashsafe"
)

// checkContainers looks whether this machine can have the provider's containers.
func (p *Provider) checkContainers() error {
	return errors.Join(p.container.check(), p.checkOverlay())
}

// check looks whether this machine has what a container needs.
func (c *container) check() error {
	if os.Getuid() != 0 {
		return fmt.Errorf("`boot: %s` needs root; run muster with sudo: %w", bootNspawn, providers.ErrAuth)
	}
	var errs []error
	for _, need := range []struct{ program, source string }{
		{"systemd-nspawn", "systemd-container"}, {"ip", "iproute2"}, {"mount", "mount"}, {"cp", "coreutils"},
	} {
		if _, err := exec.LookPath(need.program); err != nil {
			errs = append(errs, fmt.Errorf("`boot: %s` needs the program %s; run `apt install %s`: %w",
				bootNspawn, need.program, need.source, providers.ErrNotFound))
		}
	}
	_, err := groupsRoot()
	return errors.Join(append(errs, err, c.checkImage(), c.checkNAT())...)
}

// checkImage looks whether the image may be one of a host.
func (c *container) checkImage() error {
	info, err := os.Stat(c.Image)
	switch {
	case err != nil:
		return fmt.Errorf("there is no image at %s; build one with `make image`: %w", c.Image, providers.ErrNotFound)
	case info.IsDir():
		for _, file := range []string{"usr/lib/systemd/systemd", "usr/bin/musterd"} {
			if _, err := os.Stat(filepath.Join(c.Image, file)); err == nil {
				continue
			}
			if _, err := os.Stat(filepath.Join(c.Image, "tree", file)); err == nil {
				return fmt.Errorf("%s is not the root of a host; set `image:` to %s: %w", c.Image, filepath.Join(c.Image, "tree"), providers.ErrInvalid)
			}
			return fmt.Errorf("the image %s has no /%s; build one with `make image`: %w", c.Image, file, providers.ErrInvalid)
		}
		return nil
	}
	f, err := os.Open(c.Image)
	if err != nil {
		return err
	}
	defer f.Close()
	magic := make([]byte, 4)
	if _, err := f.Read(magic); err != nil || string(magic) != "hsqs" { // SQUASHFS_MAGIC of linux/magic.h
		return fmt.Errorf("the image %s is neither a directory nor a squashfs; `make image` builds both, as tree/ and "+
			"muster_1.root: %w", c.Image, providers.ErrInvalid)
	}
	return nil
}

const forwarding = "/proc/sys/net/ipv4/ip_forward"

// checkNAT looks whether containers could reach other networks. Forwarding is a decision for the whole machine, and not
// this package's.
func (c *container) checkNAT() error {
	if !c.NAT {
		return nil
	}
	_, nft := exec.LookPath("nft")
	_, iptables := exec.LookPath("iptables")
	if nft != nil && iptables != nil {
		return fmt.Errorf("`nat: true` needs nftables or iptables; run `apt install nftables`: %w", providers.ErrNotFound)
	}
	if data, err := os.ReadFile(forwarding); err != nil || strings.TrimSpace(string(data)) != "1" {
		return fmt.Errorf("`nat: true` needs this machine to forward packets; run `sysctl -w net.ipv4.ip_forward=1`: %w", providers.ErrInvalid)
	}
	return nil
}

// checkOverlay looks whether the root's file system can be the upper one of an overlay, which an overlay cannot.
func (p *Provider) checkOverlay() error {
	var at unix.Statfs_t
	for dir := p.root; ; dir = filepath.Dir(dir) {
		err := unix.Statfs(dir, &at)
		switch {
		case errors.Is(err, fs.ErrNotExist) && dir != filepath.Dir(dir):
			continue
		case err == nil && at.Type == unix.OVERLAYFS_SUPER_MAGIC:
			err = fmt.Errorf("%s is on an overlay, as in a container; set `root:` to a directory on a disk: %w", p.root, providers.ErrInvalid)
		}
		return err
	}
}

// script mounts what a container needs, where only it sees that, and runs it, again when its system reboots. It does
// nothing unless it is told to: whoever started it may end first. Arguments: the image, where the unified hierarchy of control
// groups is mounted, and systemd-nspawn's command.
//
// systemd-nspawn divides the control group that it starts in, and hands its controllers down. A group that does so has no
// processes (cgroups(7), "no internal processes"), nor can it get one at the next boot; so the script and every boot have
// one each.
//
// It is the first process of a PID namespace, so the kernel ends all of the container with it, however it ends, and after
// that the mounts, the loop device and the network interface. What systemd-nspawn keeps in /run goes the same way.
const script = `
read -r word <&3 && [ "$word" = go ] || exit 1
exec 3<&-
set -e
image=$1 hierarchy=$2
shift 2
mount -t proc proc /proc
while IFS= read -r line; do
  case $line in 0::*) group=$hierarchy${line#0::} ;; esac
done < /proc/self/cgroup
mkdir -p "$group/keeper"
echo 0 > "$group/keeper/cgroup.procs"
for controller in $(cat "$group/cgroup.controllers"); do
  { echo "+$controller" > "$group/cgroup.subtree_control"; } 2> /dev/null || :
done
mkdir -p /run/systemd/nspawn
mount -t tmpfs -o mode=700 tmpfs /run/systemd/nspawn
if [ -d "$image" ]; then mount --bind "$image" lower; else mount -t squashfs -o ro,loop "$image" lower; fi
mount -t overlay overlay -o lowerdir=layer:lower,upperdir=upper,workdir=work root
if [ ! -e var.filled ]; then
  factory=root/usr/share/factory/var
  [ -d "$factory" ] || factory=root/var
  cp -a "$factory/." var/
  : > var.filled
fi
trap 'kill -TERM "$child"' TERM
reboot=133 # EXIT_FORCE_RESTART of systemd, with --keep-unit
code=$reboot boot=0
while [ $code -eq $reboot ]; do
  boot=$((boot + 1))
  mkdir "$group/boot-$boot"
  (echo 0 > "$group/boot-$boot/cgroup.procs" && exec "$@") &
  child=$!
  while kill -0 "$child" 2> /dev/null; do # a signal ends wait, too
    wait "$child" && code=0 || code=$?
  done
done
exit $code
`

// startContainer boots a container of which nothing runs: it starts the script, gives it a control group, lays out the
// directory, and opens the gate.
func (p *Provider) startContainer(ctx context.Context, h host) (process, error) {
	if err := h.clear(ctx); err != nil {
		return process{}, err
	}
	at, err := h.endpoint()
	if err != nil {
		return process{}, err
	}
	groups, err := groupsRoot()
	if err != nil {
		return process{}, err
	}
	b := p.leases.bridgeOf(h.Container.Network, h.Container.NAT)
	if err := errors.Join(p.leases.ensureBridge(ctx, b), p.step("bridged")); err != nil {
		return process{}, err
	}
	gate, opener, err := os.Pipe()
	if err != nil {
		return process{}, err
	}
	defer opener.Close() // closed without a word, the script ends
	cmd := exec.Command("/bin/sh", append([]string{"-c", script, "sh", h.Container.Image, groups}, h.nspawn(p.musterd, b)...)...)
	cmd.Env = append(p.environment(h), "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1") // which a systemd since 256 asks for
	cmd.ExtraFiles = []*os.File{gate}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid: true, Cloneflags: unix.CLONE_NEWPID, Unshareflags: unix.CLONE_NEWNS, // with private mounts
	}
	keeper, err := p.execute(h, cmd)
	if err := errors.Join(err, gate.Close()); err != nil {
		return process{}, err
	}
	if err := p.step("gated"); err != nil {
		return process{}, err
	}
	if err := errors.Join(h.group(ctx, keeper.pid), p.step("grouped")); err != nil {
		return process{}, err
	}
	if err := h.layOut(at, surroundings{resolv: resolvConf(), pids: limits(groups, keeper.pid, "pids")}); err != nil {
		return process{}, err
	}
	_, err = opener.WriteString("go\n")
	return keeper, err
}

// layOut makes a container's directories and the files that it is given.
func (h host) layOut(at endpoint, machine surroundings) error {
	// What is below is only mounted over or replaced here; its own directories are the container's affair.
	if err := os.RemoveAll(h.path(layerDir)); err != nil {
		return err
	}
	for _, dir := range []string{lowerDir, layerDir, upperDir, workDir, rootDir, varDir, seedDir} {
		mode := fs.FileMode(0o755)
		if dir == seedDir {
			mode = 0o700
		}
		if err := errors.Join(os.MkdirAll(h.path(dir), mode), os.Chmod(h.path(dir), mode)); err != nil {
			return err
		}
	}
	userData, err := os.ReadFile(h.path(userDataFile))
	if err != nil {
		return err
	}
	seed, err := h.seed(userData)
	if err != nil {
		return err
	}
	for name, content := range seed {
		if err := crashsafe.WriteFile(h.path(seedDir+"/"+name), content, 0o600); err != nil {
			return err
		}
	}
	for _, file := range h.layer(at, machine) {
		if err := file.write(h.path(layerDir)); err != nil {
			return err
		}
	}
	return nil
}

func (f containerFile) write(dir string) error {
	path := filepath.Join(dir, f.path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if f.content == "" {
		return os.Symlink(os.DevNull, path)
	}
	return errors.Join(os.WriteFile(path, []byte(f.content), 0o644), os.Chmod(path, 0o644)) //nolint:gosec // everybody in the container reads it
}

// resolvConf is how this machine resolves names, as others can use it: systemd-resolved's own address is on loopback.
func resolvConf() string {
	for _, path := range []string{"/run/systemd/resolve/resolv.conf", "/etc/resolv.conf"} {
		if data, err := os.ReadFile(path); err == nil {
			return string(data)
		}
	}
	return ""
}

// clear removes what a container that does not run has left outside of its directory: its control group, and its network
// interface, which the kernel removes by itself but not at once.
func (h host) clear(ctx context.Context) error {
	if h.Container == nil {
		return nil
	}
	if err := h.removeGroup(ctx); err != nil {
		return err
	}
	list, err := links(ctx)
	if _, found := findLink(list, h.vethName()); err != nil || !found {
		return err
	}
	_, err = command(ctx, "ip", "link", "delete", h.vethName())
	if list, listErr := links(ctx); listErr == nil {
		if _, found := findLink(list, h.vethName()); !found {
			return nil // the kernel was faster
		}
	}
	return err
}
