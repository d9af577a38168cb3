package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
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
		{"runs, as far as its host has said", goalStopped, []api.UnitStatus{unit("a", "h", "running", "loaded", "")}, onItsWay},
		{"loaded for something else", goalLoaded, []api.UnitStatus{unit("a", "h", "running", "loaded", "")}, reached},
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
	synctest.Test(t, func(t *testing.T) {
		pending := unit("a", "", "pending", "launched", "no host fits")
		f := &fakeFleet{pace: time.Second, statuses: []api.Status{
			{},
			{Units: []api.UnitStatus{pending, unit("b", "h", "starting", "launched", "on its way")}},
			{Units: []api.UnitStatus{pending, unit("b", "h", "running", "launched", "")}},
			{Units: []api.UnitStatus{pending, unit("b", "h", "running", "launched", "")}},
			{Units: []api.UnitStatus{pending, unit("b", "h", "running", "launched", "")}},
			{Units: []api.UnitStatus{unit("a", "i", "running", "launched", ""), unit("b", "h", "running", "launched", "")}},
		}}
		var told []string
		entries, err := waitUnits(t.Context(), f, func(c change) {
			told = append(told, fmt.Sprintf("%d/%d %s", c.reached, c.total, c.line))
		}, []string{"a", "b"}, goalRunning, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) != 2 || entries[0].Host != "i" {
			t.Errorf("entries: %v", entries)
		}
		// What a unit waits for is told only when it lasts.
		want := []string{"1/2 b: running on h", "1/2 a: pending: no host fits", "2/2 a: running on i"}
		if diff := cmp.Diff(want, told); diff != "" {
			t.Error(diff)
		}
	})
}

// TestWaitUnitsGoesOn: when the host that answers is lost, another is asked.
// TestWaitUnitsOvertaken: when somebody else starts what is to stop, or something on its host does, waiting has an end.
func TestWaitUnitsOvertaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stops, starts := unit("a", "h", "stopping", "loaded", ""), unit("a", "h", "running", "launched", "")
		f := &fakeFleet{pace: time.Second, unit: api.Unit{Name: "a", Desired: "launched"}, statuses: []api.Status{
			{Units: []api.UnitStatus{stops}},
			{Units: []api.UnitStatus{starts}},
			{Units: []api.UnitStatus{starts}},
			{Units: []api.UnitStatus{starts}},
			{Units: []api.UnitStatus{starts}},
			{Units: []api.UnitStatus{starts}},
		}}
		began := time.Now()
		_, err := waitUnits(t.Context(), f, func(change) {}, []string{"a"}, goalStopped, time.Minute)
		if err == nil || !strings.Contains(err.Error(), "a is to be launched: somebody else has changed it meanwhile") {
			t.Errorf("got %v", err)
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("it took %v", took)
		}
		f = &fakeFleet{pace: time.Second, statuses: []api.Status{{Units: []api.UnitStatus{unit("a", "h", "running", "loaded", "")}}}}
		_, err = waitUnits(t.Context(), f, func(change) {}, []string{"a"}, goalStopped, time.Minute)
		if err == nil || !strings.Contains(err.Error(), "a goes on: it is only loaded, and something on its host has started it") {
			t.Errorf("got %v", err)
		}
	})
}

func TestWaitUnitsGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeFleet{breaks: true, statuses: []api.Status{
			{Units: []api.UnitStatus{unit("a", "h", "starting", "launched", "")}},
			{Units: []api.UnitStatus{unit("a", "h", "running", "launched", "")}},
		}}
		if _, err := waitUnits(t.Context(), f, func(change) {}, []string{"a"}, goalRunning, time.Minute); err != nil {
			t.Error(err)
		}
	})
}

// TestWaitUnitsRefused: a cluster that refuses to answer ends the wait with what it says.
func TestWaitUnitsRefused(t *testing.T) {
	refusal := api.Errorf(http.StatusForbidden, "use the right certificate", "no")
	_, err := waitUnits(t.Context(), &fakeFleet{err: refusal}, func(change) {}, []string{"a"}, goalRunning, time.Minute)
	if !errors.Is(err, refusal) {
		t.Errorf("%v", err)
	}
}

// silentFleet does not answer the first calls.
type silentFleet struct {
	fakeFleet
	calls int
}

var errSilent = api.Errorf(http.StatusServiceUnavailable, "start them", "the voters do not answer")

func (f *silentFleet) WatchStatus(ctx context.Context, yield func(api.Status) bool) error {
	if f.calls--; f.calls >= 0 {
		return errSilent
	}
	return f.fakeFleet.WatchStatus(ctx, yield)
}

// TestWaitUnitsOfSilentVoters: voters that do not answer for a while are waited for, and told when it lasts.
func TestWaitUnitsOfSilentVoters(t *testing.T) {
	for calls, want := range map[int]error{3: nil, 1000: errSilent} {
		synctest.Test(t, func(t *testing.T) {
			f := &silentFleet{calls: calls}
			f.statuses = []api.Status{{Units: []api.UnitStatus{unit("a", "h", "running", "launched", "")}}}
			if _, err := waitUnits(t.Context(), f, func(change) {}, []string{"a"}, goalRunning, time.Minute); !errors.Is(err, want) {
				t.Errorf("after %d silent calls: %v, want %v", calls, err, want)
			}
		})
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
