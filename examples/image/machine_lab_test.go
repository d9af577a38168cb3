//go:build lab

package image

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience is what a step may take: ten times what an idle machine needs for it under emulation.
const patience = 10 * time.Minute

// processor is what is emulated: without AVX, whose instructions take longer than those that they replace.
const processor = "max,-avx,-avx2"

// hardware is what a machine is made of.
type hardware struct {
	disk     string   // raw
	log      string   // file that is to hold what was written to the disk, none when empty
	seed     string   // a second disk, none when empty
	firmware bool     // boot from the disk with UEFI, else the kernel directly
	label    string   // of the root partition, muster_1 when empty
	words    string   // more for the kernel's command line
	args     []string // more for QEMU
	offline  bool     // without a network interface
}

// machine is a running QEMU. It emulates the processor: not every hypervisor lets its guests have KVM.
type machine struct {
	t        *testing.T
	cmd      *exec.Cmd
	console  *console
	ended    chan struct{}
	monitor  string
	api, ssh string // addresses on this machine that lead to the guest's
}

// images is the directory that was built.
func images(t *testing.T) string {
	dir := os.Getenv("MUSTER_IMAGE")
	if dir == "" {
		t.Fatal("set MUSTER_IMAGE to a directory that `make image` built")
	}
	return dir
}

// newDisk is a copy of the image's disk, made larger.
func newDisk(t *testing.T) string {
	t.Helper()
	disk := filepath.Join(t.TempDir(), "disk.raw")
	run(t, "cp", "--sparse=always", filepath.Join(images(t), "muster_1.raw"), disk)
	if err := os.Truncate(disk, 4<<30); err != nil {
		t.Fatal(err)
	}
	return disk
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
	return string(out)
}

// start turns a machine on.
func start(t *testing.T, h hardware) *machine {
	t.Helper()
	m := &machine{t: t, console: newConsole(), ended: make(chan struct{}), monitor: filepath.Join(t.TempDir(), "qmp")}
	m.api, m.ssh = freeAddress(t), freeAddress(t)
	args := []string{
		"-accel", "tcg", "-machine", "q35", "-cpu", processor, "-smp", "1", "-m", "512", "-display", "none", "-no-reboot",
		"-serial", "stdio", "-monitor", "none", "-qmp", "unix:" + m.monitor + ",server=on,wait=off",
		"-device", "virtio-rng-pci",
	}
	args = append(args, drive(t, h)...)
	if h.seed != "" {
		args = append(args, "-drive", "if=virtio,format=raw,readonly=on,file="+h.seed)
	}
	network := "user,model=virtio-net-pci,hostfwd=tcp:" + m.api + "-:7400,hostfwd=tcp:" + m.ssh + "-:22"
	if h.offline {
		network = "none"
	}
	args = append(append(args, "-nic", network), boot(t, h)...)
	m.cmd = exec.Command("qemu-system-x86_64", append(args, h.args...)...)
	m.cmd.Stdout, m.cmd.Stderr = m.console, m.console
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(m.ended)
		_ = m.cmd.Wait() // a killed machine has no other end
	}()
	t.Cleanup(func() {
		_ = m.cmd.Process.Kill()
		<-m.ended
		if t.Failed() {
			t.Logf("console:\n%s", m.console.text())
		}
	})
	return m
}

// drive is the machine's disk. One with a log is for machines whose power is not cut in earnest, so it is never synced.
func drive(t *testing.T, h hardware) []string {
	t.Helper()
	if h.log == "" {
		return []string{"-drive", "if=virtio,format=raw,file=" + h.disk}
	}
	if err := os.WriteFile(h.log, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{
		"-blockdev", "driver=blklogwrites,node-name=disk,log-sector-size=512,log.driver=file,log.cache.no-flush=on,log.filename=" + h.log +
			",file.driver=raw,file.cache.no-flush=on,file.file.driver=file,file.file.filename=" + h.disk,
		"-device", "virtio-blk-pci,drive=disk",
	}
}

// boot is how a machine gets its kernel.
func boot(t *testing.T, h hardware) []string {
	t.Helper()
	dir := images(t)
	if h.firmware {
		const code, variables = "/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"
		own := filepath.Join(t.TempDir(), "variables")
		run(t, "cp", variables, own)
		return []string{"-drive", "if=pflash,format=raw,readonly=on,file=" + code, "-drive", "if=pflash,format=raw,file=" + own}
	}
	line, err := os.ReadFile(filepath.Join(dir, "cmdline"))
	if err != nil {
		t.Fatal(err)
	}
	words := string(line) + " " + h.words
	if h.label != "" {
		words = strings.Replace(words, "muster.root=muster_1 ", "muster.root="+h.label+" ", 1)
	}
	return []string{"-kernel", filepath.Join(dir, "vmlinuz"), "-initrd", filepath.Join(dir, "initrd"), "-append", words}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// await waits until the console has said something, and tells what the machine has used until then.
func (m *machine) await(what string) []string {
	m.t.Helper()
	pattern := regexp.MustCompile(what)
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		changed := m.console.changed()
		if found := pattern.FindStringSubmatch(m.console.text()); found != nil {
			m.t.Logf("%s after %.1f s of processor time", what, m.cpu())
			return found
		}
		select {
		case <-changed:
		case <-m.ended:
			m.t.Fatalf("the machine ended before it said %q", what)
		case <-late.C:
			m.t.Fatalf("the machine did not say %q within %s", what, patience)
		}
	}
}

// cpu is the processor time that the machine has used, in seconds.
func (m *machine) cpu() float64 {
	select {
	case <-m.ended:
		return (m.cmd.ProcessState.UserTime() + m.cmd.ProcessState.SystemTime()).Seconds()
	default:
	}
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", m.cmd.Process.Pid))
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0
	}
	const ticks = 100 // a second (USER_HZ)
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return float64(user+system) / ticks
}

// powerOff presses the power button and waits until the machine is off.
func (m *machine) powerOff() {
	m.t.Helper()
	conn, err := net.Dial("unix", m.monitor)
	if err != nil {
		m.t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, `{"execute": "qmp_capabilities"} {"execute": "system_powerdown"}`); err != nil {
		m.t.Fatal(err)
	}
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case <-m.ended:
	case <-late.C:
		m.t.Fatal("the machine does not heed its power button")
	}
}

// console keeps what a machine says.
type console struct {
	mu   sync.Mutex
	said bytes.Buffer
	more chan struct{}
}

func newConsole() *console { return &console{more: make(chan struct{})} }

func (c *console) Write(text []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.more)
	c.more = make(chan struct{})
	return c.said.Write(text)
}

func (c *console) text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.ReplaceAll(c.said.String(), "\r", "")
}

// changed is closed when the console says more.
func (c *console) changed() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.more
}

// partition is one of a disk's.
type partition struct {
	Start int64  `json:"start"` // in sectors of 512 bytes
	Size  int64  `json:"size"`
	Name  string `json:"name"`
}

func partitions(t *testing.T, disk string) []partition {
	t.Helper()
	var table struct {
		Table struct {
			Partitions []partition `json:"partitions"`
		} `json:"partitiontable"`
	}
	if err := json.Unmarshal([]byte(run(t, "sfdisk", "--json", disk)), &table); err != nil {
		t.Fatal(err)
	}
	return table.Table.Partitions
}
