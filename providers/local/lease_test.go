package local

import (
	"errors"
	"fmt"
	"iter"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/musterhq/muster/providers"
)

func testLeases(t *testing.T) leaseDir {
	t.Helper()
	l := machineLeases()
	l.dir = filepath.Join(t.TempDir(), "leases")
	return l
}

// hostDirs makes n directories to lease addresses for.
func hostDirs(t *testing.T, n int) []string {
	t.Helper()
	dirs := make([]string, n)
	for i := range dirs {
		dirs[i] = t.TempDir()
	}
	return dirs
}

func TestAddressesCoverTheSpace(t *testing.T) {
	seen, count := make([]bool, 1<<24), 0 // by the last three bytes
	for e := range ownAddresses("seed") {
		b := e.address.As4()
		if b[0] != 127 || b[1] < 64 || b[1] > 127 || b[3] == 0 || b[3] == 255 {
			t.Fatalf("address %s is outside the space", e.address)
		}
		if at := int(b[1])<<16 | int(b[2])<<8 | int(b[3]); !seen[at] {
			seen[at] = true
			count++
		}
	}
	if count != addresses {
		t.Errorf("%d addresses, want %d", count, addresses)
	}
	blocks := map[int]bool{}
	for e := range sharedAddress("seed") {
		blocks[e.ports.API] = true
	}
	if len(blocks) != portBlocks {
		t.Errorf("%d blocks of ports, want %d", len(blocks), portBlocks)
	}
}

// TestLeasesAreExclusive lets many hosts with one seed, and so one wish, ask at once.
func TestLeasesAreExclusive(t *testing.T) {
	l := testLeases(t)
	dirs := hostDirs(t, 24)
	got := make([]endpoint, len(dirs))
	var group sync.WaitGroup
	for i, dir := range dirs {
		group.Go(func() {
			var err error
			if got[i], err = l.acquire(t.Context(), dir, "seed"); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	seen := map[endpoint]bool{}
	for _, e := range got {
		if seen[e] {
			t.Errorf("%s was leased twice", e.name())
		}
		seen[e] = true
	}
}

func TestLeaseIsKept(t *testing.T) {
	l := testLeases(t)
	dirs := hostDirs(t, 2)
	first, err := l.acquire(t.Context(), dirs[0], "seed")
	if err != nil {
		t.Fatal(err)
	}
	if again, err := l.acquire(t.Context(), dirs[0], "seed"); err != nil || again != first {
		t.Errorf("asked again: %v, %v; want %v", again, err, first)
	}
	if err := os.RemoveAll(l.dir); err != nil { // as systemd-tmpfiles might
		t.Fatal(err)
	}
	if err := l.keep(t.Context(), first, dirs[0]); err != nil {
		t.Fatal(err)
	}
	if err := l.keep(t.Context(), first, dirs[1]); !errors.Is(err, providers.ErrConflict) {
		t.Errorf("another host keeps the address: %v", err)
	}
	if err := os.RemoveAll(dirs[0]); err != nil {
		t.Fatal(err)
	}
	if heir, err := l.acquire(t.Context(), dirs[1], "seed"); err != nil || heir != first {
		t.Errorf("the lease of a directory that is gone was not reused: %v, %v", heir, err)
	}
	if err := l.release(t.Context(), dirs[1]); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(l.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the leases' directory is left: %v", err)
	}
}

// listen occupies a port of an address until the test ends.
func listen(t *testing.T, address string, port int) {
	t.Helper()
	listener, err := net.Listen("tcp", net.JoinHostPort(address, fmt.Sprint(port)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
}

// TestOccupiedPorts passes over addresses where a program listens on one of the ports.
func TestOccupiedPorts(t *testing.T) {
	next, stop := iter.Pull(ownAddresses(t.Name()))
	defer stop()
	for _, port := range []int{standardPorts.API, ownPorts.Client, standardPorts.Peer} {
		e, _ := next()
		listen(t, e.address.String(), port)
	}
	want, _ := next()
	l := testLeases(t)
	dir := hostDirs(t, 1)[0]
	got, err := l.acquire(t.Context(), dir, t.Name())
	if err != nil || got != want {
		t.Errorf("leased %v, %v; want %v", got, err, want)
	}
	listen(t, want.address.String(), standardPorts.API)
	err = l.keep(t.Context(), want, dir)
	if !errors.Is(err, providers.ErrConflict) || !strings.Contains(err.Error(), "port 7400") {
		t.Errorf("start on an occupied port: %v", err)
	}
}

// TestOtherPorts gives a host ports of its own when all its addresses are occupied, as by a program that listens on
// every address, and on systems with one loopback address.
func TestOtherPorts(t *testing.T) {
	busy := netip.MustParseAddr("127.0.0.2")
	listen(t, busy.String(), standardPorts.Client)
	l := testLeases(t)
	l.addressing[0] = func(string) iter.Seq[endpoint] {
		return func(yield func(endpoint) bool) {
			for yield(endpoint{address: busy}) {
			}
		}
	}
	dirs := hostDirs(t, 2)
	first, err := l.acquire(t.Context(), dirs[0], "seed")
	if err != nil {
		t.Fatal(err)
	}
	second, err := l.acquire(t.Context(), dirs[1], "seed")
	if err != nil {
		t.Fatal(err)
	}
	if first.ports.API < firstPort || second.ports.API < firstPort || first == second {
		t.Errorf("leased %v and %v", first, second)
	}
	l.addressing = l.addressing[:1]
	if _, err := l.acquire(t.Context(), t.TempDir(), "seed"); !errors.Is(err, providers.ErrConflict) {
		t.Errorf("nothing to be had: %v", err)
	}
}

// TestSharedAddressHost makes a host as on systems with one loopback address.
func TestSharedAddressHost(t *testing.T) {
	p := testProvider(t, shortDir(t))
	p.leases.addressing = p.leases.addressing[1:]
	instance, h := create(t, p, request("web-1", nil))
	if instance.Addresses[0].String() != "127.0.0.1" || instance.Ports.API < firstPort || instance.Ports.Peer != instance.Ports.API+2 {
		t.Errorf("instance %+v", instance)
	}
	stop(t, p, h)
	if err := p.Start(t.Context(), instance); err != nil {
		t.Fatal(err)
	}
	list, err := p.List(t.Context(), testCluster)
	if err != nil || list[0].State != providers.StateRunning || list[0].Ports != instance.Ports {
		t.Errorf("after a start: %v, %v", list, err)
	}
}

func TestForeignLeaseDirectoryIsRefused(t *testing.T) {
	l := testLeases(t)
	if err := os.Symlink(t.TempDir(), l.dir); err != nil {
		t.Fatal(err)
	}
	if _, err := l.acquire(t.Context(), t.TempDir(), "seed"); !errors.Is(err, providers.ErrConflict) {
		t.Errorf("a link in the place of the directory: %v", err)
	}
}

// TestAddressStays gives a host that is made again, or replaced, the address that it had.
func TestAddressStays(t *testing.T) {
	p := testProvider(t, shortDir(t))
	req := request("web-1", nil)
	first, _ := create(t, p, req)
	if err := p.Destroy(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	req.Generation = 2
	if second, _ := create(t, p, req); second.Addresses[0] != first.Addresses[0] {
		t.Errorf("address %v, want %v", second.Addresses, first.Addresses)
	}
}
