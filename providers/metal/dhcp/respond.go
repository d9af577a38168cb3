package dhcp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/musterhq/muster/providers/metal/netboot"
)

// The ports of the protocol. A boot service listens on the first two.
const (
	ServerPort = 67   // RFC 2131
	BINLPort   = 4011 // PXE 2.1, where UEFI asks a ProxyDHCP for its file
	clientPort = 68
)

// ErrNoAnswer is wrapped when a packet gets no answer; the text says why. Most of them are for other servers.
var ErrNoAnswer = errors.New("no answer")

// Answer is a packet to send.
type Answer struct {
	Packet *dhcpv4.DHCPv4
	To     netip.AddrPort
	File   string // that the client was told to load, empty for none
}

// Responder answers packets. It is not safe for concurrent use.
type Responder struct {
	config Config
	leases *leases // nil in a ProxyDHCP
}

// New returns a responder that has leased nothing.
func New(config Config) (*Responder, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	r := &Responder{config: config}
	if n := config.Network; n != nil {
		r.leases = newLeases(n.First, n.Last)
	}
	return r, nil
}

// Answer answers a packet that came to a port, ServerPort or BINLPort, from a source, at a time. The packet's hardware
// address and transaction are the answer's.
func (r *Responder) Answer(p *dhcpv4.DHCPv4, port uint16, source netip.AddrPort, now time.Time) (Answer, error) {
	if err := check(p); err != nil {
		return Answer{}, err
	}
	c := classify(p)
	switch {
	case port == BINLPort:
		return r.binl(p, c, source)
	case r.leases == nil:
		return r.proxy(p, c)
	case p.GatewayIPAddr != nil && !p.GatewayIPAddr.IsUnspecified() && !r.config.Network.Prefix.Contains(address(p.GatewayIPAddr)):
		return Answer{}, fmt.Errorf("%w: it was relayed from another network", ErrNoAnswer)
	}
	return r.lease(p, c, now)
}

// proxy offers a file and no address. A UEFI PXE client is told only that a service is here, as some firmwares ignore
// more: it comes to BINLPort for the file's name then.
func (r *Responder) proxy(p *dhcpv4.DHCPv4, c client) (Answer, error) {
	if p.MessageType() != dhcpv4.MessageTypeDiscover {
		return Answer{}, fmt.Errorf("%w: a ProxyDHCP leaves %s to the server", ErrNoAnswer, p.MessageType())
	}
	if c.loader == system {
		return Answer{}, fmt.Errorf("%w: it does not boot over the network", ErrNoAnswer)
	}
	file, err := r.file(c)
	if err != nil {
		return Answer{}, err
	}
	reply, err := r.reply(p, dhcpv4.MessageTypeOffer)
	if err != nil {
		return Answer{}, err
	}
	if c.loader == pxe && c.Firmware == netboot.UEFI {
		file = ""
		reply.UpdateOption(dhcpv4.OptClassIdentifier("PXEClient"))
	} else {
		r.boot(reply, c, file)
	}
	return Answer{reply, destination(p, reply), file}, nil
}

// binl answers a PXE client that asks the boot service itself.
func (r *Responder) binl(p *dhcpv4.DHCPv4, c client, source netip.AddrPort) (Answer, error) {
	if t := p.MessageType(); t != dhcpv4.MessageTypeRequest && t != dhcpv4.MessageTypeInform {
		return Answer{}, fmt.Errorf("%w: %s came to the port for files", ErrNoAnswer, t)
	}
	if c.loader != pxe && c.loader != ipxe {
		return Answer{}, fmt.Errorf("%w: it does not boot by PXE", ErrNoAnswer)
	}
	if addr := source.Addr(); !addr.Is4() || addr.IsUnspecified() || addr.IsMulticast() {
		return Answer{}, fmt.Errorf("%w: it has no address yet", ErrNoAnswer)
	}
	file, err := r.file(c)
	if err != nil {
		return Answer{}, err
	}
	reply, err := r.reply(p, dhcpv4.MessageTypeAck)
	if err != nil {
		return Answer{}, err
	}
	reply.ClientIPAddr = p.ClientIPAddr
	r.boot(reply, c, file)
	return Answer{reply, source, file}, nil
}

