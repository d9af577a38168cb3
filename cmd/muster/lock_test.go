package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/agent/api"
)

// locked is a cluster of which one host holds the lock and one waits.
type locked struct {
	*smallFleet
	ordered []string
}

func (f *locked) Locks(context.Context) ([]api.Lock, error) {
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	return []api.Lock{
		{
			Group: "default", Max: 1,
			Holders: []api.LockHolder{{ID: "id-1", Host: "node-1", Kind: "host", Since: noon, Reason: "update to 2"}},
			Waiting: []api.LockWaiter{{ID: "id-2", Host: "node-2", Reason: "1 of 1 places are held, by id-1"}},
			History: []api.LockEvent{{At: noon, What: "forced", ID: "id-3", By: "operator", Reason: "it burnt"}},
		},
		{Group: "web", Max: 2, Holders: []api.LockHolder{}, Waiting: []api.LockWaiter{}},
	}, nil
}

func (f *locked) OrderLock(_ context.Context, group, verb string, o api.LockOrder) error {
	f.ordered = append(f.ordered, fmt.Sprintf("%s %s %s %v %d %s", group, verb, o.Holder, o.Force, o.Max, o.Reason))
	if o.Holder == "node-9" {
		return api.Errorf(http.StatusConflict, "see `muster lock status`", "the lock of group default is refused: it votes")
	}
	return nil
}

func TestLock(t *testing.T) {
	for _, tt := range []struct {
		args   string
		status int
		order  string
		says   []string
	}{
		{"lock status", statusDone, "", []string{
			"group default: 1 of 1 held, 1 waiting", "node-1  holds (host)  2026-03-01T12:00:00Z  update to 2",
			"node-2  waits         -", "group web: 0 of 2 held",
		}},
		{"lock status --history", statusDone, "", []string{"forced", "id-3", "operator", "it burnt"}},
		{"lock status web", statusDone, "", []string{"group web"}},
		{"lock status nothing", statusFailed, "", []string{"nobody has used the lock of group `nothing`"}},
		{"lock hold node-1 --reason=disk", statusDone, "default hold node-1 false 0 disk", []string{"node-1 holds the lock of group default"}},
		{"lock hold node-9", statusFailed, "default hold node-9 false 0 ", []string{"it votes", "muster lock status"}},
		{"lock release node-1 -g web", statusDone, "web release node-1 false 0 ", []string{"no more"}},
		{"lock release node-1 --force", statusUsage, "", []string{"--reason"}},
		{"lock release node-1 --force --reason burnt", statusDone, "default release node-1 true 0 burnt", nil},
		{"lock max 3", statusDone, "default max  false 3 ", []string{"up to 3"}},
		{"lock max 0", statusDone, "default max  false 0 ", nil},
		{"lock max -1", statusUsage, "", nil},
		{"lock max many", statusUsage, "", []string{"`many` is no number"}},
		{"lock hold", statusUsage, "", nil},
		{"lock halt", statusUsage, "", []string{"unknown verb `halt`"}},
		{"__complete lock status ", statusDone, "", []string{"default", "web"}},
	} {
		f := &locked{smallFleet: newSmallFleet()}
		args := strings.Fields(tt.args)
		if strings.HasSuffix(tt.args, " ") {
			args = append(args, "")
		}
		status, out, errs := orders(t, f, args...)
		if status != tt.status || strings.Join(f.ordered, "\n") != tt.order {
			t.Errorf("muster %s: status %d, ordered %q\n%s%s", tt.args, status, f.ordered, out, errs)
		}
		for _, says := range tt.says {
			if !strings.Contains(out+errs, says) {
				t.Errorf("muster %s: %q is missing in\n%s%s", tt.args, says, out, errs)
			}
		}
	}
	_, out, _ := orders(t, &locked{smallFleet: newSmallFleet()}, "lock", "status", "-o", "json")
	var locks []api.Lock
	if err := json.Unmarshal([]byte(out), &locks); err != nil || len(locks) != 2 || locks[0].Waiting[0].Host != "node-2" {
		t.Errorf("%v: %s", err, out)
	}
}
