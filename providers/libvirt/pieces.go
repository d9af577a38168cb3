package libvirt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
)

// An upload is written as pieces: holes, which take a few bytes of the connection and none of the disk, and the data
// between them. go-libvirt has no holes. It sends one packet for whatever a reader gives it at once, so the reader gives
// pieces, each with a byte before it that says of which kind it is, and the connection makes libvirt's packets of them.
const (
	pieceData = 0 // the bytes that follow
	pieceHole = 1 // a number of zeros, in 8 bytes
)

const (
	pieceBlock = 64 << 10           // zeros are looked for in blocks of this size
	pieceMin   = 1 + 8              // a hole
	holeMax    = 1 << 30            // zeros are sent before more of them are read, since reading takes time
	holeHead   = packetHead + 8 + 4 // length and flags (virNetStreamHole in virnetprotocol.x of libvirt)
)

// pieces reads data as pieces. Without holes, zeros are data too.
type pieces struct {
	data  io.Reader
	holes bool

	buffer []byte
	block  []byte // what was read and not yet given
	zero   bool   // whether block is nothing but zeros
	err    error
}

func newPieces(data io.Reader, holes bool) *pieces {
	return &pieces{data: data, holes: holes, buffer: make([]byte, pieceBlock)}
}

// Read gives one piece. There must be room for a block.
func (p *pieces) Read(to []byte) (int, error) {
	if len(to) < 1+pieceBlock {
		return 0, io.ErrShortBuffer
	}
	hole := 0
	for p.fill() && p.zero && hole < holeMax {
		hole += len(p.block)
		p.block = nil
	}
	if hole > 0 {
		to[0] = pieceHole
		binary.BigEndian.PutUint64(to[1:], uint64(hole))
		return pieceMin, nil
	}
	n := 1
	for p.fill() && !p.zero && n+len(p.block) <= len(to) {
		n += copy(to[n:], p.block)
		p.block = nil
	}
	if n == 1 {
		return 0, p.err
	}
	to[0] = pieceData
	return n, nil
}

// fill reads the next block unless there is one.
func (p *pieces) fill() bool {
	if len(p.block) == 0 && p.err == nil {
		var n int
		n, p.err = io.ReadFull(p.data, p.buffer)
		if errors.Is(p.err, io.ErrUnexpectedEOF) {
			p.err = io.EOF
		}
		p.block = p.buffer[:n]
		p.zero = p.holes && isZero(p.block)
	}
	return len(p.block) > 0
}

var zeros [pieceBlock]byte

// isZero tells whether a block is nothing but zeros.
func isZero(block []byte) bool { return bytes.Equal(block, zeros[:len(block)]) }

// sender makes libvirt's packets of pieces and passes everything else on. It takes packets in parts of any size.
type sender struct {
	conn net.Conn
	head []byte // of the packet that begins, as far as it has come
	rest int    // bytes of the packet that are to be passed on
}

// Write is called by one goroutine at a time, as go-libvirt does.
func (s *sender) Write(data []byte) (int, error) {
	var out net.Buffers
	for rest := data; len(rest) > 0; {
		if s.rest > 0 {
			n := min(s.rest, len(rest))
			out = append(out, rest[:n])
			s.rest, rest = s.rest-n, rest[n:]
			continue
		}
		n := min(headLength(s.head)-len(s.head), len(rest))
		s.head, rest = append(s.head, rest[:n]...), rest[n:]
		if len(s.head) == headLength(s.head) {
			out = append(out, s.begin())
		}
	}
	if _, err := out.WriteTo(s.conn); err != nil {
		return 0, err
	}
	return len(data), nil
}

// headLength is how much of a packet must be there to tell what becomes of it, as far as what is there tells.
func headLength(head []byte) int {
	switch {
	case len(head) < packetHead || !isPiece(head):
		return packetHead
	case len(head) > packetHead && head[packetHead] == pieceHole:
		return packetHead + pieceMin
	default:
		return packetHead + 1
	}
}

// isPiece tells whether a packet is a part of an upload, whose end has no payload.
func isPiece(head []byte) bool {
	return binary.BigEndian.Uint32(head[typeAt:]) == typeStream &&
		binary.BigEndian.Uint32(head[procedureAt:]) == procedureUpload &&
		binary.BigEndian.Uint32(head[statusAt:]) == statusMore &&
		binary.BigEndian.Uint32(head) > packetHead
}

// begin is the packet's head as libvirt takes it. What follows it is passed on.
func (s *sender) begin() []byte {
	head, length := s.head, int(binary.BigEndian.Uint32(s.head))
	s.head = nil
	s.rest = length - len(head)
	if len(head) == packetHead {
		return head
	}
	if head[packetHead] == pieceData {
		binary.BigEndian.PutUint32(head, uint32(length-1))
		return head[:packetHead]
	}
	hole := make([]byte, holeHead)
	copy(hole, head[:packetHead])
	binary.BigEndian.PutUint32(hole, holeHead)
	binary.BigEndian.PutUint32(hole[typeAt:], typeHole)
	copy(hole[packetHead:], head[packetHead+1:])
	return hole
}
