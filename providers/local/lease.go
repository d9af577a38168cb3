package local

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"iter"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"syscall"

	"github.com/musterhq/muster/providers"
	"github.com/musterhq/muster/providers/crashsafe"
)

// endpoint is where a host listens. Ports that are zero are the standard ones.
type endpoint struct {
	address netip.Addr
	ports   providers.Ports
}

// standardPorts are those that zero stands for.
var standardPorts = providers.Ports{API: 7400, Client: 2379, Peer: 2380}

// ownPorts are the ports of a host that has an address of this machine's loopback network to itself. Port 2379 of it is for
// the programs of the host, as it is at 127.0.0.1 of other hosts, so voters serve each other at another one.
var ownPorts = providers.Ports{Client: 2381}

// name is the lease's file name.
func (e endpoint) name() string {
	if e.ports.API == 0 {
		return e.address.String()
	}
	return netip.AddrPortFrom(e.address, uint16(e.ports.API)).String()
}

// busyPort returns a port of the endpoint that some program listens on, or 0. A container has its address to itself.
func (e endpoint) busyPort(ctx context.Context) (int, error) {
	if !e.address.IsLoopback() {
		return 0, nil
	}
	for _, port := range []int{
		cmp.Or(e.ports.API, standardPorts.API), cmp.Or(e.ports.Client, standardPorts.Client),
		cmp.Or(e.ports.Peer, standardPorts.Peer),
	} {
		listener, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(e.address.String(), strconv.Itoa(port)))
		if errors.Is(err, syscall.EADDRINUSE) {
			return port, nil
		}
		if err != nil {
			return 0, fmt.Errorf("cannot use address %s: %w", e.address, err)
		}
		if err := listener.Close(); err != nil {
			return 0, err
		}
	}
	return 0, nil
}

// The space of addresses: 127.64.0.1 to 127.127.255.254, without those that end with 0 or 255 and may look like nets.
const (
	firstNet      = 64
	nets          = 64
	addressesEach = 256 * 254
	addresses     = nets * addressesEach
	// addressStep is prime to addresses, so that steps of it pass through all.
	addressStep = 7_919
)

// ownAddresses yields every address of the space, in an order that follows from seed.
func ownAddresses(seed string) iter.Seq[endpoint] {
	return func(yield func(endpoint) bool) {
		at := int(hashOf(seed) % addresses)
		for range addresses {
			low := at % addressesEach
			address := netip.AddrFrom4([4]byte{
				127, firstNet + byte(at/addressesEach), byte(low / 254), 1 + byte(low%254),
			})
			if !yield(endpoint{address: address, ports: ownPorts}) {
				return
			}
			at = (at + addressStep) % addresses
		}
	}
}

// Blocks of ports at 127.0.0.1, below the ports that systems give to outgoing connections.
const (
	firstPort  = 20_000
	portsEach  = 10
	portBlocks = 1_000
	// blockStep is prime to portBlocks.
	blockStep = 37
)

// sharedAddress yields blocks of ports at the one loopback address that every system has.
func sharedAddress(seed string) iter.Seq[endpoint] {
	return func(yield func(endpoint) bool) {
		at := int(hashOf(seed) % portBlocks)
		for range portBlocks {
			port := firstPort + portsEach*at
			e := endpoint{address: netip.AddrFrom4([4]byte{127, 0, 0, 1}), ports: providers.Ports{API: port, Client: port + 1, Peer: port + 2}}
			if !yield(e) {
				return
			}
			at = (at + blockStep) % portBlocks
		}
	}
}

// networkAddresses yields the addresses of a network that hosts may have: neither the network's own, nor the gateway's,
// which is the first, nor the one for broadcasts, which is the last.
func networkAddresses(network netip.Prefix) func(seed string) iter.Seq[endpoint] {
	base := binary.BigEndian.Uint32(network.Addr().AsSlice())
	count := uint64(1)<<(32-network.Bits()) - 3
	return func(seed string) iter.Seq[endpoint] {
		return func(yield func(endpoint) bool) {
			first := hashOf(seed)
			for i := range count {
				var ip [4]byte
				binary.BigEndian.PutUint32(ip[:], base+2+uint32((first+i)%count))
				if !yield(endpoint{address: netip.AddrFrom4(ip)}) {
					return
				}
			}
		}
	}
}

func hashOf(seed string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(seed)) // never fails
	return h.Sum64()
}

// maxBusy is after how many addresses whose ports others listen on a program is suspected that listens on all.
const maxBusy = 16

// leaseDir is the machine-wide directory of one user's leases. A lease is a symbolic link, named after the endpoint, to
// the directory of the host that has it; one whose directory is gone is free.
type leaseDir struct {
	dir        string
	addressing []func(seed string) iter.Seq[endpoint] // tried in order
	exhausted  string                                 // what it means that there is none left
}

// of returns the same leases for a host: those of its own network for a container.
func (l leaseDir) of(h host) leaseDir {
	if h.Container != nil {
		l.addressing = []func(string) iter.Seq[endpoint]{networkAddresses(h.Container.Network)}
		l.exhausted = fmt.Sprintf("hosts have all addresses of %s; set `network:` to a wider one", h.Container.Network)
	}
	return l
}

