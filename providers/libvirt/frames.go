package libvirt

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
)

// frames is a connection to the daemon that drops what comes for a stream after its end. libvirtd says more than once
// that a download is at its end; go-libvirt, which has stopped to listen after the first time, would wait forever in the
// second with its lock held.
//
// A packet is its length (4 bytes, itself included), program, version, procedure, type, serial number, status and payload
// (https://libvirt.org/kbase/internals/rpc.html).
type frames struct {
	net.Conn
	ready bytes.Buffer   // what is to be read
	ended map[int32]bool // streams, by serial number
}

const (
	packetHead  = 28       // length and header
	packetMax   = 64 << 20 // more than libvirt's 32 MiB (VIR_NET_MESSAGE_MAX)
	typeStream  = 3
	statusMore  = 2 // VIR_NET_CONTINUE; with an empty payload it is the end
	typeAt      = 16
	serialAt    = 20
	statusAt    = 24
	lengthField = 4
)

func newFrames(conn net.Conn) *frames { return &frames{Conn: conn, ended: map[int32]bool{}} }

// Read is called by one goroutine alone, as go-libvirt does.
func (f *frames) Read(data []byte) (int, error) {
	for f.ready.Len() == 0 {
		if err := f.next(); err != nil {
			return 0, err
		}
	}
	return f.ready.Read(data)
}

// next reads a packet and keeps it, unless its stream has ended.
func (f *frames) next() error {
	var head [packetHead]byte
	if _, err := io.ReadFull(f.Conn, head[:]); err != nil {
		return err
	}
	length := binary.BigEndian.Uint32(head[:lengthField])
	if length < packetHead || length > packetMax {
		return fmt.Errorf("libvirt sent a packet of %d bytes", length)
	}
	drop := false
	if binary.BigEndian.Uint32(head[typeAt:]) == typeStream {
		serial := int32(binary.BigEndian.Uint32(head[serialAt:]))
		drop = f.ended[serial]
		if binary.BigEndian.Uint32(head[statusAt:]) != statusMore || length == packetHead {
			f.ended[serial] = true
		}
	}
	to := io.Writer(&f.ready)
	if drop {
		to = io.Discard
	} else {
		f.ready.Write(head[:])
	}
	_, err := io.CopyN(to, f.Conn, int64(length-packetHead))
	return err
}
