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
	const reply, stream, ok, failed, more = 1, 3, 0, 1, 2
	kept := [][]byte{
		packet(reply, 7, ok, ""), packet(stream, 7, more, "some"), packet(reply, 8, ok, "other"), packet(stream, 7, more, ""),
		packet(reply, 9, ok, ""), packet(stream, 9, failed, "why"), packet(reply, 10, ok, "end"),
	}
	dropped := map[int][][]byte{3: {packet(stream, 7, more, ""), packet(stream, 7, ok, "")}, 5: {packet(stream, 9, failed, "again")}}
	ours, theirs := net.Pipe()
	written := make(chan struct{})
	go func() {
		defer close(written)
		for i, each := range kept {
			_, _ = theirs.Write(each)
			for _, extra := range dropped[i] {
				_, _ = theirs.Write(extra)
			}
		}
		_ = theirs.Close()
	}()
	got, err := io.ReadAll(newFrames(ours))
	<-written
	if want := bytes.Join(kept, nil); err != nil || !bytes.Equal(got, want) {
		t.Errorf("read %q, %v, want %q", got, err, want)
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