// anyIn tells whether some host has an address of a network. The caller holds the lock.
func (l leaseDir) anyIn(network netip.Prefix) bool {
	entries, _ := os.ReadDir(l.dir)
	return slices.ContainsFunc(entries, func(entry os.DirEntry) bool {
		address, err := netip.ParseAddr(entry.Name())
		return err == nil && network.Contains(address) && l.holder(endpoint{address: address}) != ""
	})
}

// machineLeases returns the leases of this user on this machine.
func machineLeases() leaseDir {
	l := leaseDir{
		dir:        filepath.Join(os.TempDir(), fmt.Sprintf("muster-local-%d", os.Getuid())),
		addressing: []func(string) iter.Seq[endpoint]{ownAddresses, sharedAddress},
		exhausted: fmt.Sprintf("other programs listen on ports %d, %d or %d of every address, and on every block of ports from %d",
			standardPorts.API, ownPorts.Client, standardPorts.Peer, firstPort),
	}
	if runtime.GOOS != "linux" { // where 127.0.0.1 is the only loopback address
		l.addressing = l.addressing[1:]
	}
	return l
}

// acquire leases the first endpoint in seed's order that nobody has and on whose ports nobody listens; the one that
// hostDir has already, if any.
func (l leaseDir) acquire(ctx context.Context, hostDir, seed string) (endpoint, error) {
	var got endpoint
	err := l.locked(ctx, func() (err error) {
		for _, endpoints := range l.addressing {
			if got, err = l.first(ctx, endpoints(seed), hostDir); err != nil || got != (endpoint{}) {
				return err
			}
		}
		return fmt.Errorf("%s: %w", l.exhausted, providers.ErrConflict)
	})
	return got, err
}

// first leases the first of endpoints that is to be had, or none.
func (l leaseDir) first(ctx context.Context, endpoints iter.Seq[endpoint], hostDir string) (endpoint, error) {
	busy := 0
	for e := range endpoints {
		holder := l.holder(e)
		if holder == hostDir {
			return e, nil
		}
		if holder != "" {
			continue
		}
		port, err := e.busyPort(ctx)
		if err != nil {
			return endpoint{}, err
		}
		if port == 0 {
			return e, l.take(e, hostDir)
		}
		if busy++; busy == maxBusy {
			break
		}
	}
	return endpoint{}, nil
}

// holder is the directory that has an endpoint, "" when it is free.
func (l leaseDir) holder(e endpoint) string {
	target, err := os.Readlink(filepath.Join(l.dir, e.name()))
	if err != nil {
		return ""
	}
	if _, err := os.Lstat(target); errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	return target
}

// take replaces whatever lease is left of the endpoint. The caller holds the lock.
func (l leaseDir) take(e endpoint, hostDir string) error {
	path := filepath.Join(l.dir, e.name())
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Symlink(hostDir, path)
}

// keep makes sure that a host that is about to start again still has its endpoint: its lease may have been tidied away
// with the temporary directory.
func (l leaseDir) keep(ctx context.Context, e endpoint, hostDir string) error {
	return l.locked(ctx, func() error {
		if other := l.holder(e); other != "" && other != hostDir {
			return fmt.Errorf("its address %s now belongs to %s: %w", e.name(), other, providers.ErrConflict)
		}
		port, err := e.busyPort(ctx)
		if err == nil && port != 0 {
			err = fmt.Errorf("another program listens on port %d of its address %s: %w", port, e.address, providers.ErrConflict)
		}
		if err != nil {
			return err
		}
		return l.take(e, hostDir)
	})
}

// release gives up what a directory that is gone had.
func (l leaseDir) release(ctx context.Context, hostDir string) error {
	return l.removeIf(ctx, func(target string) bool { return target == hostDir })
}

// tidy removes the leases of directories that are gone, and the leases' own directory when it is empty.
func (l leaseDir) tidy(ctx context.Context) error {
	return l.removeIf(ctx, func(target string) bool {
		_, err := os.Lstat(target)
		return errors.Is(err, fs.ErrNotExist)
	})
}

func (l leaseDir) removeIf(ctx context.Context, match func(target string) bool) error {
	if _, err := os.Lstat(l.dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	err := l.locked(ctx, func() error {
		entries, err := os.ReadDir(l.dir)
		for _, entry := range entries {
			path := filepath.Join(l.dir, entry.Name())
			if target, readErr := os.Readlink(path); readErr == nil && match(target) {
				err = errors.Join(err, os.Remove(path))
			}
		}
		return err
	})
	_ = os.Remove(l.dir) // when it is empty
	return err
}

// locked runs fn while no other process changes leases. The lock's file is removed, so that an unused directory is
// empty.
func (l leaseDir) locked(ctx context.Context, fn func() error) (err error) {
	if err := l.check(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	lock, err := crashsafe.Acquire(ctx, filepath.Join(l.dir, ".lock"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Remove()) }()
	if err := l.check(); err != nil {
		return err
	}
	return fn()
}

// check refuses a directory that somebody else put in this user's place.
func (l leaseDir) check() error {
	info, err := os.Lstat(l.dir)
	if err != nil {
		return err
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); !info.IsDir() || ok && int(stat.Uid) != os.Getuid() {
		return fmt.Errorf("%s is not a directory of this user: %w", l.dir, providers.ErrConflict)
	}
	return nil
}
