package libvirt

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// block is one of data, or of zeros.
func block(fill byte) []byte { return bytes.Repeat([]byte{fill}, pieceBlock) }

func TestPieces(t *testing.T) {
	zero, x := block(0), block('x')
	for _, tt := range []struct {
		name  string
		data  [][]byte
		solid bool // the volume is not empty
		room  int  // blocks that one read takes, 8 by default
		want  string
	}{
		{name: "nothing", want: ""},
		{name: "data", data: [][]byte{x, x, []byte("end")}, want: "data 131075"},
		{name: "little room", data: [][]byte{x, x, []byte("end")}, room: 1, want: "data 65536, data 65536, data 3"},
		{name: "zeros", data: [][]byte{zero, zero, {0}}, want: "hole 131073"},
		{name: "a hole", data: [][]byte{x, zero, zero, x}, want: "data 65536, hole 131072, data 65536"},
		{name: "holes at the ends", data: [][]byte{zero, x, zero, {0, 0}}, want: "hole 65536, data 65536, hole 65538"},
		{name: "a zero more", data: [][]byte{x, zero, {0, 1}}, want: "data 65536, hole 65536, data 2"},
		{name: "zeros that are data", data: [][]byte{x, zero, x}, solid: true, want: "data 196608"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			data := bytes.Join(tt.data, nil)
			from := newPieces(iotest.HalfReader(bytes.NewReader(data)), !tt.solid)
			to := make([]byte, 1+pieceBlock*cmp.Or(tt.room, 8))
			var got []string
			var whole []byte
			for {
				n, err := from.Read(to)
				if errors.Is(err, io.EOF) && n == 0 {
					break
				}
				if err != nil || n == 0 {
					t.Fatalf("read %d bytes, %v", n, err)
				}
				if to[0] == pieceHole {
					length := binary.BigEndian.Uint64(to[1:n])
					got = append(got, fmt.Sprintf("hole %d", length))
					whole = append(whole, make([]byte, length)...)
				} else {
					got = append(got, fmt.Sprintf("data %d", n-1))
					whole = append(whole, to[1:n]...)
				}
			}
			if said := strings.Join(got, ", "); said != tt.want || !bytes.Equal(whole, data) {
				t.Errorf("got %s, want %s; the same bytes: %v", said, tt.want, bytes.Equal(whole, data))
			}
		})
	}
}

func TestPiecesEndWithTheirSource(t *testing.T) {
	broken := errors.New("broken")
	from := newPieces(io.MultiReader(bytes.NewReader(block('x')), iotest.ErrReader(broken)), true)
	to := make([]byte, 1+2*pieceBlock)
	if n, err := from.Read(to); n != 1+pieceBlock || err != nil {
		t.Errorf("read %d bytes, %v before the end", n, err)
	}
	if n, err := from.Read(to); n != 0 || !errors.Is(err, broken) {
		t.Errorf("read %d bytes, %v, want what the source says", n, err)
	}
	if _, err := from.Read(to[:pieceBlock]); !errors.Is(err, io.ErrShortBuffer) {
		t.Errorf("room for less than a block: %v", err)
	}
}

// written keeps what is written to a connection.
type written struct {
	net.Conn
	bytes.Buffer
}

func (w *written) Write(data []byte) (int, error) { return w.Buffer.Write(data) }

func (w *written) Read(data []byte) (int, error) { return w.Buffer.Read(data) }

func TestSender(t *testing.T) {
	const call, ok, failed = 0, 0, 1
	hole := string([]byte{pieceHole, 0, 0, 0, 0, 7, 8, 9, 10})
	sent := [][]byte{
		packet(call, 7, ok, "\x01begins"),
		packet(typeStream, 7, statusMore, "\x00some data"),
		packet(typeStream, 7, statusMore, hole),
		packet(typeStream, 8, statusMore, "\x00x"),
		packet(typeStream, 7, failed, "why"),
		packet(typeStream, 7, ok, ""),
		packet(call, 9, ok, ""),
	}
	download := packet(typeStream, 9, statusMore, "\x01as it is")
	binary.BigEndian.PutUint32(download[procedureAt:], procedureUpload+1)
	want := slices.Clone(sent)
	want[1] = packet(typeStream, 7, statusMore, "some data")
	want[2] = packet(typeHole, 7, statusMore, hole[1:]+"\x00\x00\x00\x00")
	want[3] = packet(typeStream, 8, statusMore, "x")
	sent, want = append(sent, download), append(want, download)
	all := bytes.Join(sent, nil)
	for size := 1; size <= len(all); size++ {
		var conn written
		s := sender{conn: &conn}
		for part := range slices.Chunk(all, size) {
			if n, err := s.Write(part); n != len(part) || err != nil {
				t.Fatalf("wrote %d of %d bytes, %v", n, len(part), err)
			}
		}
		if got := conn.Bytes(); !bytes.Equal(got, bytes.Join(want, nil)) {
			t.Fatalf("in parts of %d bytes:\n got %q\nwant %q", size, got, bytes.Join(want, nil))
		}
	}
}
