//go:build lab

package image

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
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
	url      string // as the guest has it
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
	return start(o.t, hardware{disk: o.disk, firmware: true, args: []string{
		"-smbios", "type=2,serial=" + o.url, "-device", "i6300esb", "-action", "watchdog=reset",
	}})
}

func (o *operator) order(do, version string) {
	o.t.Helper()
	next := order{Do: do, Release: update.Release{Version: version}}
	if do == "update" {
		next.Release = o.releases.release(version)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.next = next
}

// hears waits for a report of which want is true. It is false when the machine was reset or turned off before.
func (o *operator) hears(m *machine, what string, want func(word) bool) (word, bool) {
	o.t.Helper()
	late := time.NewTimer(patience)
	defer late.Stop()
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
		case <-late.C:
			o.t.Fatalf("no word of %q within %s", what, patience)
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

// TestUpdate updates a host from 1 to 2.
func TestUpdate(t *testing.T) {
	t.Parallel()
	r := newReleases(t, false)
	r.make("1", nil)
	r.make("2", nil)
	o := newOperator(t, r, r.disk("1"))
	m := o.on()
	if told, _ := o.hears(m, "first boot", anything); told.Slots.Booted.Version != "1" || !told.Slots.Booted.Good {
		t.Fatalf("slots %+v", told.Slots)
	}
	started := time.Now()
	m, told, boots := o.update(m, "2")
	if told.Slots.Booted.Version != "2" || boots != 1 || told.Slots.Booted.Good {
		t.Fatalf("slots %+v after %d boots", told.Slots, boots)
	}
	o.good(m, "2")
	t.Logf("from the download to good in the new slot: %s", time.Since(started).Round(time.Second))
}

// TestUpdateFallback updates a host with 2 to releases that are broken in different ways: it is back at 2 by itself, after no
// more than three boots of each.
func TestUpdateFallback(t *testing.T) {
	t.Parallel()
	r := newReleases(t, true)
	r.make("2", nil)
	o := newOperator(t, r, r.disk("2"))
	m := o.on()
	o.hears(m, "first boot", anything)
	for _, broken := range brokenReleases {
		r.make(broken.version, broken.files)
		if broken.words != "" {
			r.command(broken.version, broken.words)
		}
		back, told, boots := o.update(m, broken.version)
		m = back
		s := told.Slots
		if s.Booted.Version != "2" || s.Other.Version != broken.version || s.Other.TriesLeft != 0 || s.Other.Good || s.Next != "2" {
			t.Fatalf("%s: slots %+v after %d boots", broken.how, s, boots)
		}
		t.Logf("%s: the host is back after %d boots of it", broken.how, boots-1)
		if boots > 4 {
			t.Errorf("%s was booted %d times", broken.version, boots-1)
		}
		o.order("forget", broken.version)
		o.hears(m, "forgotten", func(told word) bool { return told.Done == "forget" && told.Slots.Other.Version == "" })
	}
}

// quick has a boot that nobody says to be good end after seconds. Only in releases that nobody will.
const quick, waits = "/usr/lib/systemd/system/muster-good.service.d/quick.conf", "[Service]\nTimeoutStartSec=20s\n"

var brokenReleases = []struct {
	version, how string
	words        string // for the kernel
	files        map[string]string
}{
	{version: "3", how: "no kernel", words: "rdinit=/nothing root=/nothing"},
	{version: "4", how: "no network", files: map[string]string{
		"/etc/systemd/network/10-none.network": "[Match]\nName=*\n[Link]\nUnmanaged=yes\n", quick: waits,
	}},
	{version: "5", how: "the agent crashes", files: map[string]string{
		"/usr/lib/systemd/system/drive.service.d/crash.conf": "[Service]\nExecStart=\nExecStart=/bin/false\n", quick: waits,
	}},
}
