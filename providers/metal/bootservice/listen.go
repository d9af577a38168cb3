package bootservice

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv4/server4"

	"github.com/musterhq/muster/providers/metal/dhcp"
)

const tftpPort = 69

// Listen opens the sockets of a service on an interface. address is one of its IPv4 addresses, and httpPort the port of
// the configuration's URL. It takes root or CAP_NET_BIND_SERVICE and CAP_NET_RAW.
func Listen(ctx context.Context, device string, address netip.Addr, httpPort uint16) (sockets Sockets, err error) {
	defer func() {
		if err != nil {
			sockets.close()
			sockets = Sockets{}
		}
	}()
	// Broadcasts reach only a socket of no address, so the interface bounds what these two hear.
	if sockets.DHCP, err = server4.NewIPv4UDPConn(device, &net.UDPAddr{Port: dhcp.ServerPort}); err != nil {
		return sockets, fmt.Errorf("cannot listen for DHCP on %s: %w; run it as root", device, err)
	}
	if sockets.BINL, err = server4.NewIPv4UDPConn(device, &net.UDPAddr{Port: dhcp.BINLPort}); err != nil {
		return sockets, fmt.Errorf("cannot listen for PXE on %s: %w", device, err)
	}
	sockets.TFTP, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(address, tftpPort)))
	if err != nil {
		return sockets, fmt.Errorf("cannot listen for TFTP: %w; stop the other TFTP server, or choose another address", err)
	}
	var config net.ListenConfig
	sockets.HTTP, err = config.Listen(ctx, "tcp4", netip.AddrPortFrom(address, httpPort).String())
	if err != nil {
		return sockets, fmt.Errorf("cannot listen for HTTP: %w; choose another port", err)
	}
	return sockets, nil
}

// close closes what Listen has opened before it failed. Nothing was served yet, so errors tell nothing.
func (s Sockets) close() {
	for _, conn := range []*net.UDPConn{s.DHCP, s.BINL, s.TFTP} {
		if conn != nil {
			_ = conn.Close()
		}
	}
}
