package ledger

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/musterhq/muster/providers/metal/netboot"
)

const first = "52:54:00:00:00:01"

func newLedger(t *testing.T) Ledger {
	t.Helper()
	return Ledger{filepath.Join(t.TempDir(), "machines.json")}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A machine's way from its first boot to its release, by a new Ledger at each step, as processes come and go.
func TestWay(t *testing.T) {
	path := newLedger(t).Path
	request := netboot.Request{MAC: first, Arch: netboot.AMD64, Firmware: netboot.UEFI}
	boots := func(want netboot.Action) {
		t.Helper()
		d, err := Ledger{path}.Boot(t.Context(), request)
		must(t, err)
		if d.Action != want {
			t.Fatalf("%s, want %s: %s", d.Action, want, d.Reason)
		}
	}
	apply := func(event netboot.Event) {
		t.Helper()
		_, err := Ledger{path}.Apply(t.Context(), first, event)
		must(t, err)
	}
	boots(netboot.ActionDiscover)
	if records, err := (Ledger{path}).Records(); err != nil || len(records) != 0 {
		t.Fatalf("a boot alone left %v, %v", records, err)
	}
	facts := Facts{Serial: "S1", CPUs: 8, MemoryBytes: 64 << 30, Disks: []Disk{{Path: "/dev/sda", Bytes: 1 << 40}}, NICs: []string{first}}
	_, err := Ledger{path}.Discover(t.Context(), first, facts)
	must(t, err)
	boots(netboot.ActionDiscover)
	apply(netboot.Accept{})
	apply(netboot.Begin{})
	boots(netboot.ActionInstall)
	apply(netboot.Started{Attempt: 1})
	apply(netboot.Finished{Attempt: 1})
	boots(netboot.ActionLocalDisk)
	if err := (Ledger{path}).Forget(t.Context(), first); !errors.Is(err, netboot.ErrRefused) {
		t.Errorf("an installed machine is forgotten: %v", err)
	}
	apply(netboot.Release{})
	records, err := Ledger{path}.Records()
	if err != nil || len(records) != 1 || records[0].Machine.State != netboot.Released || fmt.Sprint(records[0].Facts) != fmt.Sprint(facts) {
		t.Errorf("%+v, %v", records, err)
	}
	for range 2 {
		must(t, Ledger{path}.Forget(t.Context(), first))
	}
	if records, err := (Ledger{path}).Records(); err != nil || len(records) != 0 {
		t.Errorf("forgotten, and there is %v, %v", records, err)
	}
}

func TestRefusedEventsChangeNothing(t *testing.T) {
	l := newLedger(t)
	if _, err := l.Apply(t.Context(), first, netboot.Begin{}); !errors.Is(err, netboot.ErrRefused) {
		t.Error(err)
	}
	if _, err := os.Stat(l.Path); !os.IsNotExist(err) {
		t.Errorf("something was written: %v", err)
	}
}

// Boots at once count one by one, so no two of them take the last one that an attempt has.
func TestBootsAtOnce(t *testing.T) {
	l := newLedger(t)
	for _, event := range []netboot.Event{netboot.Accept{}, netboot.Begin{}} {
		_, err := l.Apply(t.Context(), first, event)
		must(t, err)
	}
	var group sync.WaitGroup
	installs := make(chan netboot.Action, 10)
	for range cap(installs) {
		group.Go(func() {
			d, err := l.Boot(t.Context(), netboot.Request{MAC: first, Arch: netboot.AMD64})
			if err != nil {
				t.Error(err)
			}
			installs <- d.Action
		})
	}
	group.Wait()
	close(installs)
	count := map[netboot.Action]int{}
	for action := range installs {
		count[action]++
	}
	if count[netboot.ActionInstall] != netboot.MaxBoots {
		t.Errorf("%v, want %d installations", count, netboot.MaxBoots)
	}
}

func TestDiscoveredAreBounded(t *testing.T) {
	l := newLedger(t)
	var records []Record
	for i := range MaxDiscovered {
		mac := fmt.Sprintf("52:54:00:00:%02x:%02x", i>>8, i&0xff)
		records = append(records, Record{MAC: mac, Machine: netboot.Machine{State: netboot.Discovered}})
	}
	must(t, l.write(records))
	if _, err := l.Discover(t.Context(), "52:54:00:00:ff:ff", Facts{}); !errors.Is(err, ErrFull) {
		t.Error(err)
	}
	if _, err := l.Discover(t.Context(), first, Facts{CPUs: 2}); err != nil {
		t.Errorf("a known one: %v", err)
	}
	if _, err := l.Apply(t.Context(), "52:54:00:00:ff:ff", netboot.Accept{}); err != nil {
		t.Errorf("one of the inventory: %v", err)
	}
	must(t, l.Forget(t.Context(), "52:54:00:00:00:00"))
	if _, err := l.Discover(t.Context(), "52:54:00:00:ff:fe", Facts{}); err != nil {
		t.Errorf("with room again: %v", err)
	}
}

func TestDamage(t *testing.T) {
	l := newLedger(t)
	must(t, os.WriteFile(l.Path, []byte("{"), 0o600))
	if _, err := l.Boot(t.Context(), netboot.Request{MAC: first}); err == nil || !strings.Contains(err.Error(), "is damaged") {
		t.Error(err)
	}
}
