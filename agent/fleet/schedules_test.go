package fleet

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/agent/schedule"
	"github.com/musterhq/muster/agent/unitfile"
	"github.com/musterhq/muster/cluster/store"
)

// TestReplicasComeTogether ends a rollout: a host that has had some replicas with old and some with new contents has all of
// them with the same, and none is lost.
func TestReplicasComeTogether(t *testing.T) {
	r := replicas(t, 3)
	put(r, store.ScheduleKey(id(1)), store.Marshal[store.ScheduleRecord], store.ScheduleRecord{Units: []store.ScheduledUnit{
		{Name: "web@.service", File: "f", Desired: store.DesiredLaunched, Instances: set(t, "1,3")},
		{Name: "web@.service", File: "g", Desired: store.DesiredLaunched, Instances: set(t, "2")},
	}})
	s := r.v.Snapshot(map[string]unitfile.Requirements{"web@.service": {}}, time.Time{})
	got := r.v.Schedules(schedule.After(s, schedule.Decide(s)), nil, func(a, b string) bool { return a == b }, nil)
	want := []store.ScheduledUnit{
		{Name: "web@.service", File: "f", Desired: store.DesiredLaunched, Instances: set(t, "1-3")},
	}
	if d := cmp.Diff(want, got[id(1)].Units); d != "" {
		t.Error(d)
	}
}
