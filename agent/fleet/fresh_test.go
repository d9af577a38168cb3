package fleet

import (
	"testing"

	"github.com/musterhq/muster/agent/schedule"
	"github.com/musterhq/muster/cluster/store"
)

// TestFreshStore does not say where strict units ran before it: they wait until no host can have them any more.
func TestFreshStore(t *testing.T) {
	r := newRecorder(t)
	r.host(1, true, true, true)
	put(r, store.KeyCluster, store.Marshal[store.Cluster], store.Cluster{Fresh: true})
	put(r, store.UnitKey("db.service"), store.Marshal[store.UnitRecord],
		store.UnitRecord{File: "f", Desired: store.DesiredLaunched, Partition: store.PartitionStrict})
	after := schedule.Snapshot{Placed: map[string]string{"db.service": id(1)}}
	same := func(a, b string) bool { return a == b }
	if got := r.v.Schedules(after, nil, same, nil); len(got) != 0 {
		t.Errorf("it is scheduled already: %v", got)
	}
	put(r, store.KeyCluster, store.Marshal[store.Cluster], store.Cluster{})
	if got := r.v.Schedules(after, nil, same, nil); len(got[id(1)].Units) != 1 {
		t.Errorf("it is not scheduled: %v", got)
	}
}
