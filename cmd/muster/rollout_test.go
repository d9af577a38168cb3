package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/agent/api"
)

// rolling is a cluster with rollouts in each phase.
func rolling() *smallFleet {
	f := newSmallFleet("web@.service launched", "web@1.service launched", "db.service launched", "agent.service launched")
	ended := time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)
	f.rollouts = []api.Rollout{
		{Unit: "agent.service", Phase: "done", What: "hosts", Total: 3, Updated: 3, Ready: 3, Percent: 25, Ended: &ended},
		{Unit: "db.service", Phase: "failed", What: "units", Total: 1, Parallel: 1, Reason: "db.service on node-1 is unhealthy: exit status 1", Ended: &ended},
		{Unit: "web@.service", Phase: "updating", What: "instances", Total: 6, Updated: 2, Ready: 1, Parallel: 2},
	}
	return f
}

func TestRolloutStatus(t *testing.T) {
	const head = "UNIT           PHASE     UPDATED  WELL  AT A TIME  REASON\n"
	for _, tt := range []struct {
		args   string
		status int
		want   string // standard output, or a part of standard error when the status is not 0
	}{
		{"rollout status", statusDone, head +
			"agent.service  done      3 of 3   3     25%        -\n" +
			"db.service     failed    0 of 1   0     1          db.service on node-1 is unhealthy: exit status 1\n" +
			"web@.service   updating  2 of 6   1     2          -\n"},
		{"rollout status web@", statusDone, "UNIT          PHASE     UPDATED  WELL  AT A TIME  REASON\nweb@.service  updating  2 of 6   1     2          -\n"},
		{"rollout status web@1", statusDone, "UNIT          PHASE     UPDATED  WELL  AT A TIME  REASON\nweb@.service  updating  2 of 6   1     2          -\n"},
		{"rollout status lb", statusFailed, "lb.service has no rollout"},
		{"rollout status a b", statusUsage, "unexpected argument `b`"},
		{"rollout status --watch --wait", statusUsage, "--watch goes on for ever, --wait ends"},
		{"rollout pause", statusUsage, "the name of a unit"},
		{"rollout halt web@", statusUsage, "halt"},
		{"rollout pause lb", statusFailed, "lb.service has no rollout"},
	} {
		status, out, errs := orders(t, rolling(), strings.Fields(tt.args)...)
		if status != tt.status || status == statusDone && out != tt.want || status != statusDone && !strings.Contains(errs, tt.want) {
			t.Errorf("muster %s: status %d, want %d and %q\n%s%s", tt.args, status, tt.status, tt.want, out, errs)
		}
	}
	status, out, _ := orders(t, newSmallFleet(), "rollout", "status")
	if status != statusDone || out != "no rollouts; `muster rollout --help` tells how to have one\n" {
		t.Errorf("none: status %d, %q", status, out)
	}
}

// TestRolloutJSON holds what programs read of rollouts.
func TestRolloutJSON(t *testing.T) {
	status, out, errs := orders(t, rolling(), "rollout", "status", "-o", "json")
	var list []api.Rollout
	if err := json.Unmarshal([]byte(out), &list); err != nil || status != statusDone {
		t.Fatalf("status %d, %v\n%s%s", status, err, out, errs)
	}
	if d := cmp.Diff(rolling().rollouts, list); d != "" {
		t.Error(d)
	}
	var raw []map[string]any
	if err := json.Unmarshal([]byte(out), &raw); err != nil {
		t.Fatal(err)
	}
	hasFields(t, "", raw[2], map[string]any{
		"unit": "", "phase": "", "paused": false, "reason": "", "what": "", "total": 0.0, "updated": 0.0, "ready": 0.0,
		"parallel": 0.0, "from": "", "to": "", "started": "",
	})
	if _, out, _ := orders(t, newSmallFleet(), "rollout", "status", "-o", "json"); strings.TrimSpace(out) != "[]" {
		t.Errorf("none: %q", out)
	}
	if status, out, _ := orders(t, rolling(), "rollout", "status", "db", "-o", "yaml"); status != statusDone || !strings.Contains(out, "phase: failed") {
		t.Errorf("YAML: status %d, %q", status, out)
	}
}

// TestRolloutVerbs: what a verb is told is what the cluster hears, of exactly the unit that was named.
func TestRolloutVerbs(t *testing.T) {
	f := rolling()
	for _, tt := range []struct{ verb, phase string }{
		{"pause", "updating (paused)"}, {"resume", "updating"}, {"undo", "undone"},
	} {
		if status, out, errs := orders(t, f, "rollout", tt.verb, "web@"); status != statusDone || out != "" {
			t.Errorf("%s: status %d\n%s%s", tt.verb, status, out, errs)
		}
		if _, out, _ := orders(t, f, "rollout", "status", "web@"); !strings.Contains(out, "web@.service  "+tt.phase+"  ") {
			t.Errorf("after %s:\n%s", tt.verb, out)
		}
	}
	if got := strings.Join(f.turned, ", "); got != "pause web@.service, resume web@.service, undo web@.service" {
		t.Errorf("the cluster heard %s", got)
	}
}

// TestRolloutWait ends with what became of it: done, rolled back, or paused.
func TestRolloutWait(t *testing.T) {
	for _, tt := range []struct {
		unit   string
		status int
		says   string
	}{
		{"agent", statusDone, "rollout of agent.service is done"},
		{"db", statusFailed, "failed and was rolled back: db.service on node-1 is unhealthy"},
		{"web@", statusFailed, "`muster rollout resume web@.service` goes on"},
		{"lb", statusFailed, "lb.service has no rollout"},
	} {
		f := rolling()
		f.rollouts[2].Paused = true
		status, out, errs := orders(t, f, "rollout", "status", tt.unit, "--wait")
		if status != tt.status || !strings.Contains(out+errs, tt.says) {
			t.Errorf("%s: status %d, want %d and %q\n%s%s", tt.unit, status, tt.status, tt.says, out, errs)
		}
	}
}
