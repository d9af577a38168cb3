//go:build lab

package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kdomanski/iso9660"

	"github.com/musterhq/muster/cmd/muster/e2e/canary"
)

// ofMachines are the places where hosts that are virtual machines have secrets: "disk" is the partition that is their /var,
// where their /etc lies too.
var ofMachines = slices.Concat(onGuests("disk/lib/etc/upper", "disk"), ofOperators, []canary.Rule{
	{Place: "hypervisor/images/*.seed.iso", Secret: "*", Why: "the host's data source, for the daemon and QEMU alone"},
})

// earlyWriteback has a host write files to its disk after a few seconds, so that they are there when its power is cut.
const earlyWriteback = "echo 200 > /proc/sys/vm/dirty_expire_centisecs && echo 100 > /proc/sys/vm/dirty_writeback_centisecs"

// written is how long to wait until what a host wrote is on its disk.
const written = 5 * time.Second

// nameTokens names the tokens that the seeds of all machines hold.
func (g *guests) nameTokens(h *hypervisor) {
	g.t.Helper()
	seeds, _ := filepath.Glob(filepath.Join(h.images(), "*.seed.iso"))
	if len(seeds) != 3 {
		g.t.Errorf("seeds %v, want three", seeds)
	}
	for _, path := range seeds {
		userData := filepath.Join(g.t.TempDir(), "user-data")
		if err := extractUserData(path, userData); err != nil {
			g.t.Fatal(err)
		}
		config := g.configOf(userData)
		if err := g.set.Add("join token of "+config.Host, config.Token); err != nil {
			g.t.Fatal(err)
		}
	}
}

// extractUserData copies the user-data of a seed.
func extractUserData(seed, to string) error {
	file, err := os.Open(seed)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	image, err := iso9660.OpenImage(file)
	if err != nil {
		return err
	}
	root, err := image.RootDir()
	if err != nil {
		return err
	}
	children, err := root.GetChildren()
	if err != nil {
		return err
	}
	for _, child := range children {
		if strings.HasPrefix(strings.ToLower(child.Name()), "user") {
			text, err := io.ReadAll(child.Reader())
			return errors.Join(err, os.WriteFile(to, text, 0o600))
		}
	}
	return fmt.Errorf("%s has no user-data", seed)
}

// disk searches the files of a machine that is off, and names its keys.
func (g *guests) disk(h *hypervisor, host, path string) {
	g.t.Helper()
	dir, err := os.MkdirTemp(h.dir, "disk-")
	if err != nil {
		g.t.Fatal(err)
	}
	files, err := extract(path, dir)
	if err != nil {
		g.t.Fatal(err)
	}
	g.nameHostKeys(host, filepath.Join(files, "lib/etc/upper"), files)
	g.nameOperatorKeys()
	g.journal(host, filepath.Join(files, "log/journal"))
	g.tree("disk/", files)
	if err := os.RemoveAll(dir); err != nil {
		g.t.Error(err)
	}
}

// extract copies the files of a disk's partition "var" into a directory, with their modes and owners.
func extract(disk, dir string) (files string, err error) {
	raw, part := filepath.Join(dir, "raw"), filepath.Join(dir, "var")
	if _, err := output("qemu-img", "convert", "-O", "raw", disk, raw); err != nil {
		return "", err
	}
	start, err := startOf(raw, "var")
	if err != nil {
		return "", err
	}
	skip := fmt.Sprintf("skip=%d", start*512)
	if _, err := output("dd", "if="+raw, "of="+part, "bs=1M", "iflag=skip_bytes", skip, "conv=sparse", "status=none"); err != nil {
		return "", err
	}
	// The file system was in use, so that its journal must be applied; 1 says that something was.
	_, err = output("e2fsck", "-f", "-y", part)
	if exit := (*exec.ExitError)(nil); err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
		return "", err
	}
	files = filepath.Join(dir, "files")
	if err := os.Mkdir(files, 0o700); err != nil {
		return "", err
	}
	_, err = output("debugfs", "-R", "rdump / "+files, part)
	return files, err
}

// startOf is where a partition begins on a disk, in sectors.
func startOf(disk, partition string) (int64, error) {
	text, err := output("sfdisk", "--json", disk)
	if err != nil {
		return 0, err
	}
	var table struct {
		PartitionTable struct {
			Partitions []struct {
				Name  string
				Start int64
			}
		}
	}
	if err := json.Unmarshal(text, &table); err != nil {
		return 0, err
	}
	for _, p := range table.PartitionTable.Partitions {
		if p.Name == partition {
			return p.Start, nil
		}
	}
	return 0, fmt.Errorf("%s has no partition called %s", disk, partition)
}

func output(args ...string) ([]byte, error) {
	out, err := exec.Command(args[0], args[1:]...).Output()
	if err != nil {
		err = fmt.Errorf("%v: %w\n%s", args, err, out)
	}
	return out, err
}

// searchHypervisor searches what the daemon has of the machines, but for their disks: definitions, states, logs, consoles,
// seeds; and what it tells, and the command lines of QEMU.
func (g *guests) searchHypervisor(h *hypervisor) {
	g.t.Helper()
	g.nameTokens(h)
	for _, dir := range []string{"etc", "run", "var"} {
		g.tree("hypervisor/"+dir+"/", filepath.Join(h.dir, dir))
	}
	paths, _ := filepath.Glob(filepath.Join(h.images(), "*"))
	for _, path := range append(paths, filepath.Join(h.dir, "libvirtd.log")) {
		if strings.HasSuffix(path, ".disk.qcow2") || strings.HasPrefix(filepath.Base(path), "muster-image-") {
			continue
		}
		place, _ := filepath.Rel(h.dir, path)
		hits, err := g.set.File(path, "hypervisor/"+place)
		if err != nil {
			g.t.Error(err)
		}
		g.found = append(g.found, hits...)
	}
	for _, domain := range h.domains() {
		g.keep("the definition of a domain", []byte(strings.Join(h.virsh("dumpxml", "--security-info", domain), " ")))
	}
	for _, network := range h.virsh("net-list", "--all", "--name") {
		g.keep("the definition of a network", []byte(strings.Join(h.virsh("net-dumpxml", network), " ")))
	}
	machines := 0
	err := canary.CommandLines(func(place string, line []byte) {
		if bytes.HasPrefix(line, []byte("/usr/bin/qemu-system")) {
			machines++
		}
		g.keep(place, line)
	})
	if err != nil || machines < 3 {
		g.t.Errorf("the command lines of %d machines were read, %v", machines, err)
	}
	g.tree("state/", g.state)
}
