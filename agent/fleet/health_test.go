package fleet

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/cluster/store"
)

func TestUnhealthyUnits(t *testing.T) {
	r := replicas(t, 6)
	r.unit("a.service", store.DesiredLaunched)
	r.have(t, 1, "f", "1-4")
	r.states(1,
		store.UnitState{Name: "web@.service", File: "f", Active: "active", Sub: "running", Instances: set(t, "1-2"), Health: "healthy"},
		store.UnitState{
			Name: "web@.service", File: "f", Active: "active", Sub: "running", Instances: set(t, "3-4"), Health: "unhealthy",
			HealthReason: "it answers 503 Service Unavailable",
		},
	)
	r.states(3, store.UnitState{Name: "a.service", Active: "active", Sub: "running", Health: "unhealthy", HealthReason: "lost"})
	s := r.v.Status(nil)
	want := []string{"2 units are unhealthy: web@3.service on node-1 (it answers 503 Service Unavailable) and 1 more"}
	if d := cmp.Diff(want, s.Warnings); d != "" {
		t.Error(d)
	}
	health := map[string]string{}
	for _, u := range s.Units {
		if u.Replicas != nil && u.Replicas.Unhealthy != 2 {
			t.Errorf("%+v", u.Replicas)
		}
		if u.State == api.UnitRunning && u.Health != "" {
			health[u.Name] = u.Health
		}
	}
	all := map[string]string{"web@1.service": "healthy", "web@2.service": "healthy", "web@3.service": "unhealthy", "web@4.service": "unhealthy"}
	if d := cmp.Diff(all, health); d != "" {
		t.Error(d)
	}
}
