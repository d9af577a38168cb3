package diskselect

import (
	"errors"
	"strings"
	"testing"

	"github.com/musterhq/muster/providers/metal/ledger"
)

var disks = []ledger.Disk{
	{Path: "/dev/sdb", Model: "Samsung SSD 870/EVO", Serial: "S5Y1", Bytes: 500e9},
	{Path: "/dev/sda", Model: "Samsung SSD 870/EVO", Serial: "S5Y2", Bytes: 500e9},
	{Path: "/dev/nvme0n1", Model: "INTEL P4510 ", Serial: "PHLJ", Bytes: 4e12},
	{Path: "/dev/mmcblk0", Model: "boot", Bytes: 4 << 30},
}

func TestChoose(t *testing.T) {
	for text, want := range map[string]string{
		"":                                 "/dev/mmcblk0",
		"smallest":                         "/dev/mmcblk0",
		"largest":                          "/dev/nvme0n1",
		"min=100GB":                        "/dev/sda",
		"min=100 GB,max=1TB,largest":       "/dev/sda",
		"serial=S5Y1":                      "/dev/sdb",
		"model=samsung*":                   "/dev/sda",
		"model=intel p4510":                "/dev/nvme0n1",
		"path=/dev/sdb, smallest":          "/dev/sdb",
		"min=4294967296,max=4GiB,serial=*": "/dev/mmcblk0",
	} {
		s, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := s.Choose(disks, 1<<30); err != nil || got.Path != want {
			t.Errorf("%q: %s, %v, want %s", text, got.Path, err, want)
		}
	}
}

func TestChooseNone(t *testing.T) {
	for text, want := range map[string]string{
		"path=/dev/sdz": "/dev/sda is not /dev/sdz",
		"serial=X":      `/dev/sda has serial "S5Y2"`,
		"model=X*":      `/dev/mmcblk0 is a "boot"`,
		"min=5TB":       "less than 5000000000000",
		"max=1GB":       "more than 1000000000",
		"max=4GiB":      "/dev/mmcblk0 has 4294967296 bytes, and 8000000000 are needed",
	} {
		s, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Choose(disks, 8e9)
		if !errors.Is(err, ErrNone) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	if _, err := (Selector{}).Choose(nil, 0); !errors.Is(err, ErrNone) || !strings.Contains(err.Error(), "has none") {
		t.Error(err)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, text := range []string{
		"sda", "path=sda", "path=/dev/../etc/passwd", "path=", "model=[", "min=x", "min=-1", "min=0", "max=1XB", "min=9223372036854775807TB",
		"min=2GB,max=1GB", "largest,smallest", "min=1,min=2", "size=3", "largest=1", ",",
	} {
		if s, err := Parse(text); err == nil {
			t.Errorf("%q is %+v", text, s)
		}
	}
}

// FuzzParse looks for selectors that choose what does not meet them.
func FuzzParse(f *testing.F) {
	for _, text := range []string{"", "largest", "path=/dev/sda,min=1GiB", "model=[a-z]*,serial=?"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Parse(text)
		if err != nil {
			return
		}
		if disk, err := s.Choose(disks, 1<<30); err == nil &&
			(s.Path != "" && s.Path != disk.Path || disk.Bytes < max(s.Min, 1<<30) || s.Max > 0 && disk.Bytes > s.Max) {
			t.Errorf("%q chooses %+v", text, disk)
		}
	})
}
