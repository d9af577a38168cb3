package store_test

import (
	"strings"
	"testing"

	"github.com/musterhq/muster/cluster/store"
)

// TestPartitionVersions stores what an older muster would not obey in versions that it refuses, and nothing else.
func TestPartitionVersions(t *testing.T) {
	for _, c := range []struct {
		unit     store.UnitRecord
		schedule store.ScheduledUnit
		v, vs    string
	}{
		{v: `{"v":1,`, vs: `{"v":1,`},
		{store.UnitRecord{Partition: store.PartitionStop}, store.ScheduledUnit{Partition: store.PartitionStop}, `{"v":2,`, `{"v":3,`},
		{store.UnitRecord{Partition: store.PartitionStrict}, store.ScheduledUnit{Leaving: 7}, `{"v":2,`, `{"v":3,`},
	} {
		unit, err := store.Marshal(c.unit)
		if back, e := store.Unmarshal[store.UnitRecord](unit); err != nil || e != nil || back.Partition != c.unit.Partition ||
			!strings.HasPrefix(string(unit), c.v) {
			t.Errorf("%s, %v, %v", unit, err, e)
		}
		schedule, err := store.Marshal(store.ScheduleRecord{Units: []store.ScheduledUnit{c.schedule}})
		if back, e := store.Unmarshal[store.ScheduleRecord](schedule); err != nil || e != nil || !back.Units[0].Equal(c.schedule) ||
			!strings.HasPrefix(string(schedule), c.vs) {
			t.Errorf("%s, %v, %v", schedule, err, e)
		}
	}
	a, b := store.ScheduledUnit{Name: "a"}, store.ScheduledUnit{Name: "a", Partition: store.PartitionStop}
	if c := (store.ScheduledUnit{Name: "a", Leaving: 1}); a.Equal(b) || a.Equal(c) {
		t.Error("units that differ are the same")
	}
}
