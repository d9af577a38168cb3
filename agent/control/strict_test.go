package control

import (
	"errors"
	"testing"
	"time"

	"github.com/musterhq/muster/agent/fleet"
	"github.com/musterhq/muster/cluster/store"
)

// TestForfeitNeedsAbsence takes a strict unit from a host that has not told that it stopped it: that is written only while
// the host has no session, whatever it was when it was decided.
func TestForfeitNeedsAbsence(t *testing.T) {
	c := newCluster(t)
	c.join(1)
	unit := store.ScheduledUnit{Name: "db.service", File: "f", Desired: store.DesiredLaunched, Partition: store.PartitionStrict}
	write(c, store.ScheduleKey(id(1)), store.Marshal[store.ScheduleRecord], store.ScheduleRecord{Units: []store.ScheduledUnit{unit}})
	c.commit(store.Delete(store.AliveKey(id(1))))
	v, err := fleet.Load(t.Context(), c, []string{store.PrefixSchedule, store.PrefixAlive, store.PrefixHosts, store.PrefixRoster}, false)
	if err != nil {
		t.Fatal(err)
	}
	conn := c.Client()
	defer conn.Close()
	session, err := conn.NewSession(t.Context(), sessionTTL)
	if err != nil {
		t.Fatal(err)
	}
	lead, err := conn.Campaign(t.Context(), store.PrefixLeader, "node-1", session)
	if err != nil {
		t.Fatal(err)
	}
	s := &schedulerRound{Scheduler: &Scheduler{Store: conn, Log: quiet()}, fence: lead.Fence(), unseen: map[string]change{}}
	forfeit := diff(v, map[string]store.ScheduleRecord{id(1): {Units: []store.ScheduledUnit{}}})
	if len(forfeit) != 1 || !forfeit[0].forfeits || forfeit[0].gains {
		t.Fatalf("decided: %+v", forfeit)
	}
	if removed := diff(v, nil); len(removed) != 1 || !removed[0].forfeits || !removed[0].gone {
		t.Errorf("decided of a host that is no member: %+v", removed)
	}
	write(c, store.AliveKey(id(1)), store.Marshal[store.Alive], store.Alive{})
	if _, err := s.commit(t.Context(), forfeit); !errors.Is(err, store.ErrConflict) {
		t.Errorf("the host is back, and loses the unit: %v", err)
	}
	c.commit(store.Delete(store.AliveKey(id(1))))
	write(c, store.HostKey(id(1)), store.Marshal[store.HostRecord], store.HostRecord{Announced: 1})
	if _, err := s.commit(t.Context(), forfeit); !errors.Is(err, store.ErrConflict) {
		t.Errorf("the host was back in between, and loses the unit: %v", err)
	}
	if v, err = fleet.Load(t.Context(), c, []string{store.PrefixSchedule, store.PrefixAlive, store.PrefixHosts}, false); err != nil {
		t.Fatal(err)
	}
	forfeit = diff(v, map[string]store.ScheduleRecord{id(1): {Units: []store.ScheduledUnit{}}})
	if _, err := s.commit(t.Context(), forfeit); err != nil {
		t.Errorf("while the host is away: %v", err)
	}
}

// TestAbsence counts for how long a host is away. Of a session that the leader did not see, the host's record tells.
func TestAbsence(t *testing.T) {
	const hold = 4 * time.Second
	unit := store.ScheduledUnit{Name: "db.service", File: "f", Desired: store.DesiredLaunched, Partition: store.PartitionStrict}
	view := func(created, announced int64) fleet.View {
		v := fleet.View{Tables: store.NewTables()}
		v.Schedule[id(1)] = store.Entry[store.ScheduleRecord]{Record: store.ScheduleRecord{Units: []store.ScheduledUnit{unit}}}
		if created != 0 {
			host := store.HostRecord{HoldMillis: hold.Milliseconds(), Announced: announced}
			v.Hosts[id(1)] = store.Entry[store.HostRecord]{Record: host, Created: created}
		}
		return v
	}
	back := view(1, 2)
	back.Alive[id(1)] = store.Entry[store.Alive]{}
	for name, c := range map[string]struct {
		between fleet.View // 2 s after the host was missed first
		then    fleet.View
		gone    time.Duration // when its strict units cannot run any more
	}{
		"away":                         {view(1, 1), view(1, 1), hold},
		"back and away":                {back, view(1, 2), 3*time.Second + hold},
		"back and away, unseen":        {view(1, 1), view(1, 2), 3*time.Second + hold},
		"removed":                      {view(0, 0), view(0, 0), hold},
		"removed, and another one now": {view(0, 0), view(5, 1), 3*time.Second + hold},
	} {
		a, began := newAbsences(), time.Unix(1e9, 0)
		a.gone(view(1, 1), began)
		a.gone(c.between, began.Add(2*time.Second))
		a.gone(c.then, began.Add(3*time.Second))
		gone, due := a.gone(c.then, began.Add(c.gone-time.Millisecond))
		if gone[id(1)] || !due.Equal(began.Add(c.gone)) {
			t.Errorf("%s: gone too soon, or due at %v", name, due.Sub(began))
		}
		if gone, _ := a.gone(c.then, began.Add(c.gone)); !gone[id(1)] {
			t.Errorf("%s: not gone after %v", name, c.gone)
		}
	}
}
