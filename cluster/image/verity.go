package image

import (
	"bytes"
	"crypto/sha256"
	"debug/pe"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"math"
	"strings"
)

// boot is what the kernel command line says of the root.
type boot struct {
	root   string // label of the partition: NAME_VERSION
	hash   string // root hash of the verity tree, in hexadecimal
	offset int64  // of the verity tree in the root, in bytes
}

// parseCommandLine reads a kernel command line. A parameter that is missing or is there twice is an error: the kernel and
// the initrd may not take the same one.
func parseCommandLine(line string) (boot, error) {
	values := map[string]string{}
	for _, word := range strings.Fields(line) {
		key, value, _ := strings.Cut(word, "=")
		if _, twice := values[key]; twice && (key == "muster.root" || key == "muster.hash" || key == "roothash") {
			return boot{}, fmt.Errorf("its command line has `%s` twice", key)
		}
		values[key] = value
	}
	b := boot{root: values["muster.root"], hash: values["roothash"]}
	offset, ok := decimal(values["muster.hash"])
	if b.offset = offset; b.root == "" || !ok || !sumForm.MatchString(b.hash) {
		return boot{}, fmt.Errorf("its command line lacks `muster.root=`, `roothash=` or `muster.hash=`")
	}
	return b, nil
}

// maxCommandLine is how many bytes a command line may have; Linux on x86 takes 2048 (COMMAND_LINE_SIZE).
const maxCommandLine = 64 << 10

// kernelCommandLine is the command line in a unified kernel image: its section .cmdline
// (https://uapi-group.org/specifications/specs/unified_kernel_image/).
func kernelCommandLine(file io.ReaderAt) (string, error) {
	image, err := pe.NewFile(file)
	if err != nil {
		return "", fmt.Errorf("it is not a kernel image: %w", err)
	}
	section := image.Section(".cmdline")
	if section == nil {
		return "", fmt.Errorf("it has no command line")
	}
	if section.Size > maxCommandLine {
		return "", fmt.Errorf("its command line has %d bytes", section.Size)
	}
	data, err := section.Data()
	if err != nil {
		return "", fmt.Errorf("its command line cannot be read: %w", err)
	}
	// What follows the virtual size only fills the section.
	if size := uint64(section.VirtualSize); size > 0 && size < uint64(len(data)) {
		data = data[:size]
	}
	return string(bytes.TrimRight(data, "\x00\n")), nil
}

// superblock begins a verity tree (cryptsetup, DMVerity, "Verity superblock format").
type superblock struct {
	Magic         [8]byte
	Version       uint32
	HashType      uint32
	UUID          [16]byte
	Algorithm     [32]byte
	DataBlockSize uint32
	HashBlockSize uint32
	DataBlocks    uint64
	SaltSize      uint16
	_             [6]byte
	Salt          [256]byte
}

// check refuses a tree that is not over the bytes before it, and formats that muster does not build.
func (s superblock) check(offset int64) error {
	switch {
	case string(s.Magic[:]) != "verity\x00\x00" || s.Version != 1:
		return fmt.Errorf("it has no verity tree at byte %d", offset)
	case s.HashType != 1 || string(bytes.TrimRight(s.Algorithm[:], "\x00")) != "sha256" || int(s.SaltSize) > len(s.Salt):
		return fmt.Errorf("its verity tree is not of type 1 with SHA-256")
	case s.DataBlockSize != 4096 || s.HashBlockSize != 4096:
		return fmt.Errorf("its verity tree has blocks of %d and %d bytes, not 4096", s.DataBlockSize, s.HashBlockSize)
	case s.DataBlocks < 2 || s.DataBlocks > math.MaxInt64/4096 || int64(s.DataBlocks)*4096 != offset:
		return fmt.Errorf("its verity tree is over %d blocks, and begins at byte %d", s.DataBlocks, offset)
	}
	return nil
}

// rootHash is the root hash of the verity tree at an offset: of the salt and the first hash block, which is the top of the
// tree (Documentation/admin-guide/device-mapper/verity.rst). The tree below it is not looked at.
func rootHash(file io.ReaderAt, offset int64) (string, error) {
	var s superblock
	header := make([]byte, binary.Size(s))
	if _, err := file.ReadAt(header, offset); err != nil {
		return "", fmt.Errorf("it has no verity tree at byte %d", offset)
	}
	if _, err := binary.Decode(header, binary.LittleEndian, &s); err != nil {
		return "", err
	}
	if err := s.check(offset); err != nil {
		return "", err
	}
	top := make([]byte, s.HashBlockSize)
	if _, err := file.ReadAt(top, offset+int64(s.HashBlockSize)); err != nil {
		return "", fmt.Errorf("its verity tree is cut off")
	}
	sum := sha256.Sum256(append(s.Salt[:s.SaltSize:s.SaltSize], top...))
	return hex.EncodeToString(sum[:]), nil
}
