package fleet

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/cluster/instances"
	"github.com/musterhq/muster/cluster/store"
)

// replicas is a cluster of three hosts, one of them lost, with a template.
func replicas(t *testing.T, wanted int) *recorder {
	r := newRecorder(t)
	r.host(1, true, true, true)
	r.host(2, true, true, true)
	r.host(3, true, false, true)
	put(r, store.UnitKey("web@.service"), store.Marshal[store.UnitRecord],
		store.UnitRecord{File: "f", Desired: store.DesiredLaunched, Replicated: true, Replicas: wanted})
	return r
}

func set(t *testing.T, text string) instances.Set {
	s, err := instances.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// have schedules instances of the template on a host.
func (r *recorder) have(t *testing.T, n int, file, some string) {
	put(r, store.ScheduleKey(id(n)), store.Marshal[store.ScheduleRecord], store.ScheduleRecord{Units: []store.ScheduledUnit{
		{Name: "web@.service", File: file, Desired: store.DesiredLaunched, Instances: set(t, some)},
	}})
}

func lines(list []api.UnitStatus) []string {
	var lines []string
	for _, s := range list {
		lines = append(lines, fmt.Sprintf("%s %s %s: %s", s.Name, s.Host, s.State, s.Reason))
	}
	return lines
}

func TestReplicaStatus(t *testing.T) {
	r := replicas(t, 9)
	r.unit("web@5.service", store.DesiredLaunched)
	r.have(t, 1, "f", "1-4")
	r.have(t, 3, "f", "6")
	r.states(1,
		store.UnitState{Name: "web@.service", File: "f", Active: "active", Sub: "running", Instances: set(t, "1-2")},
		store.UnitState{Name: "web@3.service", File: "f", Active: "failed", Sub: "failed", Reason: "exit status 1"},
	)
	r.states(2, store.UnitState{Name: "web@.service", File: "f", Active: "deactivating", Sub: "stop", Instances: set(t, "7-8")})
	status := r.v.Status(map[string]string{"web@.service": "no host has disk=ssd", "web@5.service": "no hosts"})
	want := []string{
		"web@.service  failed: 2 of 8 running, 1 starting, 1 unknown, 3 pending, 1 failed: no host has disk=ssd",
		"web@1.service node-1 running: ", "web@2.service node-1 running: ", "web@3.service node-1 failed: exit status 1",
		"web@4.service node-1 starting: scheduled, the host has not said anything of it yet",
		"web@5.service  pending: no hosts", "web@6.service node-3 unknown: host node-3 is lost",
		"web@7.service node-2 stopping: no longer wanted on this host",
		"web@8.service node-2 stopping: no longer wanted on this host",
	}
	if d := cmp.Diff(want, lines(status.Units)); d != "" {
		t.Error(d)
	}
	counts := &api.ReplicaCounts{Wanted: 8, Placed: 5, Running: 2, Failed: 1}
	if d := cmp.Diff(counts, status.Units[0].Replicas); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"web@.service", "web@5.service"}, r.v.Unplaced()); d != "" {
		t.Error(d)
	}
	if hosts := r.v.HostsOf("web@4.service"); len(hosts) != 1 || hosts[0].Name != "node-1" {
		t.Errorf("web@4.service is on %v", hosts)
	}
}

// TestManyReplicas are told together, and none of them one by one.
func TestManyReplicas(t *testing.T) {
	r := replicas(t, 5000)
	r.have(t, 1, "f", "1-3000")
	r.have(t, 2, "f", "3001-5000")
	r.states(1, store.UnitState{Name: "web@.service", File: "f", Active: "active", Sub: "running", Instances: set(t, "1-3000")})
	r.states(2, store.UnitState{Name: "web@.service", File: "f", Active: "active", Sub: "running", Instances: set(t, "3001-5000")})
	if d := cmp.Diff([]string{"web@.service  running: 5000 of 5000 running"}, lines(r.v.Status(nil).Units)); d != "" {
		t.Error(d)
	}
	if names := r.v.Unplaced(); names != nil {
		t.Errorf("%v are not placed", names)
	}
}
