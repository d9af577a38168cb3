package libvirt

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
)

// frames is a connection to the daemon that puts the packets of streams into the order in which go-libvirt takes them.
//
// libvirtd may send the first packets of a download before its reply to the call that began it. go-libvirt would take
// the first for the reply, lose what it holds, take the reply for the end of the stream, and then wait forever, with its
// lock held, to hand on the next. So packets of a stream wait here until its reply has passed, and what comes after its
// end is dropped. What is sent passes through a sender.
//
// A packet is its length (4 bytes, itself included), program, version, procedure, type, serial number, status and payload
// (https://libvirt.org/kbase/internals/rpc.html).
type frames struct {
	net.Conn
	sender
	ready   bytes.Buffer // what is to be read
	streams map[int32]*stream
}

// stream is what is known of the packets of one serial number.
type stream struct {
	replied bool
	ended   bool
	early   [][]byte // packets that came before the reply
}

const (
	packetHead      = 28       // length and header
	packetMax       = 64 << 20 // more than libvirt's 32 MiB (VIR_NET_MESSAGE_MAX)
	procedureUpload = 208      // REMOTE_PROC_STORAGE_VOL_UPLOAD
	typeReply       = 1
	typeStream      = 3
	typeHole        = 6 // VIR_NET_STREAM_HOLE
	statusMore      = 2 // VIR_NET_CONTINUE; with an empty payload it is the end
	procedureAt     = 12
	typeAt          = 16
	serialAt        = 20
	statusAt        = 24
	lengthField     = 4
)

func newFrames(conn net.Conn) *frames {
	return &frames{Conn: conn, sender: sender{conn: conn}, streams: map[int32]*stream{}}
}

// Write sends packets. It is called by one goroutine at a time, as go-libvirt does.
func (f *frames) Write(data []byte) (int, error) { return f.sender.Write(data) }

// Read is called by one goroutine alone, as go-libvirt does.
func (f *frames) Read(data []byte) (int, error) {
	for f.ready.Len() == 0 {
		packet, err := readPacket(f.Conn)
		if err != nil {
			return 0, err
		}
		f.sort(packet)
	}
	return f.ready.Read(data)
}

func readPacket(r io.Reader) ([]byte, error) {
	var head [packetHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	length := binary.BigEndian.Uint32(head[:lengthField])
	if length < packetHead || length > packetMax {
		return nil, fmt.Errorf("libvirt sent a packet of %d bytes", length)
	}
	packet := make([]byte, length)
	copy(packet, head[:])
	_, err := io.ReadFull(r, packet[packetHead:])
	return packet, err
}

// sort decides when a packet is read, if ever.
func (f *frames) sort(packet []byte) {
	kind := binary.BigEndian.Uint32(packet[typeAt:])
	if kind != typeReply && kind != typeStream {
		f.ready.Write(packet) // an event
		return
	}
	serial := int32(binary.BigEndian.Uint32(packet[serialAt:]))
	s := f.streams[serial]
	if s == nil {
		s = &stream{}
		f.streams[serial] = s
	}
	switch {
	case kind == typeReply:
		s.replied = true
		f.ready.Write(packet)
		for _, early := range s.early {
			f.pass(s, early)
		}
		s.early = nil
	case !s.replied:
		s.early = append(s.early, packet)
	default:
		f.pass(s, packet)
	}
}

// pass hands a stream's packet on, unless the stream has ended.
func (f *frames) pass(s *stream, packet []byte) {
	if s.ended {
		return
	}
	s.ended = binary.BigEndian.Uint32(packet[statusAt:]) != statusMore || len(packet) == packetHead
	f.ready.Write(packet)
}
