package installer

import (
	"bytes"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/musterhq/muster/providers/metal/ledger"
)

// ReadFacts reads what the machine is made of from /sys and /proc. What cannot be read is left out.
func ReadFacts(sys, proc fs.FS) ledger.Facts {
	facts := ledger.Facts{Serial: read(sys, "class/dmi/id/product_serial"), MemoryBytes: memory(proc)}
	processors, _ := fs.Glob(sys, "devices/system/cpu/cpu[0-9]*") // the pattern is good
	facts.CPUs = len(processors)
	blocks, _ := fs.ReadDir(sys, "block")
	for _, block := range blocks {
		if disk, ok := readDisk(sys, block.Name()); ok {
			facts.Disks = append(facts.Disks, disk)
		}
	}
	interfaces, _ := fs.ReadDir(sys, "class/net")
	for _, device := range interfaces {
		dir := path.Join("class/net", device.Name())
		if _, err := fs.Stat(sys, path.Join(dir, "device")); err == nil {
			facts.NICs = append(facts.NICs, read(sys, path.Join(dir, "address")))
		}
	}
	return facts
}

// notDisks begin the names of block devices that nobody installs to.
var notDisks = []string{"loop", "ram", "zram", "fd", "sr", "dm-", "md", "nbd", "mtd"}

// readDisk reads about a disk. Those that are read-only, removable, or of other sectors than the image's are not for hosts.
func readDisk(sys fs.FS, name string) (ledger.Disk, bool) {
	dir := path.Join("block", name)
	sectors, err := strconv.ParseInt(read(sys, path.Join(dir, "size")), 10, 64)
	if err != nil || sectors <= 0 || slices.ContainsFunc(notDisks, func(p string) bool { return strings.HasPrefix(name, p) }) {
		return ledger.Disk{}, false
	}
	if read(sys, path.Join(dir, "ro")) == "1" || read(sys, path.Join(dir, "removable")) == "1" ||
		read(sys, path.Join(dir, "queue/logical_block_size")) != strconv.Itoa(sectorBytes) {
		return ledger.Disk{}, false
	}
	disk := ledger.Disk{
		Path: "/dev/" + strings.ReplaceAll(name, "!", "/"), Bytes: sectors * sectorBytes,
		Model: read(sys, path.Join(dir, "device/model")),
	}
	for _, file := range []string{"serial", "device/serial"} {
		if disk.Serial == "" {
			disk.Serial = read(sys, path.Join(dir, file))
		}
	}
	if disk.Serial == "" { // SCSI's unit serial number: four bytes, then the text (SPC-4, 7.8.15)
		if page, err := fs.ReadFile(sys, path.Join(dir, "device/vpd_pg80")); err == nil && len(page) > 4 {
			disk.Serial = printable(page[4:])
		}
	}
	return disk, true
}

func memory(proc fs.FS) int64 {
	text, _ := fs.ReadFile(proc, "meminfo")
	var kilobytes int64
	if _, err := fmt.Sscanf(string(text), "MemTotal: %d kB", &kilobytes); err != nil {
		return 0
	}
	return kilobytes << 10
}

// read returns a file's words, or nothing.
func read(fsys fs.FS, name string) string {
	text, _ := fs.ReadFile(fsys, name)
	return printable(text)
}

// maxWords is what the server takes of a part's name.
const maxWords = 128

func printable(text []byte) string {
	text = bytes.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return ' '
		}
		return r
	}, bytes.TrimRight(text, "\x00"))
	words := strings.Join(strings.Fields(string(text)), " ")
	return words[:min(len(words), maxWords)]
}
