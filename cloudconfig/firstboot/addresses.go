package firstboot

import (
	"context"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/musterhq/muster/cloudconfig"
	"github.com/musterhq/muster/cloudconfig/datasource"
)

// lookAgain is how often the interfaces are asked for addresses that are still missing.
const lookAgain = 250 * time.Millisecond

// commandsNetworkWait is how long commands are kept back while the host has no address.
const commandsNetworkWait = time.Minute

// addresses are those of the data source and, what it does not say, of the interfaces. It waits for those that are needed,
// and leaves it to the caller to say what is missing then.
func (b *boot) addresses(ctx context.Context, known cloudconfig.Addresses, needed []string) (cloudconfig.Addresses, error) {
	if b.Addresses == nil {
		return known, nil
	}
	if b.Operator && len(needed) > 0 {
		if data, err := datasource.Detect(ctx, b.Log, time.Nanosecond, b.Sources...); err == nil {
			known = data.Addresses
		}
	}
	all := known
	err := b.await(ctx, b.NetworkWait, func() (found bool, err error) {
		seen, err := b.Addresses()
		all = known.Or(datasource.Classify(seen))
		return !slices.ContainsFunc(needed, func(name string) bool { _, ok := all.Get(name); return !ok }), err
	})
	return all, err
}

// awaitNetwork waits for any address that reaches beyond a link: the commands of the first boot are started once, and
// most of them fetch something. A host that has no network runs them all the same, later.
func (b *boot) awaitNetwork(ctx context.Context) error {
	if b.Addresses == nil {
		return nil
	}
	return b.await(ctx, min(b.NetworkWait, commandsNetworkWait), func() (bool, error) {
		seen, err := b.Addresses()
		return slices.ContainsFunc(seen, netip.Addr.IsGlobalUnicast), err
	})
}

// await asks again and again until something is there, or wait has passed. It says when it has to wait, and for how long
// it may: whoever looks at the console sees why the host does nothing.
func (b *boot) await(ctx context.Context, wait time.Duration, there func() (bool, error)) error {
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	late := time.NewTimer(wait)
	defer late.Stop()
	for first := true; ; first = false {
		if found, err := there(); err != nil || found {
			return err
		}
		if first {
			b.Log.Info("waiting for the network to give this host an address", "at_most", wait)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-late.C:
			return nil
		case <-tick.C:
		}
	}
}

// madeByPrograms begin the names of interfaces that are not the host's own ways to the world.
var madeByPrograms = []string{"docker", "br-", "veth", "cni", "podman", "virbr", "vnet", "flannel", "cali", "wg", "tun", "tap", "muster"}

// interfaces are the addresses of the machine, those of the interface with the default route first.
func interfaces() ([]netip.Addr, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	routes, _ := os.ReadFile("/proc/net/route")
	first := defaultInterface(string(routes))
	slices.SortStableFunc(all, func(a, b net.Interface) int {
		switch {
		case a.Name == first && b.Name != first:
			return -1
		case b.Name == first && a.Name != first:
			return 1
		}
		return a.Index - b.Index
	})
	var found []netip.Addr
	for _, i := range all {
		skip := slices.ContainsFunc(madeByPrograms, func(p string) bool { return strings.HasPrefix(i.Name, p) })
		if skip || i.Flags&net.FlagUp == 0 || i.Flags&net.FlagLoopback != 0 {
			continue
		}
		addresses, err := i.Addrs()
		if err != nil {
			return nil, err
		}
		for _, a := range addresses {
			if prefix, err := netip.ParsePrefix(a.String()); err == nil {
				found = append(found, prefix.Addr())
			}
		}
	}
	return found, nil
}

// defaultInterface finds the interface of the default route in /proc/net/route: destination and mask are zero.
func defaultInterface(routes string) string {
	for line := range strings.Lines(routes) {
		if f := strings.Fields(line); len(f) >= 8 && f[1] == "00000000" && f[7] == "00000000" {
			return f[0]
		}
	}
	return ""
}
