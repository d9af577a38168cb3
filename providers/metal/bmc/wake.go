package bmc

import (
	"bytes"
	"context"
	"fmt"
	"net"

	"github.com/musterhq/muster/providers"
)

// Wake powers a machine on by Wake-on-LAN. That nobody wakes is no error, since nobody answers.
type Wake struct {
	MAC       net.HardwareAddr // of the interface that listens while the machine is off: six bytes
	Broadcast string           // address and port that the packet goes to, such as 10.0.0.255:9
}

// magicPacket is six bytes of ones and sixteen times the address (AMD, Magic Packet Technology, 1995).
func magicPacket(mac net.HardwareAddr) []byte {
	return append(bytes.Repeat([]byte{0xff}, 6), bytes.Repeat(mac, 16)...)
}

// PowerOn sends the packet.
func (w Wake) PowerOn(ctx context.Context) error {
	if len(w.MAC) != 6 {
		return fmt.Errorf("%w: cannot wake %q: it is to be the address of an Ethernet interface", providers.ErrInvalid, w.MAC)
	}
	var dialer net.Dialer // of UDP sockets, to which Go allows broadcasts
	conn, err := dialer.DialContext(ctx, "udp4", w.Broadcast)
	if err != nil {
		return fmt.Errorf("%w: cannot wake %s: %w", providers.ErrUnavailable, w.MAC, err)
	}
	defer conn.Close()
	if _, err := conn.Write(magicPacket(w.MAC)); err != nil {
		return fmt.Errorf("%w: cannot wake %s: %w", providers.ErrUnavailable, w.MAC, err)
	}
	return nil
}
