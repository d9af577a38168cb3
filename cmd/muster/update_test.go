package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/cmd/muster/output"
)

// rolloutOf is a cluster of hosts, each "VERSION PHASE TARGET".
func rolloutOf(hosts ...string) api.Update {
	u := api.Update{Enabled: true, Hosts: []api.UpdateHost{}, History: []api.UpdateEvent{}}
	since := time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)
	for i, h := range hosts {
		words := append(strings.Fields(h), "", "")
		u.Hosts = append(u.Hosts, api.UpdateHost{
			Host: "node-" + string(rune('1'+i)), Version: words[0], Phase: words[1], Target: words[2], Since: since,
		})
	}
	return u
}

// TestRolloutSum tells how far hosts are.
func TestRolloutSum(t *testing.T) {
	for _, tt := range []struct {
		hosts []string
		want  string
	}{
		{nil, ""},
		{[]string{"1.0 idle", "1.0 idle"}, ""},
		{
			[]string{"1.0 idle", "1.0 draining 1.1", "1.0 locking 1.1", "1.0 locking 1.1"},
			"[....................] 0 of 4 hosts have release 1.1, 1 draining, 2 locking, 1 have not begun",
		},
		{[]string{"1.1 idle", "1.0 idle"}, "[##########..........] 1 of 2 hosts have release 1.1, 1 have not begun"},
		{[]string{"1.1 idle", "1.1 checking 1.1"}, "[##########..........] 1 of 2 hosts have release 1.1, 1 checking"},
		{[]string{"1.1 idle", "1.1 idle"}, ""},
	} {
		if got := rolloutSum(rolloutOf(tt.hosts...)); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.hosts, got, tt.want)
		}
	}
}

// TestUpdateWatch prints a line for each host that goes on, and how far all are, until it is interrupted.
func TestUpdateWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newSmallFleet()
		held := rolloutOf("1.0 failed", "1.1 idle")
		held.Hold = &api.UpdateHold{Version: "1.1", Host: "node-1", Reason: "not well in time"}
		f.updates = []api.Update{rolloutOf("1.0 idle", "1.0 idle"), rolloutOf("1.0 idle", "1.0 draining 1.1"), rolloutOf("1.0 idle", "1.1 idle"), held}
		ctx, cancel := context.WithCancel(t.Context())
		var out bytes.Buffer
		c := &cli{in: strings.NewReader(""), out: &out, err: &bytes.Buffer{}, format: output.Table, now: time.Now}
		c.connect = func(context.Context) (fleet, error) { return f, nil }
		ended := make(chan int)
		go func() { ended <- c.execute(ctx, []string{"update", "status", "--watch"}) }()
		time.Sleep(time.Minute)
		cancel()
		if status := <-ended; status != statusDone {
			t.Errorf("interrupted: status %d", status)
		}
		const want = `node-1 runs 1.0: idle
node-2 runs 1.0: idle
node-2 runs 1.0: draining 1.1
[....................] 0 of 2 hosts have release 1.1, 1 draining, 1 have not begun
node-2 runs 1.1: idle
[##########..........] 1 of 2 hosts have release 1.1, 1 have not begun
node-1 runs 1.0: failed
[##########..........] 1 of 2 hosts have release 1.1, 1 failed
held: release 1.1 failed on node-1: not well in time
`
		if got := out.String(); got != want {
			t.Errorf("got:\n%s", got)
		}
	})
}
