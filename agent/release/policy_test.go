package release_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/musterhq/muster/agent/release"
	"github.com/musterhq/muster/cluster/window"
)

func at(text string) time.Time {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		panic(err)
	}
	return t
}

func TestAdmits(t *testing.T) {
	old := release.Candidate{ID: "a", Version: "1.0"}
	canary := release.Candidate{ID: "c", Version: "1.0", Labels: map[string]string{"canary": "yes", "rack": "1"}}
	now := at("2026-11-03T12:00:00Z") // a Tuesday
	began := now.Add(-time.Hour)
	first := release.Policy{Canaries: map[string]string{"canary": "yes"}, Soak: 2 * time.Hour}
	for _, tt := range []struct {
		name   string
		policy release.Policy
		host   release.Candidate
		change func(*release.Rollout)
		why    string // "" is admitted
		next   string
	}{
		{name: "no rules", host: old},
		{name: "up to date", host: release.Candidate{Version: "1.1.0"}, why: "it runs 1.1"},
		{name: "newer", host: release.Candidate{Version: "2"}, why: "newer than 1.1"},
		{name: "paused", policy: release.Policy{Paused: true}, host: old, why: "paused"},
		{name: "pinned to it", policy: release.Policy{Pin: "1.1.0"}, host: old},
		{name: "pinned to another", policy: release.Policy{Pin: "1.0"}, host: old, why: "pinned to 1.0"},
		{name: "the first failure stops", host: old, change: func(r *release.Rollout) { r.Failed = 1 }, why: "failed on 1 host, and 0 are borne"},
		{name: "within the budget", policy: release.Policy{Budget: 2}, host: old, change: func(r *release.Rollout) { r.Failed = 2 }},
		{name: "over the budget", policy: release.Policy{Budget: 2}, host: old, change: func(r *release.Rollout) { r.Failed = 3 }, why: "stopped"},
		{name: "a failure stops canaries too", policy: first, host: canary, change: func(r *release.Rollout) { r.Failed = 1 }, why: "stopped"},
		{name: "a canary", policy: first, host: canary},
		{name: "after canaries", policy: first, host: old, why: "0 of 2 are well"},
		{name: "after some canaries", policy: first, host: old, change: func(r *release.Rollout) { r.Well = 1 }, why: "1 of 2 are well"},
		{
			name: "canaries soak", policy: first, host: old, why: "canaries go first; others follow from", next: "2026-11-03T13:30:00Z",
			change: func(r *release.Rollout) { r.Well, r.Soaked = 2, at("2026-11-03T11:30:00Z") },
		},
		{
			name: "canaries have soaked", policy: first, host: old,
			change: func(r *release.Rollout) { r.Well, r.Soaked = 2, at("2026-11-03T10:00:00Z") },
		},
		{name: "no canaries there", policy: first, host: old, change: func(r *release.Rollout) { r.Canaries = 0 }},
		{
			name: "a window ahead", policy: release.Policy{Windows: []window.Window{{Start: "23:00", Last: time.Hour, Zone: "Europe/Berlin"}}},
			host: old, why: "no window is open", next: "2026-11-03T22:00:00Z",
		},
		{
			name: "of two windows the next", host: old, why: "no window is open", next: "2026-11-03T20:00:00Z",
			policy: release.Policy{Windows: []window.Window{{Start: "23:00", Last: time.Hour}, {Start: "20:00", Last: time.Hour}}},
		},
		{
			name: "in a window", policy: release.Policy{Windows: []window.Window{{Days: []string{"Mon"}, Start: "23:00", Last: 14 * time.Hour}}},
			host: old, next: "2026-11-03T13:00:00Z",
		},
		{
			name: "soaked, then a window", host: old, why: "others follow from", next: "2026-11-03T15:00:00Z",
			policy: release.Policy{Canaries: first.Canaries, Soak: first.Soak, Windows: []window.Window{{Start: "15:00", Last: time.Hour}}},
			change: func(r *release.Rollout) { r.Well, r.Soaked = 2, at("2026-11-03T11:30:00Z") },
		},
		{name: "nonsense", policy: release.Policy{PerHour: 101}, host: old, why: "cannot be followed"},
		{
			name: "not begun", policy: release.Policy{PerHour: 10}, host: old, why: "has not begun",
			change: func(r *release.Rollout) { r.Began = time.Time{} },
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := release.Rollout{Version: "1.1", Began: began, Canaries: 2}
			if tt.change != nil {
				tt.change(&r)
			}
			ok, why, next := tt.policy.Admits(tt.host, now, r)
			if ok != (tt.why == "") || !strings.Contains(why, tt.why) {
				t.Errorf("admitted %v: %s; want %q", ok, why, tt.why)
			}
			if want := tt.next; want == "" && !next.IsZero() || want != "" && !next.Equal(at(want)) {
				t.Errorf("next is %s, want %q", next, want)
			}
		})
	}
}

