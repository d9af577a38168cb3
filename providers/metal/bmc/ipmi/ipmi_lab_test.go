//go:build lab

package ipmi

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/cloudconfig/secret"
	"github.com/musterhq/muster/providers/metal/bmc"
	"github.com/musterhq/muster/providers/metal/bmc/bmctest"
)

// simulated is a machine behind an ipmi_sim, which runs a program for what it is told to do with the chassis.
type simulated struct {
	t      *testing.T
	folder string
}

func (s simulated) read(name string) string {
	content, err := os.ReadFile(filepath.Join(s.folder, name))
	if err != nil && !os.IsNotExist(err) {
		s.t.Fatal(err)
	}
	return strings.TrimSpace(string(content))
}

func (s simulated) On() bool    { return s.read("power") == "1" }
func (s simulated) Resets() int { return len(s.read("resets")) }

func (s simulated) Next() bmc.Device {
	return map[string]bmc.Device{"pxe": bmc.Network, "hard-drive": bmc.Disk, "default": bmc.Disk, "cdrom": bmc.Media}[s.read("boot")]
}

// chassisProgram is called as "get power" or "set power 1 boot pxe" after two words of ours.
const chassisProgram = `#!/bin/sh
cd "$1"; shift 2
op=$1; shift
while [ $# -gt 0 ]; do
  case $op:$1 in
  get:power) echo "power:$(cat power)" ;;
  get:boot) echo "boot:$(cat boot 2>/dev/null || echo none)" ;;
  get:*) echo "$1:0" ;;
  set:reset) printf x >>resets; shift ;;
  set:*) echo "$2" >"$1"; shift ;;
  esac
  shift
done
`

func newSimulated(t *testing.T) (bmctest.Machine, bmc.Controller, bmc.Controller) {
	t.Helper()
	s := simulated{t, t.TempDir()}
	port := freePort(t)
	write := func(name, content string, mode os.FileMode) {
		if err := os.WriteFile(filepath.Join(s.folder, name), []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
	write("chassis", chassisProgram, 0o700)
	write("power", "0", 0o600)
	write("lan.conf", fmt.Sprintf(`name "machine"
set_working_mc 0x20
  startlan 1
    addr 127.0.0.1 %d
    priv_limit admin
    allowed_auths_admin none md2 md5 straight
    guid a123456789abcdefa123456789abcdef
  endlan
  user 1 true "" "" user 10 none
  user 2 true "admin" "right" admin 10 none md2 md5 straight
  chassis_control "%s %s 0x20"
`, port, filepath.Join(s.folder, "chassis"), s.folder), 0o600)
	write("machine.emu", "mc_setbmc 0x20\nmc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr\nmc_enable 0x20\n", 0o600)
	s.start()
	c := Controller{Host: "127.0.0.1", Port: port, User: "admin", Password: secret.New("right")}
	wrong := c
	wrong.Password = secret.New("wrong")
	s.awake(c)
	return s, c, wrong
}

func freePort(t *testing.T) int {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).Port
}

func (s simulated) start() {
	s.t.Helper()
	state := filepath.Join(s.folder, "state")
	cmd := exec.Command("ipmi_sim", "-c", filepath.Join(s.folder, "lan.conf"), "-f", filepath.Join(s.folder, "machine.emu"), "-s", state, "-n")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		s.t.Fatalf("%v: install the package openipmi", err)
	}
	s.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if s.t.Failed() {
			s.t.Logf("ipmi_sim said:\n%s", said.String())
		}
	})
}

// awake waits until the simulator answers. A packet that comes too early is lost, and the library sends the next one a
// second later.
func (s simulated) awake(c Controller) {
	s.t.Helper()
	limit := time.After(time.Minute)
	for {
		_, err := c.Power(s.t.Context())
		if err == nil {
			return
		}
		select {
		case <-limit:
			s.t.Fatal(err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func TestLabSimulator(t *testing.T) {
	bmctest.Run(t, bmctest.Bench{
		New: newSimulated,
		Silent: func(t *testing.T) bmc.Controller {
			conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close() })
			return Controller{Host: "127.0.0.1", Port: conn.LocalAddr().(*net.UDPAddr).Port, User: "admin", Password: secret.New("right")}
		},
	})
}
