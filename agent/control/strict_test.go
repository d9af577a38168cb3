package control

import (
	"errors"
	"testing"

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
	v, err := fleet.Load(t.Context(), c, []string{store.PrefixSchedule, store.PrefixAlive, store.PrefixRoster}, false)
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
	if _, err := s.commit(t.Context(), forfeit); err != nil {
		t.Errorf("while the host is away: %v", err)
	}
}