// So many percent of the hosts begin in each hour, each host at a time of its own that nothing but host and version decides.
func TestPerHour(t *testing.T) {
	const hosts = 5000
	r := release.Rollout{Version: "1.1", Began: at("2026-11-03T12:00:00Z")}
	for _, percent := range []int{1, 10, 30, 100, 0} {
		p := release.Policy{PerHour: percent}
		for hour := 0; hour <= 12; hour++ {
			admitted := 0
			for i := range hosts {
				if ok, _, _ := p.Admits(release.Candidate{ID: fmt.Sprint("host-", i)}, r.Began.Add(time.Duration(hour)*time.Hour), r); ok {
					admitted++
				}
			}
			want := min(100, float64(percent*hour))
			if percent == 0 || percent == 100 {
				want = 100
			}
			if got := 100 * float64(admitted) / hosts; math.Abs(got-want) > 2 {
				t.Errorf("%d percent an hour: after %d hours %.1f percent, want %.0f", percent, hour, got, want)
			}
		}
	}
}

// A no that time alone changes says exactly when: not before, and then.
func TestAdmitsSaysWhen(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := release.Policy{
			PerHour: rapid.IntRange(0, 100).Draw(t, "percent"), Canaries: map[string]string{"canary": "yes"},
			Soak: time.Duration(rapid.IntRange(0, 100).Draw(t, "soak")) * time.Hour,
		}
		for range rapid.IntRange(0, 2).Draw(t, "windows") {
			p.Windows = append(p.Windows, drawWindow(t))
		}
		began := at("2026-03-20T12:00:00Z").Add(time.Duration(rapid.IntRange(0, 365*24*60).Draw(t, "began")) * time.Minute)
		r := release.Rollout{Version: "1.1", Began: began, Canaries: 1, Well: 1, Soaked: began.Add(time.Hour)}
		h := release.Candidate{ID: rapid.StringMatching(`[a-f0-9]{8}`).Draw(t, "host")}
		now := began.Add(time.Duration(rapid.IntRange(0, 20*24*60).Draw(t, "now")) * time.Minute)
		ok, why, next := p.Admits(h, now, r)
		if ok {
			return
		}
		if !next.After(now) {
			t.Fatalf("no (%s), and next is %s", why, next)
		}
		if ok, why, _ := p.Admits(h, next, r); !ok {
			t.Fatalf("not admitted at %s either: %s", next, why)
		}
		before := now.Add(time.Duration(rapid.Float64Range(0, 1).Draw(t, "part") * float64(next.Sub(now)-1)))
		if ok, _, _ := p.Admits(h, before, r); ok {
			t.Fatalf("admitted at %s, before %s", before, next)
		}
	})
}

var zones = []string{
	"", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Sao_Paulo", "Asia/Kathmandu", "Pacific/Apia",
	"Africa/Casablanca", "America/St_Johns",
}

func drawWindow(t *rapid.T) window.Window {
	return window.Window{
		Days:  rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"}), 0, 3, rapid.ID).Draw(t, "days"),
		Start: fmt.Sprintf("%02d:%02d", rapid.IntRange(0, 23).Draw(t, "hour"), 15*rapid.IntRange(0, 3).Draw(t, "quarter")),
		Last:  time.Duration(rapid.IntRange(1, 26*60).Draw(t, "last")) * time.Minute,
		Zone:  rapid.SampledFrom(zones).Draw(t, "zone"),
	}
}
