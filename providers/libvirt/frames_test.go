package libvirt

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"testing"
)

// packet renders a packet of libvirt's protocol.
func packet(kind, serial, status uint32, payload string) []byte {
	data := make([]byte, packetHead, packetHead+len(payload))
	for i, value := range []uint32{uint32(packetHead + len(payload)), 0x20008086, 1, 208, kind, serial, status} {
		binary.BigEndian.PutUint32(data[4*i:], value)
	}
	return append(data, payload...)
}

func TestFrames(t *testing.T) {
	const event, ok, failed, more = 2, 0, 1, 2
	for _, tt := range []struct {
		name      string
		sent, got [][]byte
	}{
		{
			name: "in order",
			sent: [][]byte{packet(typeReply, 7, ok, ""), packet(typeStream, 7, more, "some"), packet(event, 0, ok, "e"), packet(typeStream, 7, more, "")},
			got:  [][]byte{packet(typeReply, 7, ok, ""), packet(typeStream, 7, more, "some"), packet(event, 0, ok, "e"), packet(typeStream, 7, more, "")},
		}, {
			name: "the reply last",
			sent: [][]byte{packet(typeStream, 7, more, "some"), packet(typeReply, 6, ok, "x"), packet(typeStream, 7, more, ""), packet(typeReply, 7, ok, "")},
			got:  [][]byte{packet(typeReply, 6, ok, "x"), packet(typeReply, 7, ok, ""), packet(typeStream, 7, more, "some"), packet(typeStream, 7, more, "")},
		}, {
			name: "more after the end",
			sent: [][]byte{packet(typeReply, 7, ok, ""), packet(typeStream, 7, failed, "why"), packet(typeStream, 7, more, ""), packet(typeReply, 8, ok, "")},
			got:  [][]byte{packet(typeReply, 7, ok, ""), packet(typeStream, 7, failed, "why"), packet(typeReply, 8, ok, "")},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ours, theirs := net.Pipe()
			written := make(chan struct{})
			go func() {
				defer close(written)
				_, _ = theirs.Write(bytes.Join(tt.sent, nil))
				_ = theirs.Close()
			}()
			got, err := io.ReadAll(newFrames(ours))
			<-written
			if want := bytes.Join(tt.got, nil); err != nil || !bytes.Equal(got, want) {
				t.Errorf("read %q, %v, want %q", got, err, want)
			}
		})
	}
}

func TestFramesRefuseNonsense(t *testing.T) {
	for _, length := range []uint32{0, packetHead - 1, packetMax + 1} {
		ours, theirs := net.Pipe()
		head := make([]byte, packetHead)
		binary.BigEndian.PutUint32(head, length)
		written := make(chan struct{})
		go func() {
			defer close(written)
			_, _ = theirs.Write(head)
		}()
		if _, err := newFrames(ours).Read(make([]byte, 1)); err == nil {
			t.Errorf("a packet of %d bytes passes", length)
		}
		_ = ours.Close()
		<-written
	}
}
