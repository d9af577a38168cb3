package main

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/agent/api"
)

func unit(name, host, state, desired, reason string) api.UnitStatus {
	return api.UnitStatus{Name: name, Host: host, State: state, Desired: desired, Reason: reason}
}

func TestGoals(t *testing.T) {
	for _, tt := range []struct {
		name    string
		goal    goal
		entries []api.UnitStatus
		want    verdict
	}{
		{"not known yet", goalRunning, nil, onItsWay},
		{"runs", goalRunning, []api.UnitStatus{unit("a", "h", "running", "launched", "")}, reached},
		{"a oneshot is done", goalRunning, []api.UnitStatus{unit("a", "h", "exited", "launched", "")}, reached},
		{"starting", goalRunning, []api.UnitStatus{unit("a", "h", "starting", "launched", "")}, onItsWay},
		{"pending", goalRunning, []api.UnitStatus{unit("a", "", "pending", "launched", "no host")}, onItsWay},
		{"failed", goalRunning, []api.UnitStatus{unit("a", "h", "failed", "launched", "exit status 1")}, missed},
		{"failed before, not wanted yet", goalRunning, []api.UnitStatus{unit("a", "h", "failed", "loaded", "")}, onItsWay},
		{"runs here, starts there", goalRunning, []api.UnitStatus{
			unit("a", "h", "running", "launched", ""), unit("a", "i", "starting", "launched", ""),
		}, onItsWay},
		{"runs here, failed there", goalRunning, []api.UnitStatus{
			unit("a", "h", "running", "launched", ""), unit("a", "i", "failed", "launched", ""),
		}, missed},
		{"stopped", goalStopped, []api.UnitStatus{unit("a", "h", "stopped", "loaded", "")}, reached},
		{"stopped as a failure", goalStopped, []api.UnitStatus{unit("a", "h", "failed", "loaded", "")}, reached},
		{"stopping", goalStopped, []api.UnitStatus{unit("a", "h", "stopping", "loaded", "")}, onItsWay},
		{"not told to stop yet", goalStopped, []api.UnitStatus{unit("a", "h", "running", "launched", "")}, onItsWay},
		{"off its host", goalIdle, []api.UnitStatus{unit("a", "", "inactive", "inactive", "")}, reached},
		{"gone", goalGone, nil, reached},
		{"not gone", goalGone, []api.UnitStatus{unit("a", "h", "stopping", "inactive", "")}, onItsWay},
	} {
		if got := tt.goal.judge(tt.entries); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestWaitUnits(t *testing.T) {
	f := &fakeFleet{statuses: []api.Status{
		{},
		{Units: []api.UnitStatus{unit("a", "", "pending", "launched", "no host fits"), unit("b", "h", "starting", "launched", "")}},
		{Units: []api.UnitStatus{unit("a", "", "pending", "launched", "no host fits"), unit("b", "h", "running", "launched", "")}},
		{Units: []api.UnitStatus{unit("a", "i", "running", "launched", ""), unit("b", "h", "running", "launched", "")}},
	}}
	var out bytes.Buffer
	entries, err := waitUnits(t.Context(), f, tellLines(&out), []string{"a", "b"}, goalRunning, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 2 || entries[0].Host != "i" {
		t.Errorf("entries: %v", entries)
	}
	want := "a: pending: no host fits\nb: running on h\na: running on i\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestWaitUnitsStatus(t *testing.T) {
	running, failed := unit("a", "h", "running", "launched", ""), unit("b", "h", "failed", "launched", "exit status 3")
	pending := unit("c", "", "pending", "launched", "no host has label role=db")
	for _, tt := range []struct {
		name   string
		units  []api.UnitStatus
		names  []string
		status int
		text   string
	}{
		{"a part failed", []api.UnitStatus{running, failed}, []string{"a", "b"}, statusPartial, "b failed"},
		{"all failed", []api.UnitStatus{failed}, []string{"b"}, statusFailed, "b failed"},
		{"a part is late", []api.UnitStatus{running, pending}, []string{"a", "c"}, statusPartial, "c not running after 10ms"},
		{"all late", []api.UnitStatus{pending}, []string{"c"}, statusFailed, "c not running after 10ms"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := &fakeFleet{statuses: []api.Status{{Units: tt.units}}}
			_, err := waitUnits(t.Context(), f, tellLines(io.Discard), tt.names, goalRunning, 10*time.Millisecond)
			got := (*failure)(nil)
			if !errors.As(err, &got) || got.status != tt.status || got.Error() != tt.text || got.hint == "" {
				t.Errorf("%v", err)
			}
		})
	}
}
