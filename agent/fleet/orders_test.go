package fleet

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/agent/schedule"
	"github.com/musterhq/muster/cluster/store"
)

func (r *recorder) order(n int, order store.Order, deadline ...time.Time) {
	record := store.OrderRecord{Order: order, Since: time.Unix(1000, 0).UTC()}
	if len(deadline) > 0 {
		record.Deadline = &deadline[0]
	}
	put(r, store.OrderKey(id(n)), store.Marshal[store.OrderRecord], record)
}

// TestOrdersInSnapshot: what was ordered decides the state of hosts that live, a deadline from its moment on.
func TestOrdersInSnapshot(t *testing.T) {
	r := newRecorder(t)
	for n := range 7 {
		r.host(n+1, true, n != 5, true)
	}
	soon, later, now := time.Unix(2000, 0).UTC(), time.Unix(3000, 0).UTC(), time.Unix(1999, 0).UTC()
	r.order(2, store.OrderCordon)
	r.order(3, store.OrderDrain)
	r.order(4, store.OrderDrain, later)
	r.order(5, store.OrderDrain, soon)
	r.order(6, store.OrderDrain, soon) // lost
	r.order(9, store.OrderDrain, now.Add(1))
	states := func(now time.Time) (states []schedule.HostState) {
		for _, h := range r.v.Snapshot(nil, now).Hosts {
			states = append(states, h.State)
		}
		return states
	}
	for _, c := range []struct {
		now  time.Time
		want []schedule.HostState
		next time.Time
	}{
		{now, []schedule.HostState{0, schedule.Cordoned, schedule.Draining, schedule.Draining, schedule.Draining, schedule.Lost, 0}, soon},
		{soon, []schedule.HostState{0, schedule.Cordoned, schedule.Draining, schedule.Draining, schedule.Drained, schedule.Lost, 0}, later},
		{later, []schedule.HostState{0, schedule.Cordoned, schedule.Draining, schedule.Drained, schedule.Drained, schedule.Lost, 0}, time.Time{}},
	} {
		if d := cmp.Diff(c.want, states(c.now)); d != "" {
			t.Errorf("at %v: %s", c.now, d)
		}
		if next := r.v.NextDeadline(c.now); !next.Equal(c.next) {
			t.Errorf("at %v: the next deadline is %v, want %v", c.now, next, c.next)
		}
	}
}

// TestOrdersInStatus counts what has still to leave: what is scheduled, and what the host has not given up.
func TestOrdersInStatus(t *testing.T) {
	r := replicas(t, 9)
	put(r, store.UnitKey("all.service"), store.Marshal[store.UnitRecord], store.UnitRecord{File: "f", Desired: store.DesiredLaunched, Global: true})
	r.unit("a.service", store.DesiredLaunched)
	r.schedule(2, "a.service", "all.service")
	r.states(2,
		store.UnitState{Name: "a.service"}, store.UnitState{Name: "all.service"}, store.UnitState{Name: "old.service"},
		store.UnitState{Name: "web@.service", Instances: set(t, "1-3")},
	)
	r.have(t, 1, "f", "1-6")
	r.states(1, store.UnitState{Name: "web@.service", Instances: set(t, "3-7")}, store.UnitState{Name: "web@2.service"})
	r.have(t, 3, "f", "7")
	r.states(3, store.UnitState{Name: "a.service"}) // lost, of before
	check := func(n int, order string, units, remaining int) {
		t.Helper()
		h := r.v.Status(nil).Hosts[n-1]
		if h.Order != order || h.Units != units || h.Remaining != remaining || (h.OrderedAt != nil) != (order != "") {
			t.Errorf("host %d: %+v, want %q, %d units, %d remaining", n, h, order, units, remaining)
		}
	}
	check(1, "", 7, 0)
	check(2, "", 6, 0)
	check(3, "", 1, 0)
	r.order(1, store.OrderCordon)
	r.order(2, store.OrderDrain)
	r.order(3, store.OrderDrain)
	check(1, api.OrderCordoned, 7, 0)
	check(2, api.OrderDraining, 6, 5)
	check(3, api.OrderDraining, 1, 1)
	r.schedule(2, "all.service", "web@2.service", "web@3.service") // which the host tells of together
	check(2, api.OrderDraining, 6, 5)
	r.schedule(2, "all.service")
	r.states(2, store.UnitState{Name: "all.service"})
	check(2, api.OrderDrained, 1, 0)
}
