//go:build lab

package bootservice

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/musterhq/muster/providers/metal/dhcp"
	"github.com/musterhq/muster/providers/metal/netboot"
)

// The lab's processes are this binary in two network namespaces: one serves, the other is the machines.
const (
	roleVariable   = "MUSTER_RACK_ROLE"   // serve or boot
	folderVariable = "MUSTER_RACK_FOLDER" // of the images
	proxyVariable  = "MUSTER_RACK_PROXY"  // set where another server leases
	ipxeVariable   = "MUSTER_RACK_IPXE"   // set where the system's iPXE is loaded

	serverAddress = "10.77.0.1"
	plainPort     = "8481" // of a plain file server beside the service

	machineCount = 200
	loaderSize   = 1 << 20
	kernelSize   = 14 << 20
	initrdSize   = 7 << 20
)

func TestMain(m *testing.M) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	var err error
	switch role := os.Getenv(roleVariable); role {
	case "":
		stop()
		os.Exit(m.Run())
	case "serve":
		err = serveRack(ctx)
	case "boot":
		err = bootRack(ctx)
	default:
		err = fmt.Errorf("cannot be %q", role)
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// serveRack is the boot service in its namespace, with a plain file server beside it to compare with.
func serveRack(ctx context.Context) error {
	folder := os.Getenv(folderVariable)
	config := Config{
		DHCP: dhcp.Config{
			Server: netip.MustParseAddr(serverAddress), HTTP: "http://" + serverAddress + ":8480",
			Loaders: map[dhcp.Platform]string{{Arch: netboot.AMD64, Firmware: netboot.UEFI}: "ipxe.efi", {Arch: netboot.AMD64, Firmware: netboot.BIOS}: "undionly.kpxe"},
			Network: &dhcp.Network{
				Prefix: netip.MustParsePrefix("10.77.0.0/16"), First: netip.MustParseAddr("10.77.1.0"), Last: netip.MustParseAddr("10.77.1.255"), Lease: time.Hour,
			},
		},
		Loaders: map[string][]byte{"ipxe.efi": noise(loaderSize), "undionly.kpxe": noise(loaderSize)},
		Images:  map[string]string{"vmlinuz": filepath.Join(folder, "vmlinuz"), "initrd": filepath.Join(folder, "initrd")},
		Decider: &machines{known: map[string]netboot.Machine{}},
		Log:     slog.New(slog.NewTextHandler(os.Stderr, nil)),
	}
	if os.Getenv(proxyVariable) != "" {
		config.DHCP.Network = nil
	}
	if os.Getenv(ipxeVariable) != "" {
		var err error
		if config.DHCP.Loaders, config.Loaders, err = ReadLoaders(LoadersDirectory); err != nil {
			return err
		}
	}
	service, err := New(config)
	if err != nil {
		return err
	}
	sockets, err := Listen(ctx, "rack0", config.DHCP.Server, 8480)
	if err != nil {
		return err
	}
	plain := &http.Server{Addr: net.JoinHostPort(serverAddress, plainPort), Handler: http.FileServer(http.Dir(folder))}
	ended := make(chan error, 1)
	go func() { ended <- plain.ListenAndServe() }()
	err = service.Serve(ctx, sockets)
	plain.Close()
	<-ended
	return err
}

// rack is two namespaces with a cable between them.
type rack struct {
	t      testing.TB
	prefix string
	folder string
}

// racks numbers them, as tests go on at once.
var racks atomic.Int32

func newRack(t testing.TB) *rack {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("network namespaces take root: run the lab as root")
	}
	r := &rack{t: t, prefix: fmt.Sprintf("muster-rack-%d-%d-", os.Getpid(), racks.Add(1)), folder: t.TempDir()}
	for name, size := range map[string]int{"vmlinuz": kernelSize, "initrd": initrdSize} {
		if err := os.WriteFile(filepath.Join(r.folder, name), noise(size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { r.sh("for space in ${prefix}server ${prefix}machines; do ip netns del $space; done") })
	r.sh(`ip netns add ${prefix}server
	      ip netns add ${prefix}machines
	      ip -n ${prefix}server link set lo up
	      ip -n ${prefix}machines link set lo up
	      ip -n ${prefix}server link add rack0 type veth peer name rack1 netns ${prefix}machines
	      ip -n ${prefix}server address add ` + serverAddress + `/16 dev rack0
	      ip -n ${prefix}machines address add 10.77.0.2/16 dev rack1
	      ip -n ${prefix}server link set rack0 up
	      ip -n ${prefix}machines link set rack1 up`)
	return r
}

func (r *rack) sh(script string) {
	r.t.Helper()
	cmd := exec.Command("sh", "-euc", script)
	cmd.Env = append(os.Environ(), "prefix="+r.prefix)
	if out, err := cmd.CombinedOutput(); err != nil {
		r.t.Fatalf("%v\n%s\n%s", err, script, out)
	}
}

// command runs a program in a namespace. What it says on its standard error is the test's.
func (r *rack) command(space, program string, args ...string) *exec.Cmd {
	cmd := exec.Command("ip", append([]string{"netns", "exec", r.prefix + space, program}, args...)...)
	cmd.Env = append(os.Environ(), folderVariable+"="+r.folder)
	return cmd
}

// serve starts the service, waits until it listens, and ends it with the test.
func (r *rack) serve(env ...string) *exec.Cmd {
	r.t.Helper()
	log, err := os.Create(filepath.Join(r.t.TempDir(), "service.log"))
	if err != nil {
		r.t.Fatal(err)
	}
	cmd := r.command("server", os.Args[0])
	cmd.Env, cmd.Stderr = append(append(cmd.Env, roleVariable+"=serve"), env...), log
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if said, err := os.ReadFile(log.Name()); err == nil && r.t.Failed() {
			r.t.Logf("the service said:\n%s", said[max(0, len(said)-20_000):])
		}
		log.Close()
	})
	r.sh(`for i in $(seq 100); do ip netns exec ${prefix}server ss -Hltn | grep -q :` + plainPort + ` && exit 0; sleep 0.1; done; exit 1`)
	return cmd
}

// status returns a field of a process's status in KiB.
func status(t testing.TB, pid int, field string) int {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(data), field+":")
	words := strings.Fields(after)
	if len(words) == 0 {
		t.Fatalf("no %s in the status of %d", field, pid)
	}
	n, err := strconv.Atoi(words[0])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestLabTwoHundredMachines boots them at once, from the first packet to the last byte of the initial file system.
func TestLabTwoHundredMachines(t *testing.T) {
	r := newRack(t)
	service := r.serve()
	run := func(machines, rounds int) {
		t.Helper()
		boot := r.command("machines", os.Args[0])
		boot.Env = append(boot.Env, roleVariable+"=boot", fmt.Sprintf("%s=%d", machinesVariable, machines), fmt.Sprintf("%s=%d", roundsVariable, rounds))
		out, err := boot.CombinedOutput()
		t.Logf("%s", out)
		if err != nil {
			t.Fatal(err)
		}
	}
	run(machineCount/10, 0)
	few := status(t, service.Process.Pid, "VmHWM")
	run(machineCount, 3)
	many := status(t, service.Process.Pid, "VmHWM")
	t.Logf("the service's memory: %d KiB after %d machines, %d KiB after %d", few, machineCount/10, many, machineCount)
	// What a machine may cost at once: its sockets' buffers and goroutines, and nothing of the 21 MiB that it loads.
	if limit := few + 256*machineCount; many > limit {
		t.Errorf("memory grows with machines: %d KiB, limit %d", many, limit)
	}
}
