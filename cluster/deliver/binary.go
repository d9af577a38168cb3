package deliver

import (
	"crypto/sha256"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/musterhq/muster/cloudconfig"
)

// Binary is the musterd of one architecture.
type Binary struct {
	Architecture string // as GOARCH names it
	Path         string
	SHA256       string // 64 hexadecimal digits
}

// Binaries finds the musterds that hosts can be given: the one at path, if it runs on Linux, and those beside it with an
// architecture in their name, as in musterd-arm64. Of one architecture the one at path counts.
func Binaries(path string) ([]Binary, error) {
	var found []Binary
	for _, candidate := range append([]string{""}, cloudconfig.Architectures()...) {
		name := path
		if candidate != "" {
			name += "-" + candidate
		}
		b, err := readBinary(name)
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, errNotLinux) && candidate == "":
			continue
		case err != nil:
			return nil, fmt.Errorf("cannot give hosts %s: %w", name, err)
		case candidate != "" && b.Architecture != candidate:
			return nil, fmt.Errorf("cannot give hosts %s: it is made for %s", name, b.Architecture)
		case len(found) > 0 && found[0].Architecture == b.Architecture:
			continue
		}
		found = append(found, b)
	}
	if len(found) == 0 {
		dir, base := filepath.Split(path)
		return nil, fmt.Errorf("there is no musterd for hosts in %s: put %s-amd64 there, or that of another architecture, "+
			"as `GOOS=linux GOARCH=amd64 CGO_ENABLED=0 go build ./cmd/musterd` makes it", filepath.Clean(dir), base)
	}
	return found, nil
}

var errNotLinux = errors.New("it is no program for Linux")

func readBinary(path string) (Binary, error) {
	f, err := os.Open(path)
	if err != nil {
		return Binary{}, err
	}
	defer f.Close()
	arch, err := architecture(f)
	if err != nil {
		return Binary{}, err
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return Binary{}, err
	}
	return Binary{Architecture: arch, Path: path, SHA256: hex.EncodeToString(sum.Sum(nil))}, nil
}

// architecture reads what a program is made for (System V ABI, ELF header).
func architecture(f io.ReaderAt) (string, error) {
	file, err := elf.NewFile(f)
	if err != nil {
		return "", fmt.Errorf("%w: %w", errNotLinux, err)
	}
	type kind struct {
		machine elf.Machine
		order   binary.ByteOrder
	}
	arch := map[kind]string{
		{elf.EM_X86_64, binary.LittleEndian}: "amd64", {elf.EM_AARCH64, binary.LittleEndian}: "arm64",
		{elf.EM_RISCV, binary.LittleEndian}: "riscv64", {elf.EM_PPC64, binary.LittleEndian}: "ppc64le",
		{elf.EM_S390, binary.BigEndian}: "s390x",
	}[kind{file.Machine, file.ByteOrder}]
	if arch == "" || file.Class != elf.ELFCLASS64 || file.Type != elf.ET_EXEC && file.Type != elf.ET_DYN {
		return "", fmt.Errorf("%w of a kind that hosts have: %s %s %s", errNotLinux, file.Machine, file.Class, file.Type)
	}
	return arch, nil
}
