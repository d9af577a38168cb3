package installer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"unicode/utf16"
)

// Partition is one of a GUID partition table (UEFI 2.10, section 5.3).
type Partition struct {
	Number         int      // from 1
	Type, GUID     [16]byte // as they are on the disk
	Start, Sectors uint64   // of 512 bytes
	Label          string
}

const (
	sectorBytes = 512
	maxEntries  = 256
)

// espType is the type of EFI system partitions, C12A7328-F81F-11D2-BA4B-00A0C93EC93B.
var espType = [16]byte{0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b}

func isVar(p Partition) bool { return p.Label == "var" }

func isESP(p Partition) bool { return p.Type == espType }

func find(partitions []Partition, is func(Partition) bool) *Partition {
	for i := range partitions {
		if is(partitions[i]) {
			return &partitions[i]
		}
	}
	return nil
}

// ParseGPT reads the partition table in the first bytes of a disk of 512-byte sectors.
func ParseGPT(head []byte) ([]Partition, error) {
	if len(head) < 2*sectorBytes || !bytes.Equal(head[sectorBytes:sectorBytes+8], []byte("EFI PART")) {
		return nil, errors.New("it has no GUID partition table")
	}
	header := head[sectorBytes : 2*sectorBytes]
	size := binary.LittleEndian.Uint32(header[12:])
	if size < 92 || size > sectorBytes {
		return nil, errors.New("its partition table's header is of no size that is known")
	}
	summed := bytes.Clone(header[:size])
	clear(summed[16:20])
	if crc32.ChecksumIEEE(summed) != binary.LittleEndian.Uint32(header[16:]) {
		return nil, errors.New("its partition table is damaged")
	}
	at := binary.LittleEndian.Uint64(header[72:])
	count, each := uint64(binary.LittleEndian.Uint32(header[80:])), uint64(binary.LittleEndian.Uint32(header[84:]))
	if count > maxEntries || each < 128 || each > sectorBytes || at > headBytes/sectorBytes || at*sectorBytes+count*each > uint64(len(head)) {
		return nil, errors.New("its partition table is too large")
	}
	entries := head[at*sectorBytes : at*sectorBytes+count*each]
	if crc32.ChecksumIEEE(entries) != binary.LittleEndian.Uint32(header[88:]) {
		return nil, errors.New("its partition table is damaged")
	}
	var partitions []Partition
	for i := range count {
		if p := parseEntry(entries[i*each:]); p.Type != [16]byte{} {
			p.Number = int(i) + 1
			partitions = append(partitions, p)
		}
	}
	return partitions, nil
}

func parseEntry(entry []byte) Partition {
	p := Partition{Start: binary.LittleEndian.Uint64(entry[32:])}
	copy(p.Type[:], entry)
	copy(p.GUID[:], entry[16:])
	p.Sectors = binary.LittleEndian.Uint64(entry[40:]) - p.Start + 1
	var label []uint16
	for i := 56; i < 128; i += 2 {
		c := binary.LittleEndian.Uint16(entry[i:])
		if c == 0 {
			break
		}
		label = append(label, c)
	}
	p.Label = string(utf16.Decode(label))
	return p
}
