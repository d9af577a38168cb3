package bootservice

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// maxPacket is more than any client sends: they fit into an Ethernet's frame.
const maxPacket = 4 << 10

// serveDHCP answers what comes to a socket of a port, one packet after the other.
func (s *Service) serveDHCP(ctx context.Context, conn *net.UDPConn, port uint16) error {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	defer conn.Close()
	buffer := make([]byte, maxPacket)
	for {
		n, source, err := conn.ReadFromUDPAddrPort(buffer)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("cannot serve DHCP: %w", err)
		case err != nil: // of an earlier answer's ICMP: nothing that the next packet minds
			s.config.Log.Debug("cannot read a DHCP packet", "error", err)
			continue
		}
		s.answer(conn, port, netip.AddrPortFrom(source.Addr().Unmap(), source.Port()), buffer[:n])
	}
}

func (s *Service) answer(conn *net.UDPConn, port uint16, source netip.AddrPort, packet []byte) {
	log := s.config.Log.With("source", source)
	request, err := dhcpv4.FromBytes(packet)
	if err != nil {
		log.Debug("cannot read a DHCP packet", "error", err)
		return
	}
	log = log.With("mac", request.ClientHWAddr, "type", request.MessageType())
	s.mu.Lock()
	answer, err := s.responder.Answer(request, port, source, time.Now())
	s.mu.Unlock()
	if err != nil {
		log.Debug("no DHCP answer", "reason", err)
		return
	}
	log.Info("DHCP", "answer", answer.Packet.MessageType(), "address", answer.Packet.YourIPAddr, "file", answer.File)
	if _, err := conn.WriteToUDPAddrPort(answer.Packet.ToBytes(), answer.To); err != nil {
		log.Warn("cannot send a DHCP answer", "to", answer.To, "error", err)
	}
}
