//go:build lab

package bootservice

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// firmwares are machines without a disk. QEMU's own network ROM for BIOS is iPXE already; UEFI without a ROM has a PXE of
// its own, which loads iPXE.
var firmwares = []struct {
	name, mac string
	loads     bool // iPXE by TFTP
	options   []string
}{
	{"bios", "52:54:00:70:78:01", false, []string{"-device", "virtio-net-pci,netdev=rack,bootindex=1,mac=52:54:00:70:78:01"}},
	{"uefi", "52:54:00:70:78:02", true, []string{"-device", "virtio-net-pci,netdev=rack,bootindex=1,romfile=,mac=52:54:00:70:78:02"}},
}

const (
	uefiCode      = "/usr/share/OVMF/OVMF_CODE_4M.fd"
	uefiVariables = "/usr/share/OVMF/OVMF_VARS_4M.fd"
)

// TestLabFirmwares boots real firmwares up to their scripts, from a service that leases the addresses and from one beside a
// dnsmasq that does. A loader that loaded itself again would never come to a script.
func TestLabFirmwares(t *testing.T) {
	for _, proxy := range []bool{false, true} {
		name := map[bool]string{false: "server", true: "proxy"}[proxy]
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRack(t)
			r.sh(`ip -n ${prefix}machines link add bridge up type bridge
			      ip -n ${prefix}machines address flush dev rack1
			      ip -n ${prefix}machines link set rack1 master bridge
			      ip -n ${prefix}machines address add 10.77.0.2/16 dev bridge`)
			env := []string{ipxeVariable + "=yes"}
			if proxy {
				env = append(env, proxyVariable+"=yes")
				r.dnsmasq()
			}
			log := r.serve(env...).Stderr.(*os.File).Name()
			for _, firmware := range firmwares {
				r.power(firmware.name, firmware.options)
			}
			for _, firmware := range firmwares {
				said := r.until(log, "msg=boot mac="+firmware.mac)
				if !strings.Contains(said, "mac="+firmware.mac+" arch=amd64 firmware="+firmware.name) {
					t.Errorf("%s asked as something else:\n%s", firmware.name, said)
				}
			}
			said := r.until(log, "msg=boot")
			for _, firmware := range firmwares {
				loads := strings.Count(said, "file=ipxe.efi source") // a firmware asks for the size first
				if firmware.loads && (loads < 1 || loads > 2) {
					t.Errorf("%s loaded iPXE %d times:\n%s", firmware.name, loads, said)
				}
			}
			if proxy && strings.Contains(said, "address=10.") {
				t.Errorf("the proxy gave an address:\n%s", said)
			}
		})
	}
}

// dnsmasq leases addresses to the machines, and boots nothing.
func (r *rack) dnsmasq() {
	r.t.Helper()
	cmd := r.command("machines", "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--interface=bridge",
		"--bind-interfaces", "--dhcp-range=10.77.2.50,10.77.2.99,5m", "--dhcp-authoritative", "--user=root", "--log-facility=-",
		"--dhcp-leasefile="+filepath.Join(r.folder, "leases"), "--pid-file="+filepath.Join(r.folder, "dnsmasq.pid"))
	r.start(cmd)
}

// start runs a program until the test ends.
func (r *rack) start(cmd *exec.Cmd) {
	r.t.Helper()
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}

// power starts a machine on the bridge.
func (r *rack) power(name string, options []string) {
	r.t.Helper()
	tap := "tap-" + name
	r.sh("ip -n ${prefix}machines tuntap add " + tap + " mode tap; ip -n ${prefix}machines link set " + tap + " master bridge up")
	args := []string{
		"-machine", "q35,accel=tcg", "-m", "512", "-display", "none", "-nodefaults", "-serial", "file:" + filepath.Join(r.folder, name+".serial"),
		"-netdev", "tap,id=rack,script=no,downscript=no,ifname=" + tap,
	}
	if name == "uefi" {
		variables := filepath.Join(r.folder, "variables")
		copyFile(r.t, uefiVariables, variables)
		args = append(args, "-drive", "if=pflash,unit=0,format=raw,readonly=on,file="+uefiCode, "-drive", "if=pflash,unit=1,format=raw,file="+variables)
	}
	cmd := r.command("machines", "qemu-system-x86_64", append(args, options...)...)
	cmd.Stderr = os.Stderr
	r.start(cmd)
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	source, err := os.Open(from)
	if err != nil {
		t.Fatalf("%v: install the package ovmf", err)
	}
	defer source.Close()
	target, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	if _, err := io.Copy(target, source); err != nil {
		t.Fatal(err)
	}
}

// until waits until a log has some words and returns it. Firmwares take half a minute where processors are emulated; the
// limit is only there to end a test that fails.
func (r *rack) until(log, words string) string {
	r.t.Helper()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(6 * time.Minute)
	for {
		said, err := os.ReadFile(log)
		if err != nil {
			r.t.Fatal(err)
		}
		if strings.Contains(string(said), words) {
			return string(said)
		}
		select {
		case <-tick.C:
		case <-limit:
			r.t.Fatalf("no %q in the log", words)
		}
	}
}
