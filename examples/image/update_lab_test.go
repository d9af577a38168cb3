//go:build lab

package image

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/musterhq/muster/agent/update"
)

// order and word are what the drive in the guest hears and tells.
type (
	order struct {
		Do      string         `json:"do"`
		Release update.Release `json:"release"`
	}
	word struct {
		Slots   update.Slots `json:"slots"`
		Done    string       `json:"done"`
		Seconds float64      `json:"seconds"`
		Error   string       `json:"error"`
	}
)

// operator is the server that serves releases and orders a guest about.
type operator struct {
	t        *testing.T
	releases *releases
	disk     string
	record   bool     // keep what is written to the disk
	logs     []string // of each time that the guest was on
	url      string   // as the guest has it
	reports  chan word
	mu       sync.Mutex
	next     order
}

func newOperator(t *testing.T, r *releases, disk string) *operator {
	o := &operator{t: t, releases: r, disk: disk, reports: make(chan word), next: order{Do: "wait"}}
	mux := http.NewServeMux()
	mux.Handle("GET /", http.FileServer(http.Dir(r.dir)))
	mux.HandleFunc("POST /report", func(w http.ResponseWriter, request *http.Request) {
		var told word
		if err := json.NewDecoder(request.Body).Decode(&told); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		select { // nobody listens while a guest is off
		case o.reports <- told:
		case <-time.After(time.Second):
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		_ = json.NewEncoder(w).Encode(o.next)
		o.next = order{Do: "wait"}
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	// QEMU's own network has this machine's loopback at 10.0.2.2.
	o.url = strings.Replace(server.URL, "127.0.0.1", "10.0.2.2", 1)
	return o
}

// on turns the guest on, with a watchdog.
func (o *operator) on() *machine {
	o.t.Helper()
	h := hardware{disk: o.disk, firmware: true, args: []string{
		"-smbios", "type=2,serial=" + o.url, "-device", "i6300esb", "-action", "watchdog=reset",
	}}
	if o.record {
		h.log = filepath.Join(o.t.TempDir(), "log")
		o.logs = append(o.logs, h.log)
	}
	return start(o.t, h)
}

// written is how long the newest log is.
func (o *operator) written() int64 {
	o.t.Helper()
	info, err := os.Stat(o.logs[len(o.logs)-1])
	if err != nil {
		o.t.Fatal(err)
	}
	return info.Size()
}

// kill is a cut of the machine's power.
func (m *machine) kill() {
	_ = m.cmd.Process.Kill()
	<-m.ended
}

func (o *operator) order(do, version string) {
	o.t.Helper()
	next := order{Do: do, Release: update.Release{Version: version}}
	if do == "update" {
		next.Release = o.releases.told[version]
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.next = next
}

// hears waits for a report of which want is true. It is false when the machine was reset or turned off before. A machine that
// shares this one's processors with much else is waited for as long as it uses them.
func (o *operator) hears(m *machine, what string, want func(word) bool) (word, bool) {
	o.t.Helper()
	began, look := m.cpu(), time.NewTicker(time.Second)
	defer look.Stop()
	idle := time.NewTimer(4 * patience)
	defer idle.Stop()
	for {
		select {
		case told := <-o.reports:
			if told.Error != "" {
				o.t.Fatalf("the guest tells %+v", told)
			}
			if want(told) {
				o.t.Logf("%s: %+v after %.1f s of processor time", what, told, m.cpu())
				return told, true
			}
		case <-m.ended:
			o.t.Logf("the machine was reset after %.1f s of processor time", m.cpu())
			return word{}, false
		case <-look.C:
			if spent := m.cpu() - began; spent > patience.Seconds() {
				o.t.Fatalf("no word of %q after %.0f s of processor time", what, spent)
			}
		case <-idle.C:
			o.t.Fatalf("no word of %q within %s", what, 4*patience)
		}
	}
}

func anything(word) bool { return true }
func nothing(word) bool  { return false }

// update orders one, waits for the reset, and boots until a guest reports. It tells what that runs and how often it was booted.
func (o *operator) update(m *machine, version string) (*machine, word, int) {
	o.t.Helper()
	started := time.Now()
	o.order("update", version)
	if told, still := o.hears(m, "the reboot", nothing); still {
		o.t.Fatalf("the guest tells %+v", told)
	}
	o.t.Logf("%s was downloaded and staged within %s", version, time.Since(started).Round(time.Second))
	return o.boot()
}

// boot turns the guest on until it reports.
func (o *operator) boot() (*machine, word, int) {
	o.t.Helper()
	for boots := 1; ; boots++ {
		m := o.on()
		if told, up := o.hears(m, "boot", anything); up {
			return m, told, boots
		}
		if boots > 4 {
			o.t.Fatal("no slot boots")
		}
	}
}

func (o *operator) good(m *machine, version string) {
	o.t.Helper()
	o.order("good", "")
	told, _ := o.hears(m, "good", func(told word) bool { return told.Done == "good" })
	if want := (update.Slot{Version: version, Good: true, TriesLeft: -1}); told.Slots.Booted != want || told.Slots.Next != version {
		o.t.Fatalf("slots %+v", told.Slots)
	}
}

// TestUpdate updates a host to a release that does, whose power is cut at any moment of that, and others to releases that are
// broken. As many run side by side as there are processors: each guest keeps one busy.
func TestUpdate(t *testing.T) {
	r := newReleases(t)
	r.make("1", variant{})
	r.make("2", variant{})
	r.slim = true
	r.make("0", variant{})
	for _, broken := range brokenReleases {
		r.make(broken.version, broken.variant)
	}
	for version := range r.told {
		r.verity(version)
	}
	first, second := r.disk("1"), r.disk("2")
	r.install(first, "0", "")
	t.Run("Whole", func(t *testing.T) {
		t.Parallel()
		updateWhole(t, r, first).cuts(t, r)
	})
	for _, broken := range brokenReleases {
		t.Run("Fallback/"+strings.ReplaceAll(broken.how, " ", "_"), func(t *testing.T) {
			t.Parallel()
			disk := filepath.Join(t.TempDir(), "disk.raw")
			run(t, "cp", "--sparse=always", second, disk)
			fallBack(t, r, disk, broken)
		})
	}
}

// updateWhole updates a host from 1 to 2, in place of the 0 that it had before.
func updateWhole(t *testing.T, r *releases, fresh string) recording {
	disk := filepath.Join(t.TempDir(), "disk.raw")
	run(t, "cp", "--sparse=always", fresh, disk)
	o := newOperator(t, r, disk)
	o.record = true
	old, told, _ := o.boot()
	if told.Slots.Booted.Version != "1" || !told.Slots.Booted.Good {
		t.Fatalf("slots %+v", told.Slots)
	}
	started, before, begun := time.Now(), old.cpu(), o.written()
	m, told, boots := o.update(old, "2")
	if told.Slots.Booted.Version != "2" || told.Slots.Booted.Good {
		t.Fatalf("slots %+v after %d boots", told.Slots, boots)
	}
	heard := o.written()
	o.good(m, "2")
	// The figure is for a machine that has a processor for the guest; what others of this one's work take is not counted.
	spent := old.cpu() - before + m.cpu()
	t.Logf("from the download to good in the new slot: %s, %.0f s of processor time", time.Since(started).Round(time.Second), spent)
	if spent > (5 * time.Minute).Seconds() {
		t.Errorf("the update took %.0f s of processor time", spent)
	}
	m.kill()
	return record(t, fresh, o.logs, begun, heard)
}

// fallBack updates a host with 2 to a release that is broken: it is back at 2 by itself, after no more than three boots, and
// the rollout stops. What an update leaves on the disk takes the guest the longest part of this, so one of them does it for all.
func fallBack(t *testing.T, r *releases, disk string, broken brokenRelease) {
	o := newOperator(t, r, disk)
	var m *machine
	var told word
	var boots int
	if broken.staged {
		r.install(disk, broken.version, "+3-0")
		m, told, boots = o.boot()
	} else {
		m, _, _ = o.boot()
		m, told, boots = o.update(m, broken.version)
	}
	s := told.Slots
	if s.Booted.Version != "2" || s.Other.Version != broken.version || s.Other.TriesLeft != 0 || s.Other.Good || s.Next != "2" {
		t.Fatalf("slots %+v after %d boots", s, boots)
	}
	t.Logf("the host is back after %d boots of it", boots-1)
	if boots > 4 {
		t.Errorf("%s was booted %d times", broken.version, boots-1)
	}
	rolloutStops(t, broken.version, s)
	o.order("forget", broken.version)
	o.hears(m, "forgotten", func(told word) bool { return told.Done == "forget" && told.Slots.Other.Version == "" })
	m.kill()
}

// quick has a boot that nobody says to be good end after seconds. Only in releases that nobody will.
const quick, waits = "/usr/lib/systemd/system/muster-good.service.d/quick.conf", "[Service]\nTimeoutStartSec=20s\n"

// brokenRelease is one that does not do. Staged ones are on the host's disk as an update leaves them.
type brokenRelease struct {
	version, how string
	staged       bool
	variant
}

var brokenReleases = []brokenRelease{
	{"3", "no kernel", false, variant{words: "rdinit=/nothing root=/nothing"}},
	{"4", "no network", true, variant{files: map[string]string{
		"/etc/systemd/network/10-none.network": "[Match]\nName=*\n[Link]\nUnmanaged=yes\n", quick: waits,
	}}},
	{"5", "the agent crashes", true, variant{files: map[string]string{
		"/usr/lib/systemd/system/drive.service.d/crash.conf": "[Service]\nExecStart=\nExecStart=/bin/false\n", quick: waits,
	}}},
}
