package deliver

import (
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// program is an ELF header and some bytes that make it one of a kind.
func program(machine elf.Machine, order binary.AppendByteOrder, class elf.Class, text string) []byte {
	data := elf.ELFDATA2LSB
	if order.String() == "BigEndian" {
		data = elf.ELFDATA2MSB
	}
	h := append([]byte(elf.ELFMAG), byte(class), byte(data), byte(elf.EV_CURRENT))
	h = append(h, make([]byte, 16-len(h))...)
	h = order.AppendUint16(h, uint16(elf.ET_EXEC))
	h = order.AppendUint16(h, uint16(machine))
	h = order.AppendUint32(h, uint32(elf.EV_CURRENT))
	h = append(h, make([]byte, 24+4)...) // entry, program headers, section headers, flags
	for _, n := range []uint16{64, 56, 0, 64, 0, 0} {
		h = order.AppendUint16(h, n)
	}
	return append(h, text...)
}

func amd64(text string) []byte {
	return program(elf.EM_X86_64, binary.LittleEndian, elf.ELFCLASS64, text)
}

func arm64(text string) []byte {
	return program(elf.EM_AARCH64, binary.LittleEndian, elf.ELFCLASS64, text)
}

func writeFile(t *testing.T, path string, data []byte) string {
	t.Helper()
	if err := os.WriteFile(path, data, 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestBinaries(t *testing.T) {
	s390x := program(elf.EM_S390, binary.BigEndian, elf.ELFCLASS64, "")
	for name, tt := range map[string]struct {
		files map[string][]byte
		want  []string // architecture and file
		err   string
	}{
		"one":                  {map[string][]byte{"musterd": amd64("")}, []string{"amd64 musterd"}, ""},
		"several":              {map[string][]byte{"musterd": arm64(""), "musterd-amd64": amd64(""), "musterd-s390x": s390x}, []string{"arm64 musterd", "amd64 musterd-amd64", "s390x musterd-s390x"}, ""},
		"twice the same":       {map[string][]byte{"musterd": amd64("a"), "musterd-amd64": amd64("b")}, []string{"amd64 musterd"}, ""},
		"of another system":    {map[string][]byte{"musterd": []byte("\xcf\xfa\xed\xfe"), "musterd-arm64": arm64("")}, []string{"arm64 musterd-arm64"}, ""},
		"other names":          {map[string][]byte{"musterd-old": amd64(""), "muster": amd64("")}, nil, "there is no musterd for hosts in"},
		"none":                 {nil, nil, "put musterd-amd64 there"},
		"wrong name":           {map[string][]byte{"musterd-arm64": amd64("")}, nil, "musterd-arm64: it is made for amd64"},
		"no program":           {map[string][]byte{"musterd-arm64": []byte("x")}, nil, "it is no program for Linux"},
		"of 32 bits":           {map[string][]byte{"musterd-amd64": program(elf.EM_X86_64, binary.LittleEndian, elf.ELFCLASS32, strings.Repeat("\x00", 64))}, nil, "it is no program for Linux"},
		"of the other endian":  {map[string][]byte{"musterd-ppc64le": program(elf.EM_PPC64, binary.BigEndian, elf.ELFCLASS64, "")}, nil, "it is no program for Linux of a kind that hosts have"},
		"of another processor": {map[string][]byte{"musterd": program(elf.EM_SPARCV9, binary.BigEndian, elf.ELFCLASS64, "")}, nil, "there is no musterd"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for file, data := range tt.files {
				writeFile(t, filepath.Join(dir, file), data)
			}
			found, err := Binaries(filepath.Join(dir, "musterd"))
			var got []string
			for _, b := range found {
				got = append(got, b.Architecture+" "+filepath.Base(b.Path))
				if len(b.SHA256) != 64 {
					t.Errorf("%+v", b)
				}
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("%v, want %v", got, tt.want)
			}
			if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("error %v", err)
			}
		})
	}
}
