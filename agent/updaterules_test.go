package agent

import (
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/agent/release"
	"github.com/musterhq/muster/cluster/store"
)

// What a host may is decided from the group's record alone, and a no says for what the host waits and when it asks again.
func TestAdmit(t *testing.T) {
	now := time.Date(2026, 11, 3, 12, 0, 0, 0, time.UTC) // a Tuesday
	canaries := map[string]string{"ring": "canary"}
	begun := store.UpdateRollout{Began: now.Add(-time.Hour)}
	well := store.UpdateRollout{Began: now.Add(-time.Hour), Canaries: 2, Well: 2, Soaked: now.Add(-30 * time.Minute)}
	for _, tt := range []struct {
		name    string
		r       store.UpdateRecord
		rollout store.UpdateRollout
		labels  map[string]string
		why     string // "" is admitted
		again   time.Duration
	}{
		{name: "no rules"},
		{name: "held", r: store.UpdateRecord{Hold: &store.UpdateHold{Version: "2.0.0"}}, why: "`muster update resume`", again: 10 * time.Minute},
		{name: "paused", r: store.UpdateRecord{Paused: true}, why: "paused", again: 10 * time.Minute},
		{name: "pinned", r: store.UpdateRecord{Pin: "1.5.0"}, why: "pinned to 1.5.0", again: 10 * time.Minute},
		{
			name: "a window soon", r: store.UpdateRecord{Settings: store.UpdateSettings{Windows: []string{"Tue 13:05 1h Europe/Berlin"}}},
			why: "the next opens 2026-11-03T12:05:00Z", again: 5 * time.Minute,
		},
		{
			name: "a window later", r: store.UpdateRecord{Settings: store.UpdateSettings{Windows: []string{"23:00 1h"}}},
			why: "the next opens 2026-11-03T23:00:00Z", again: 10 * time.Minute,
		},
		{name: "in a window", r: store.UpdateRecord{Settings: store.UpdateSettings{Windows: []string{"Tue 12:30 1h Europe/Berlin"}}}},
		{
			name: "a window that is none", r: store.UpdateRecord{Settings: store.UpdateSettings{Windows: []string{"at night"}}},
			why: "cannot be followed", again: 10 * time.Minute,
		},
		{
			name: "not counted yet", r: store.UpdateRecord{Settings: store.UpdateSettings{Canaries: canaries}},
			why: "has not begun", again: 10 * time.Minute,
		},
		{
			name: "canaries first", r: store.UpdateRecord{Settings: store.UpdateSettings{Canaries: canaries}},
			rollout: store.UpdateRollout{Began: now, Canaries: 2, Well: 1}, why: "1 of 2 are well", again: 10 * time.Minute,
		},
		{name: "a canary", r: store.UpdateRecord{Settings: store.UpdateSettings{Canaries: canaries}}, rollout: begun, labels: canaries},
		{
			name: "canaries soak", r: store.UpdateRecord{Settings: store.UpdateSettings{Canaries: canaries, SoakMillis: 33 * 60_000}},
			rollout: well, why: "others follow from 2026-11-03T12:03:00Z", again: 3 * time.Minute,
		},
		{name: "canaries have soaked", r: store.UpdateRecord{Settings: store.UpdateSettings{Canaries: canaries, SoakMillis: 60_000}}, rollout: well},
		{
			name: "over the budget", r: store.UpdateRecord{Settings: store.UpdateSettings{Budget: 1}},
			rollout: store.UpdateRollout{Began: now, Failed: map[string]time.Time{"b": now, "c": now}},
			why:     "it failed on 2 hosts, and 1 are borne", again: 10 * time.Minute,
		},
		{
			name: "within the budget", r: store.UpdateRecord{Settings: store.UpdateSettings{Budget: 1}},
			rollout: store.UpdateRollout{Began: now, Failed: map[string]time.Time{"b": now}},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.r.Rollouts = map[string]store.UpdateRollout{"agent/2.0.0": tt.rollout}
			tt.r.Resumed = 7
			p := admit(tt.r, release.Candidate{ID: "a", Labels: tt.labels, Version: "1.0.0"}, "agent", "2.0.0", now)
			if p.May != (tt.why == "") || !strings.Contains(p.Reason, tt.why) || p.Resumed != 7 {
				t.Errorf("got %+v", p)
			}
			if tt.why != "" && !p.Again.Equal(now.Add(tt.again)) {
				t.Errorf("it asks again after %s, not %s", p.Again.Sub(now), tt.again)
			}
		})
	}
}

func TestBears(t *testing.T) {
	now := time.Now()
	r := store.UpdateRecord{
		Settings: store.UpdateSettings{Budget: 1},
		Rollouts: map[string]store.UpdateRollout{"agent/2.0.0": {Failed: map[string]time.Time{"a": now}}},
	}
	if !bears(r, "a", "agent", "2.0.0") || bears(r, "b", "agent", "2.0.0") || bears(r, "a", "ab", "2.0.0") {
		t.Error("a failure within the budget is borne, and no other")
	}
	held := r
	held.Hold = &store.UpdateHold{}
	over := r
	over.Settings.Budget = 0
	if bears(held, "a", "agent", "2.0.0") || bears(over, "a", "agent", "2.0.0") {
		t.Error("a held rollout, or one over its budget, bears nothing")
	}
}
