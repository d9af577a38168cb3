package datasource

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// volume finds the disk with a label, in any case of letters, and gives its files to fn. ISO 9660 is read as it is, FAT is
// mounted. ErrNotHere says that no disk has the label.
func (m Machine) volume(label string, fn func(read readFunc) error) error {
	device, kind, err := m.findVolume(label)
	if err != nil {
		return err
	}
	if kind == "iso9660" {
		f, err := os.Open(device)
		if err != nil {
			return err
		}
		defer f.Close()
		volume, err := openISO(f)
		if err != nil {
			return fmt.Errorf("cannot read %s: %w", device, err)
		}
		return fn(volume.read)
	}
	dir, unmount, err := m.mount(device, kind)
	if err != nil {
		return err
	}
	err = fn(func(name string, limit int64) ([]byte, error) { return readFile(filepath.Join(dir, name), limit) })
	return errors.Join(err, unmount())
}

// findVolume asks udev's links first, and looks at the disks themselves where there is no udev.
func (m Machine) findVolume(label string) (device, kind string, err error) {
	for _, name := range []string{label, strings.ToUpper(label)} {
		device := m.path("dev/disk/by-label", name)
		if _, err := os.Stat(device); err == nil {
			if _, kind := identify(device); kind != "" {
				return device, kind, nil
			}
		}
	}
	disks, err := os.ReadDir(m.path("sys/class/block"))
	if err != nil {
		return "", "", ErrNotHere
	}
	for _, disk := range disks {
		if slices.ContainsFunc(notDisks, func(p string) bool { return strings.HasPrefix(disk.Name(), p) }) {
			continue
		}
		device := m.path("dev", disk.Name())
		if got, kind := identify(device); kind != "" && strings.EqualFold(got, label) {
			return device, kind, nil
		}
	}
	return "", "", ErrNotHere
}

// notDisks begin the names of block devices that nobody hands a seed on, or that take long to open.
var notDisks = []string{"loop", "ram", "zram", "fd", "dm-", "md", "nbd", "mtd"}

// identify reads the label and the kind of a disk's file system: iso9660, vfat, or "".
func identify(device string) (label, kind string) {
	f, err := os.Open(device)
	if err != nil {
		return "", ""
	}
	defer f.Close()
	if volume, err := openISO(f); err == nil {
		return volume.label, "iso9660"
	}
	var boot [512]byte
	if _, err := f.ReadAt(boot[:], 0); err != nil {
		return "", ""
	}
	if label, ok := labelFAT(boot); ok {
		return label, "vfat"
	}
	return "", ""
}

// labelFAT reads the label from a boot sector (Microsoft's FAT specification, section 3).
func labelFAT(boot [512]byte) (string, bool) {
	if binary.LittleEndian.Uint16(boot[510:]) != 0xaa55 {
		return "", false
	}
	for _, at := range []struct {
		signature, label, kind int
		name                   string
	}{{38, 43, 54, "FAT"}, {66, 71, 82, "FAT32"}} {
		if boot[at.signature] == 0x29 && strings.HasPrefix(string(boot[at.kind:at.kind+8]), at.name) {
			return strings.TrimRight(string(boot[at.label:at.label+11]), " \x00"), true
		}
	}
	return "", false
}

// readSection reads a piece of a disk. Pieces come from the disk itself, so they are bounded before.
func readSection(r io.ReaderAt, offset, length int64) ([]byte, error) {
	data := make([]byte, length)
	n, err := r.ReadAt(data, offset)
	if errors.Is(err, io.EOF) && int64(n) == length {
		err = nil
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return data, err
}

var errNoFile = fmt.Errorf("it is not on the disk: %w", fs.ErrNotExist)
