package main

import (
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
)

func TestPristine(t *testing.T) {
	const smaps = `00400000-00a00000 r-xp 00000000 08:01 17 /opt/muster/bin/musterd
Rss:                6000 kB
Shared_Dirty:       6000 kB
Private_Dirty:         0 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
00a00000-00b00000 r--p 00600000 08:01 17 /opt/muster/bin/musterd
Private_Dirty:         4 kB
Anonymous:             4 kB
00b00000-00c00000 rw-p 00700000 08:01 17 /opt/muster/bin/musterd
Private_Dirty:         0 kB
Anonymous:             0 kB
c000000000-c000400000 rw-p 00000000 00:00 0
Anonymous:          2048 kB
7f0000000000-7f0001000000 r--s 00000000 08:01 99 /var/lib/muster/etcd/member/snap/db
Private_Dirty:         0 kB
Anonymous:             0 kB
7ffc00000000-7ffc00002000 r-xp 00000000 00:00 0 [vdso]
Anonymous:             0 kB
`
	want := []mapping{
		{0x400000, 0xa00000, "/opt/muster/bin/musterd"},
		{0x7f0000000000, 0x7f0001000000, "/var/lib/muster/etcd/member/snap/db"},
	}
	if got := pristine(strings.NewReader(smaps)); !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// TestTrim gives back this process's own pages, which goes on with the same code and data.
func TestTrim(t *testing.T) {
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if len(pristine(f)) == 0 {
		t.Error("nothing of this process is mapped from a file")
	}
	trim(slog.New(slog.DiscardHandler))
	TestPristine(t)
}
