package installer

import (
	"encoding/hex"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/musterhq/muster/providers/metal/ledger"
)

func TestReadFacts(t *testing.T) {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	sys := fstest.MapFS{
		"class/dmi/id/product_serial":                 file("S 1\n"),
		"devices/system/cpu/cpu0/online":              file("1\n"),
		"devices/system/cpu/cpu1/online":              file("1\n"),
		"devices/system/cpu/cpufreq/x":                file(""),
		"class/net/eth0/address":                      file("52:54:00:00:00:01\n"),
		"class/net/eth0/device/vendor":                file("0x8086"),
		"class/net/lo/address":                        file("00:00:00:00:00:00\n"),
		"block/sda/size":                              file("2048\n"),
		"block/sda/queue/logical_block_size":          file("512\n"),
		"block/sda/device/model":                      file("  Big   Disk\x1b[2J \n"),
		"block/sda/device/vpd_pg80":                   file("\x00\x80\x00\x06  ABC1"),
		"block/nvme0n1/size":                          file("4096\n"),
		"block/nvme0n1/queue/logical_block_size":      file("512\n"),
		"block/nvme0n1/device/serial":                 file("NV1\n"),
		"block/cciss!c0d0/size":                       file("8\n"),
		"block/cciss!c0d0/queue/logical_block_size":   file("512\n"),
		"block/sdb/size":                              file("4096\n"), // a USB stick
		"block/sdb/removable":                         file("1\n"),
		"block/sdb/queue/logical_block_size":          file("512\n"),
		"block/sdc/size":                              file("4096\n"),
		"block/sdc/queue/logical_block_size":          file("4096\n"),
		"block/sdd/size":                              file("0\n"),
		"block/sdd/queue/logical_block_size":          file("512\n"),
		"block/loop0/size":                            file("4096\n"),
		"block/loop0/queue/logical_block_size":        file("512\n"),
		"block/sde/size":                              file("4096\n"),
		"block/sde/ro":                                file("1\n"),
		"block/sde/queue/logical_block_size":          file("512\n"),
		"block/vda/size":                              file("x"),
		"block/" + strings.Repeat("s", 9) + "/device": {Mode: 0o755},
	}
	got := ReadFacts(sys, fstest.MapFS{"meminfo": file("MemTotal:        2048 kB\nMemFree: 1 kB\n")})
	want := ledger.Facts{
		Serial: "S 1", CPUs: 2, MemoryBytes: 2 << 20, NICs: []string{"52:54:00:00:00:01"},
		Disks: []ledger.Disk{
			{Path: "/dev/cciss/c0d0", Bytes: 4096},
			{Path: "/dev/nvme0n1", Serial: "NV1", Bytes: 2 << 20},
			{Path: "/dev/sda", Model: "Big Disk [2J", Serial: "ABC1", Bytes: 1 << 20},
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v\nwant %+v", got, want)
	}
	if got := ReadFacts(fstest.MapFS{}, fstest.MapFS{}); !reflect.DeepEqual(got, ledger.Facts{}) {
		t.Errorf("%+v", got)
	}
}

func TestParseGPT(t *testing.T) {
	good := table("var")
	got, err := ParseGPT(good)
	if err != nil || len(got) != 2 || !isESP(got[0]) || got[0].Sectors != 2048 || !isVar(got[1]) || got[1].Number != 4 {
		t.Errorf("%+v, %v", got, err)
	}
	for _, at := range []int{sectorBytes, sectorBytes + 20, sectorBytes + 80, 2*sectorBytes + 40} {
		bad := table("var")
		bad[at] ^= 1
		if got, err := ParseGPT(bad); err == nil {
			t.Errorf("byte %d: %+v", at, got)
		}
	}
	if _, err := ParseGPT(good[:700]); err == nil {
		t.Error("a table that is cut short passed")
	}
}

func FuzzParseGPT(f *testing.F) {
	f.Add(table("var")[:40*sectorBytes])
	f.Add([]byte("EFI PART"))
	f.Fuzz(func(t *testing.T, head []byte) {
		if partitions, err := ParseGPT(head); err == nil && len(partitions) > maxEntries {
			t.Errorf("%d partitions", len(partitions))
		}
	})
}

func order(numbers ...uint16) []byte { return unwords(numbers) }

func TestPlanBoot(t *testing.T) {
	p := Partition{Number: 1, Start: 2048, Sectors: 4096}
	network, old := append([]byte{1, 0, 0, 0, 4, 0}, text("UEFI PXEv4")...), loadOption(Partition{Number: 2})
	for _, tt := range []struct {
		name         string
		have         Variables
		networkFirst bool
		entry        string
		order        []byte
	}{
		{"nothing", nil, false, "Boot0000", order(0)},
		{"disk first", Variables{"Boot0000": network, "Boot0001": network, orderName: order(1, 0)}, false, "Boot0002", order(2, 1, 0)},
		{
			"network first",
			Variables{"Boot0000": network, "Boot0001": network, orderName: order(1, 0), currentName: order(1)},
			true,
			"Boot0002",
			order(1, 2, 0),
		},
		{"again", Variables{"Boot0000": network, "Boot0007": old, orderName: order(0, 7)}, false, "Boot0007", order(7, 0)},
		{"again, network first", Variables{"Boot0000": network, "Boot0007": old, orderName: order(7, 0), currentName: order(0)}, true, "Boot0007", order(0, 7)},
		{"booted by hand", Variables{"Boot0000": network, orderName: order(0), currentName: order(9)}, true, "Boot0001", order(1, 0)},
		{"damaged", Variables{"Boot0000": {1}, orderName: {1}}, false, "Boot0001", order(1)},
	} {
		name, write := PlanBoot(tt.have, p, tt.networkFirst)
		if name != tt.entry || !slices.Equal(write[orderName], tt.order) || !slices.Equal(write[name], loadOption(p)) || len(write) != 2 {
			t.Errorf("%s: %s, %x, want %s, %x", tt.name, name, write[orderName], tt.entry, tt.order)
		}
	}
}

// TestLoadOption has the bytes as UEFI 2.10 has them.
func TestLoadOption(t *testing.T) {
	got := hex.EncodeToString(loadOption(Partition{Number: 1, Start: 0x800, Sectors: 0x40000, GUID: [16]byte{0xaa, 15: 0xbb}}))
	want := strings.Join([]string{
		"01000000", "5e00", "6d00750073007400650072000000",
		"04012a00", "01000000", "0008000000000000", "0000040000000000", "aa0000000000000000000000000000bb", "0202",
		"04043000", hex.EncodeToString(text(`\EFI\BOOT\BOOTX64.EFI`)), "7fff0400",
	}, "")
	if got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}
