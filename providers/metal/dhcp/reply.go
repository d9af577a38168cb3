package dhcp

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// reply returns an answer of a type with what every answer has.
func (r *Responder) reply(p *dhcpv4.DHCPv4, t dhcpv4.MessageType) (*dhcpv4.DHCPv4, error) {
	server := net.IP(r.config.Server.AsSlice())
	reply, err := dhcpv4.NewReplyFromRequest(p,
		dhcpv4.WithMessageType(t),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(server)),
		// PXE 2.1, section 2.2.2: a client drops an answer that does not repeat its identifier.
		dhcpv4.WithOptionCopied(p, dhcpv4.OptionClientMachineIdentifier),
	)
	if err != nil {
		return nil, fmt.Errorf("cannot answer %s: %w", p.ClientHWAddr, err)
	}
	return reply, nil
}

// pxeOptions tell a PXE client to load the file of this packet at once: PXE_DISCOVERY_CONTROL with bit 3, no multicast,
// no menu (PXE 2.1, table 2-1).
var pxeOptions = []byte{6, 1, 8, 255}

// boot tells a client to load a file.
func (r *Responder) boot(reply *dhcpv4.DHCPv4, c client, file string) {
	reply.ServerIPAddr = r.config.Server.AsSlice()
	reply.UpdateOption(dhcpv4.OptBootFileName(file))
	if len(file) < 128 { // the header's field has room for this much, and old firmwares read nothing else
		reply.BootFileName = file
	}
	switch {
	case c.loader == web:
		// Without it a firmware that loads by HTTP passes the answer over: UEFI 2.10, section 24.7.3.1.
		reply.UpdateOption(dhcpv4.OptClassIdentifier("HTTPClient"))
	case r.leases == nil:
		reply.UpdateOption(dhcpv4.OptClassIdentifier("PXEClient"))
		reply.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionVendorSpecificInformation, pxeOptions))
	}
	if c.loader == pxe {
		reply.UpdateOption(dhcpv4.OptTFTPServerName(r.config.Server.String()))
	}
}

// destination is where RFC 2131, section 4.1, sends an answer. A client without an address is always broadcast to: it
// could not answer the ARP request that a unicast needs.
func destination(p, reply *dhcpv4.DHCPv4) netip.AddrPort {
	broadcast := netip.AddrPortFrom(netip.AddrFrom4([4]byte{255, 255, 255, 255}), clientPort)
	if relay := address(p.GatewayIPAddr); relay.IsValid() {
		return netip.AddrPortFrom(relay, ServerPort)
	}
	if own := address(p.ClientIPAddr); own.IsValid() && reply.MessageType() != dhcpv4.MessageTypeNak {
		return netip.AddrPortFrom(own, clientPort)
	}
	return broadcast
}

// address returns an IPv4 address that a host can have, or zero.
func address(ip net.IP) netip.Addr {
	addr, ok := netip.AddrFromSlice(ip)
	addr = addr.Unmap()
	if !ok || !addr.Is4() || addr.IsUnspecified() || addr.IsMulticast() || addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return netip.Addr{}
	}
	return addr
}
