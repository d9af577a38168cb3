package dhcp

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/musterhq/muster/providers/metal/netboot"
)

// Platform is what a loader is built for.
type Platform struct {
	Arch     netboot.Arch
	Firmware netboot.Firmware
}

// Config says what a responder answers.
type Config struct {
	Server  netip.Addr          // of this service, IPv4: server identifier and next server
	HTTP    string              // URL of this service for scripts and files, without a path
	Loaders map[Platform]string // names of iPXE's files for TFTP, and below FilesPath for HTTP
	Network *Network            // what is leased; nil makes a ProxyDHCP
}

// FilesPath is where the service has the loaders for firmwares that load by HTTP.
const FilesPath = "/files/"

// Network is what an authoritative server hands out.
type Network struct {
	Prefix      netip.Prefix // IPv4, holds all of the addresses below but DNS
	First, Last netip.Addr   // the pool
	Router      netip.Addr   // may be zero
	DNS         []netip.Addr
	Lease       time.Duration // whole seconds, at least a minute
}

// maxPool bounds what is kept of leases.
const maxPool = 1 << 16

// Validate tells what is wrong with a configuration.
func (c Config) Validate() error {
	base, err := url.Parse(c.HTTP)
	if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Host == "" || base.Path != "" || base.RawQuery != "" {
		return fmt.Errorf("cannot tell machines to boot from %q: it is to be an http or https URL without a path", c.HTTP)
	}
	if !c.Server.Is4() {
		return fmt.Errorf("cannot serve DHCP from %s: it is to be an IPv4 address", c.Server)
	}
	for platform, name := range c.Loaders {
		if name == "" || len(name) > 127 || strings.ContainsAny(name, "/ ?#%") {
			return fmt.Errorf("cannot offer %q for %s with %s: it is to be the name of a file", name, platform.Arch, platform.Firmware)
		}
	}
	if c.Network == nil {
		return nil
	}
	return c.Network.validate(c.Server)
}

func (n Network) validate(server netip.Addr) error {
	if !n.Prefix.Addr().Is4() {
		return fmt.Errorf("cannot lease addresses of %s: it is to be an IPv4 network", n.Prefix)
	}
	addresses := []netip.Addr{server, n.First, n.Last}
	if n.Router.IsValid() {
		addresses = append(addresses, n.Router)
	}
	for _, addr := range addresses {
		if !n.Prefix.Contains(addr) {
			return fmt.Errorf("cannot lease addresses of %s: %s lies outside", n.Prefix, addr)
		}
	}
	for _, addr := range n.DNS {
		if !addr.Is4() {
			return fmt.Errorf("cannot name %s as a DNS server: it is to be an IPv4 address", addr)
		}
	}
	pool := &leases{first: n.First, last: n.Last}
	switch size := distance(n.First, n.Last) + 1; {
	case size < 1 || size > maxPool:
		return fmt.Errorf("cannot lease %s to %s: a pool has 1 to %d addresses", n.First, n.Last, maxPool)
	case pool.contains(server) || n.Router.IsValid() && pool.contains(n.Router):
		return fmt.Errorf("cannot lease %s to %s: the server or the router lies within", n.First, n.Last)
	case n.Lease < time.Minute || n.Lease%time.Second != 0:
		return fmt.Errorf("cannot lease addresses for %s: a lease is whole seconds and at least a minute", n.Lease)
	}
	return nil
}
