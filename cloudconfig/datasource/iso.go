package datasource

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf16"
)

// This reads as much of ISO 9660 as a seed needs: small files by path, from disks that may be broken or hostile. The
// library that writes our seeds is no reader for those: it recurses without end on a continuation area that contains
// itself, which nothing can recover from.

const (
	isoSector     = 2048
	isoFirst      = 16      // volume descriptor (ECMA-119 section 6.7.1)
	isoMost       = 16      // volume descriptors that are looked at
	isoMaxDir     = 1 << 20 // bytes of a directory
	isoPrimary    = 1
	isoSupplement = 2
	isoEnd        = 255
)

// isoVolume is an open ISO 9660 file system.
type isoVolume struct {
	r     io.ReaderAt
	label string
	roots []isoEntry // the primary tree, then Joliet's if there is one
}

// isoEntry is a directory record (ECMA-119 section 9.1).
type isoEntry struct {
	name         string
	offset, size int64 // in bytes
	directory    bool
	joliet       bool
}

var errNotISO = errors.New("it is not ISO 9660")

func openISO(r io.ReaderAt) (isoVolume, error) {
	v := isoVolume{r: r}
	for i := range int64(isoMost) {
		d, err := readSection(r, (isoFirst+i)*isoSector, isoSector)
		if err != nil || string(d[1:6]) != "CD001" {
			break
		}
		root, ok := isoRecord(d[156:190], false)
		switch {
		case d[0] == isoPrimary && ok && len(v.roots) == 0:
			v.label = strings.TrimRight(string(d[40:72]), " \x00")
			v.roots = append(v.roots, root)
		case d[0] == isoSupplement && ok && len(v.roots) == 1 && isJoliet(d[88:91]):
			root.joliet = true
			v.roots = append(v.roots, root)
		}
		if d[0] == isoEnd {
			break
		}
	}
	if len(v.roots) == 0 {
		return v, errNotISO
	}
	return v, nil
}

// isJoliet recognises the escape sequences for UCS-2 (Joliet specification, section 1).
func isJoliet(escape []byte) bool {
	return escape[0] == '%' && escape[1] == '/' && (escape[2] == '@' || escape[2] == 'C' || escape[2] == 'E')
}

// read reads a file by its path, in whichever of the trees has it.
func (v isoVolume) read(path string, limit int64) ([]byte, error) {
	for _, entry := range v.roots {
		found := true
		for name := range strings.SplitSeq(path, "/") {
			var err error
			if entry, found, err = v.find(entry, name); err != nil {
				return nil, err
			}
			if !found {
				break
			}
		}
		if !found || entry.directory {
			continue
		}
		if entry.size > limit {
			return nil, fmt.Errorf("%s has more than %d bytes", path, limit)
		}
		return readSection(v.r, entry.offset, entry.size)
	}
	return nil, errNoFile
}

// find looks for a name in a directory. A name as it should be comes before one as old systems cripple it.
func (v isoVolume) find(dir isoEntry, name string) (found isoEntry, ok bool, err error) {
	if !dir.directory || dir.size > isoMaxDir {
		return found, false, nil
	}
	data, err := readSection(v.r, dir.offset, dir.size)
	if err != nil {
		return found, false, err
	}
	for at := 0; at < len(data); {
		length := int(data[at])
		if length == 0 { // the rest of the sector is empty
			at = (at/isoSector + 1) * isoSector
			continue
		}
		if at+length > len(data) {
			break
		}
		entry, valid := isoRecord(data[at:at+length], dir.joliet)
		at += length
		switch {
		case !valid:
		case entry.name == name:
			return entry, true, nil
		case !ok && sameISO(entry.name, name):
			found, ok = entry, true
		}
	}
	return found, ok, nil
}

// isoRecord decodes a directory record with its Rock Ridge name.
func isoRecord(r []byte, joliet bool) (isoEntry, bool) {
	const fixed = 33
	if len(r) < fixed || int(r[32])+fixed > len(r) {
		return isoEntry{}, false
	}
	e := isoEntry{
		offset:    int64(binary.LittleEndian.Uint32(r[2:])) * isoSector,
		size:      int64(binary.LittleEndian.Uint32(r[10:])),
		directory: r[25]&2 != 0,
		joliet:    joliet,
	}
	raw := r[fixed : fixed+int(r[32])]
	e.name = string(raw)
	if joliet && len(raw)%2 == 0 {
		units := make([]uint16, len(raw)/2)
		for i := range units {
			units[i] = binary.BigEndian.Uint16(raw[2*i:])
		}
		e.name, _, _ = strings.Cut(string(utf16.Decode(units)), ";")
		return e, true
	}
	if name := rockRidge(r[min(len(r), fixed+len(raw)+(len(raw)+1)%2):]); name != "" {
		e.name = name
	}
	return e, true
}

// rockRidge joins the NM entries of a system use area (RRIP section 4.1.4). Areas that continue elsewhere are left: the
// names of a seed are short.
func rockRidge(area []byte) string {
	var name strings.Builder
	for len(area) >= 4 {
		length := int(area[2])
		if length < 4 || length > len(area) {
			break
		}
		if string(area[:2]) == "NM" && length > 5 {
			name.Write(area[5:length])
		}
		area = area[length:]
	}
	return name.String()
}

// sameISO compares a name of the disk with what was put there: upper case, a version at its end, other characters than
// letters and digits replaced, perhaps cut to eight.
func sameISO(got, want string) bool {
	got, _, _ = strings.Cut(strings.ToLower(got), ";")
	got = strings.TrimRight(got, ".")
	want = strings.NewReplacer("-", "_", ".", "_").Replace(strings.ToLower(want))
	got = strings.NewReplacer("-", "_", ".", "_").Replace(got)
	return got == want || len(got) == 8 && strings.HasPrefix(want, got)
}
