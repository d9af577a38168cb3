package main

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/cmd/muster/output"
)

// orders runs one command line against a cluster.
func orders(t *testing.T, f fleet, args ...string) (status int, out, errs string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	c := &cli{in: strings.NewReader(""), out: &stdout, err: &stderr, format: output.Table, now: time.Now}
	c.connect = func(context.Context) (fleet, error) { return f, nil }
	return c.execute(t.Context(), args), stdout.String(), stderr.String()
}

func TestOrders(t *testing.T) {
	f := newSmallFleet()
	for _, tt := range []struct {
		args   string
		status int
		says   string
	}{
		{"hosts cordon node-1", statusDone, "node-1: cordoned\n"},
		{"hosts cordon node-1 node-1", statusDone, "node-1: was cordoned already\n"},
		{"hosts uncordon node-1", statusDone, "node-1: takes units again\n"},
		{"hosts uncordon node-1", statusDone, "node-1: takes units already\n"},
		{
			"drain node-1", statusDone, "node-1: is being drained\nnode-1 goes on voting: only its units move\n" +
				"`muster hosts` tells what is left on node-1; --wait waits for it\n",
		},
		{"drain node-1 --wait", statusDone, "node-1: was being drained already\nnode-1 goes on voting: only its units move\nnode-1: drained\n"},
		{"hosts drain node-1 --wait", statusDone, "node-1: was being drained already\nnode-1 goes on voting: only its units move\nnode-1: drained\n"},
		{"hosts cordon noed-1", statusUsage, "did you mean `node-1`"},
		{"drain database", statusUsage, "the cluster has no host `database`"},
		{"drain", statusUsage, "needs the name of a host"},
		{"drain node-1 --deadline -1s", statusUsage, "a deadline in the past"},
		{"hosts cordon", statusUsage, "needs the name of a host"},
	} {
		status, out, errs := orders(t, f, strings.Fields(tt.args)...)
		said := out
		if tt.status != statusDone {
			said = errs
		}
		if status != tt.status || !strings.Contains(said, tt.says) || tt.status == statusDone && said != tt.says {
			t.Errorf("muster %s: status %d, %q, want %d, %q", tt.args, status, out+errs, tt.status, tt.says)
		}
	}
	_, out, _ := orders(t, f, "drain", "node-1", "-o", "json")
	var hosts []api.HostStatus
	if err := json.Unmarshal([]byte(out), &hosts); err != nil || len(hosts) != 1 || hosts[0].Order != api.OrderDrained {
		t.Errorf("-o json: %v in %s", err, out)
	}
}

// emptying is a cluster whose hosts are drained as its statuses tell.
type emptying struct{ *fakeFleet }

func (f emptying) Status(context.Context) (api.Status, error) { return f.statuses[0], nil }

func (f emptying) OrderHost(context.Context, string, api.HostOrder) (api.Outcome, error) {
	return api.Changed, nil
}

func host(name, order string, remaining int) api.HostStatus {
	return api.HostStatus{ID: name, Name: name, State: api.HostReady, Order: order, Remaining: remaining}
}

func TestAwaitEmpty(t *testing.T) {
	hosts := func(hosts ...api.HostStatus) api.Status { return api.Status{Hosts: hosts} }
	draining, drained := api.OrderDraining, api.OrderDrained
	for _, tt := range []struct {
		name     string
		statuses []api.Status
		status   int
		says     []string
	}{
		{"step by step", []api.Status{
			hosts(host("a", "", 0), host("b", "", 0)),
			{Stale: true},
			hosts(host("a", draining, 2), host("b", draining, 1)),
			hosts(host("a", draining, 1), host("b", drained, 0)),
			hosts(host("a", drained, 0), host("b", drained, 0)),
		}, statusDone, []string{"a: 2 units left\n", "b: 1 unit left\n", "b: drained\na: drained\n"}},
		{"a host is taken away", []api.Status{
			hosts(host("a", draining, 2), host("b", draining, 1)), hosts(host("b", drained, 0)),
		}, statusDone, []string{"b: drained\n"}},
		{"one is stuck", []api.Status{
			{
				Hosts: []api.HostStatus{host("a", draining, 1), host("b", drained, 0)},
				Units: []api.UnitStatus{unit("x.service", "a", "running", "launched", "")},
			},
		}, statusPartial, []string{"a not empty after 10m0s: x.service left", "`muster why x.service`"}},
		{"both are", []api.Status{hosts(host("a", draining, 1), host("b", draining, 7))}, statusFailed, []string{"a, b not empty"}},
		{"somebody else", []api.Status{
			hosts(host("a", draining, 1), host("b", draining, 1)), hosts(host("a", "", 0), host("b", api.OrderCordoned, 0)),
		}, statusFailed, []string{"a, b not drained", "somebody else"}},
	} {
		synctest.Test(t, func(t *testing.T) {
			first := tt.statuses[0]
			f := emptying{&fakeFleet{pace: time.Second, statuses: append([]api.Status{first}, tt.statuses...)}}
			if tt.name == "step by step" {
				f.statuses = tt.statuses[1:]
				f.statuses[0] = first // what Status tells; then it is stale for a moment
				f.statuses[0].Stale = true
			}
			status, out, errs := orders(t, f, "drain", "a", "b", "--wait")
			if status != tt.status {
				t.Errorf("%s: status %d, want %d: %s%s", tt.name, status, tt.status, out, errs)
			}
			for _, says := range tt.says {
				if !strings.Contains(out+errs, says) {
					t.Errorf("%s: %q is missing in\n%s%s", tt.name, says, out, errs)
				}
			}
		})
	}
}