// lease is the whole of RFC 2131's server.
func (r *Responder) lease(p *dhcpv4.DHCPv4, c client, now time.Time) (Answer, error) {
	holder := mac(p.ClientHWAddr)
	switch t := p.MessageType(); t {
	case dhcpv4.MessageTypeDiscover:
		addr, ok := r.leases.offer(holder, address(p.RequestedIPAddress()), now)
		if !ok {
			return Answer{}, fmt.Errorf("%w: all %d addresses are leased; widen the pool", ErrNoAnswer, r.leases.size)
		}
		return r.grant(p, c, dhcpv4.MessageTypeOffer, addr)
	case dhcpv4.MessageTypeRequest:
		return r.request(p, c, holder, now)
	case dhcpv4.MessageTypeInform:
		return r.grant(p, c, dhcpv4.MessageTypeAck, netip.Addr{})
	case dhcpv4.MessageTypeDecline:
		r.leases.decline(holder, address(p.RequestedIPAddress()), now)
		return Answer{}, fmt.Errorf("%w: %s is in use by somebody else", ErrNoAnswer, p.RequestedIPAddress())
	case dhcpv4.MessageTypeRelease:
		r.leases.release(holder, address(p.ClientIPAddr))
		return Answer{}, fmt.Errorf("%w: %s is given back", ErrNoAnswer, p.ClientIPAddr)
	default:
		return Answer{}, fmt.Errorf("%w: it is a %s", ErrNoAnswer, t)
	}
}

// request grants or refuses an address that was offered, is held, or was held before this service began.
func (r *Responder) request(p *dhcpv4.DHCPv4, c client, holder mac, now time.Time) (Answer, error) {
	chosen := p.ServerIdentifier()
	if chosen != nil && address(chosen) != r.config.Server {
		if own, ok := r.leases.of[holder]; ok {
			r.leases.release(holder, own)
		}
		return Answer{}, fmt.Errorf("%w: it took the offer of %s", ErrNoAnswer, chosen)
	}
	addr := address(p.RequestedIPAddress())
	if !addr.IsValid() {
		addr = address(p.ClientIPAddr)
	}
	if r.leases.bind(holder, addr, now.Add(r.config.Network.Lease), now) {
		return r.grant(p, c, dhcpv4.MessageTypeAck, addr)
	}
	reply, err := r.reply(p, dhcpv4.MessageTypeNak)
	if err != nil {
		return Answer{}, err
	}
	return Answer{Packet: reply, To: destination(p, reply)}, nil
}

// grant answers with an address, unless it is zero, with the network's options, and with a file to clients that load one.
func (r *Responder) grant(p *dhcpv4.DHCPv4, c client, t dhcpv4.MessageType, addr netip.Addr) (Answer, error) {
	reply, err := r.reply(p, t)
	if err != nil {
		return Answer{}, err
	}
	n := r.config.Network
	if addr.IsValid() {
		reply.YourIPAddr = addr.AsSlice()
		reply.UpdateOption(dhcpv4.OptIPAddressLeaseTime(n.Lease))
	}
	if t == dhcpv4.MessageTypeAck {
		reply.ClientIPAddr = p.ClientIPAddr
	}
	reply.UpdateOption(dhcpv4.OptSubnetMask(net.CIDRMask(n.Prefix.Bits(), 32)))
	if n.Router.IsValid() {
		reply.UpdateOption(dhcpv4.OptRouter(n.Router.AsSlice()))
	}
	var servers []net.IP
	for _, server := range n.DNS {
		servers = append(servers, server.AsSlice())
	}
	if servers != nil {
		reply.UpdateOption(dhcpv4.OptDNS(servers...))
	}
	file := ""
	if c.loader != system {
		// A machine that cannot be booted from here still gets its address: it may boot from elsewhere.
		if file, err = r.file(c); err == nil {
			r.boot(reply, c, file)
		}
	}
	return Answer{reply, destination(p, reply), file}, nil
}

// file returns what a client is to load: a script for iPXE, and iPXE for everything else.
func (r *Responder) file(c client) (string, error) {
	if c.Arch == "" {
		return "", fmt.Errorf("%w: its architecture cannot be booted", ErrNoAnswer)
	}
	if c.loader == ipxe {
		return netboot.ScriptURL(r.config.HTTP, c.Request), nil
	}
	name, ok := r.config.Loaders[Platform{c.Arch, c.Firmware}]
	switch {
	case !ok:
		return "", fmt.Errorf("%w: there is no iPXE for %s with %s", ErrNoAnswer, c.Arch, c.Firmware)
	case c.loader == web:
		return r.config.HTTP + FilesPath + name, nil
	}
	return name, nil
}
