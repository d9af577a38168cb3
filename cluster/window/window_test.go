package window_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/musterhq/muster/cluster/window"
)

func at(text string) time.Time {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		panic(err)
	}
	return t
}

// Among the zones are some whose clocks leave out half an hour, midnight, or a whole day.
var zones = []string{
	"", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Sao_Paulo", "Asia/Kathmandu", "Pacific/Apia",
	"Africa/Casablanca", "America/St_Johns",
}

func draw(t *rapid.T) window.Window {
	return window.Window{
		Days:  rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"}), 0, 3, rapid.ID).Draw(t, "days"),
		Start: fmt.Sprintf("%02d:%02d", rapid.IntRange(0, 23).Draw(t, "hour"), 15*rapid.IntRange(0, 3).Draw(t, "quarter")),
		Last:  time.Duration(rapid.IntRange(1, 120).Draw(t, "last")) * time.Minute,
		Zone:  rapid.SampledFrom(zones).Draw(t, "zone"),
	}
}

// A window opens once on each of its days, when clocks there show its time or have just left it out, and lasts as it says.
func TestOpensOnceADay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := draw(t)
		zone, err := time.LoadLocation(w.Zone)
		if err != nil {
			t.Fatal(err)
		}
		now := at("2026-01-01T00:00:00Z").Add(time.Duration(rapid.IntRange(0, 365*24).Draw(t, "from")) * time.Hour)
		lastDay := ""
		for range 20 {
			open, next := w.State(now)
			if open {
				now = next
				continue
			}
			opens := next.In(zone)
			if day := opens.Format(time.DateOnly); day == lastDay {
				t.Fatalf("%s opens twice on %s", w, day)
			} else {
				lastDay = day
			}
			if len(w.Days) > 0 && !strings.Contains(strings.Join(w.Days, ","), opens.Format("Mon")) {
				t.Fatalf("%s opens on %s", w, opens)
			}
			if clock := opens.Format("15:04"); clock != w.Start && !(clock > w.Start && opens.Add(-time.Minute).In(zone).Format("15:04") < w.Start) {
				t.Fatalf("%s opens at %s", w, opens)
			}
			open, closes := w.State(next)
			if !open || closes.Sub(next) != w.Last {
				t.Fatalf("%s is open from %s to %s: %v", w, next, closes, open)
			}
			now = closes
		}
	})
}

// The nights on which clocks are changed.
func TestDaylightSaving(t *testing.T) {
	for _, tt := range []struct{ window, from, opens, closes string }{
		// 02:30 does not exist: from 03:00 on.
		{"02:30 1h Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-29T01:00:00Z", "2026-03-29T02:00:00Z"},
		{"02:30 1h Europe/Berlin", "2026-03-29T12:00:00Z", "2026-03-30T00:30:00Z", "2026-03-30T01:30:00Z"},
		{"01:30 1h Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z"},
		// 02:30 comes twice: at the first.
		{"02:30 1h Europe/Berlin", "2026-10-24T12:00:00Z", "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"},
		{"02:30 1h Europe/Berlin", "2026-10-25T01:30:00Z", "2026-10-26T01:30:00Z", "2026-10-26T02:30:00Z"},
		// A window that is open while clocks change lasts as it says.
		{"Sat 23:00 4h Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-28T22:00:00Z", "2026-03-29T02:00:00Z"},
		{"Sat 23:00 4h Europe/Berlin", "2026-10-24T12:00:00Z", "2026-10-24T21:00:00Z", "2026-10-25T01:00:00Z"},
		// The other side of the ocean changes on other days.
		{"02:30 1h America/New_York", "2026-03-07T12:00:00Z", "2026-03-08T07:00:00Z", "2026-03-08T08:00:00Z"},
		{"01:30 1h America/New_York", "2026-10-31T12:00:00Z", "2026-11-01T05:30:00Z", "2026-11-01T06:30:00Z"},
		// By half an hour.
		{"02:15 1h Australia/Lord_Howe", "2026-10-03T12:00:00Z", "2026-10-03T15:30:00Z", "2026-10-03T16:30:00Z"},
		// 30 December 2011 was left out, all of it.
		{"Fri 12:00 1h Pacific/Apia", "2011-12-29T12:00:00Z", "2012-01-05T22:00:00Z", "2012-01-05T23:00:00Z"},
		{"Sat 12:00 1h Pacific/Apia", "2011-12-29T12:00:00Z", "2011-12-30T22:00:00Z", "2011-12-30T23:00:00Z"},
	} {
		w, err := window.Parse(tt.window)
		if err != nil {
			t.Fatal(err)
		}
		before, opens := w.State(at(tt.from))
		open, closes := w.State(opens)
		if before || !open || !opens.Equal(at(tt.opens)) || !closes.Equal(at(tt.closes)) {
			t.Errorf("%s after %s: %s to %s, want %s to %s", tt.window, tt.from, opens, closes, tt.opens, tt.closes)
		}
	}
}

func TestParse(t *testing.T) {
	for text, want := range map[string]string{
		"23:00 2h": "23:00 2h0m0s", "Thu 23:00 1h30m": "Thu 23:00 1h30m0s", "Mon,fri 04:15 1h Europe/Berlin": "Mon,fri 04:15 1h0m0s Europe/Berlin",
		"": "", "23:00": "", "25:00 1h": "", "Foo 23:00 1h": "", "23:00 1h Mars/Base": "", "23:00 0s": "", "23:00 200h": "", "23:00 1h UTC x": "",
	} {
		w, err := window.Parse(text)
		switch {
		case (err != nil) != (want == ""):
			t.Errorf("%q: %v", text, err)
		case err == nil && w.String() != want:
			t.Errorf("%q is %q", text, w)
		case err != nil && !strings.Contains(err.Error(), "write it as"):
			t.Errorf("%q: no hint: %v", text, err)
		}
	}
}

// A window that was not checked and is none is never open.
func TestNoWindow(t *testing.T) {
	if open, next := (window.Window{Start: "at night"}).State(at("2026-11-03T12:00:00Z")); open || !next.IsZero() {
		t.Errorf("open: %v, next: %s", open, next)
	}
}
