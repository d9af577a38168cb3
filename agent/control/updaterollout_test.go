package control

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/store"
)

// updating are tables of hosts that update from 1.0.0 to 2.0.0; the first two are canaries.
func updating(s store.UpdateSettings, hosts int) *store.Tables {
	t := store.NewTables()
	t.Updates[store.UpdateGroup] = store.Entry[store.UpdateRecord]{Record: store.UpdateRecord{Settings: s}, Revision: 1}
	for i := range hosts {
		id := fmt.Sprint(i)
		h := roster.Host{ID: id, Name: "h" + id}
		if i < 2 {
			h.Labels = map[string]string{"ring": "canary"}
		}
		t.Roster[id] = store.Entry[store.RosterRecord]{Record: store.RosterRecord{Host: h}}
		t.Alive[id] = store.Entry[store.Alive]{}
		tell(t, id, store.UpdateHostRecord{Engine: "agent", Version: "1.0.0", Phase: "staged", Target: "2.0.0"})
	}
	return t
}

func tell(t *store.Tables, id string, h store.UpdateHostRecord) {
	t.HostUpdates[id] = store.Entry[store.UpdateHostRecord]{Record: h}
}

// keep takes over what is counted, as the store would.
func keep(t *store.Tables, now time.Time) store.UpdateRollout {
	g := t.Updates[store.UpdateGroup]
	g.Record.Rollouts = rollouts(t, now)
	t.Updates[store.UpdateGroup] = g
	return g.Record.Rollouts["agent/2.0.0"]
}

func TestRollouts(t *testing.T) {
	began := time.Date(2026, 11, 3, 12, 0, 0, 0, time.UTC)
	at := func(minutes int) time.Time { return began.Add(time.Duration(minutes) * time.Minute) }
	tables := updating(store.UpdateSettings{Canaries: map[string]string{"ring": "canary"}, Budget: 1}, 4)
	updated := store.UpdateHostRecord{Engine: "agent", Version: "2.0.0", Phase: "idle"}
	failed := store.UpdateHostRecord{Engine: "agent", Version: "1.0.0", Phase: "failed", Failed: "2.0.0", Since: at(4)}
	for i, step := range []struct {
		change func()
		want   store.UpdateRollout
	}{
		{func() {}, store.UpdateRollout{Began: began, Canaries: 2}},
		{func() { tell(tables, "0", updated) }, store.UpdateRollout{Began: began, Canaries: 2, Well: 1}},
		{func() { tell(tables, "1", updated) }, store.UpdateRollout{Began: began, Canaries: 2, Well: 2, Soaked: at(2)}},
		{func() {}, store.UpdateRollout{Began: began, Canaries: 2, Well: 2, Soaked: at(2)}},
		{func() { tell(tables, "2", failed) }, store.UpdateRollout{
			Began: began, Canaries: 2, Well: 2, Soaked: at(2), Failed: map[string]time.Time{"2": at(4)},
		}},
		{func() { delete(tables.Alive, "0") }, store.UpdateRollout{
			Began: began, Canaries: 2, Well: 1, Failed: map[string]time.Time{"2": at(4)},
		}},
		{func() { tables.Alive["0"] = store.Entry[store.Alive]{} }, store.UpdateRollout{
			Began: began, Canaries: 2, Well: 2, Soaked: at(6), Failed: map[string]time.Time{"2": at(4)},
		}},
	} {
		step.change()
		if diff := cmp.Diff(step.want, keep(tables, at(i))); diff != "" {
			t.Errorf("step %d, -want +got\n%s", i, diff)
		}
	}
	g := tables.Updates[store.UpdateGroup].Record
	if !borne(g, "2", failed) {
		t.Error("one failure is within the budget")
	}
	failed.Since = at(9)
	tell(tables, "3", failed)
	keep(tables, at(9))
	if g = tables.Updates[store.UpdateGroup].Record; borne(g, "3", failed) {
		t.Error("two failures are over the budget")
	}
	if after := forgiven(g.Rollouts); len(after["agent/2.0.0"].Failed) != 0 || len(g.Rollouts["agent/2.0.0"].Failed) != 2 {
		t.Errorf("after an operator resumed it: %+v", after)
	}
	g.Settings = store.UpdateSettings{}
	if tables.Updates[store.UpdateGroup] = (store.Entry[store.UpdateRecord]{Record: g}); rollouts(tables, at(9)) != nil || borne(g, "2", failed) {
		t.Error("without rules nothing is counted, and nothing borne")
	}
}

// A group remembers few releases, and those that hosts are about to take first.
func TestRolloutsAreBounded(t *testing.T) {
	tables := updating(store.UpdateSettings{PerHour: 10}, 3)
	g := tables.Updates[store.UpdateGroup]
	g.Record.Rollouts = map[string]store.UpdateRollout{}
	for i := range 3 * keptRollouts {
		g.Record.Rollouts[fmt.Sprintf("agent/1.%d.0", i)] = store.UpdateRollout{Began: time.Unix(int64(i), 0)}
	}
	tables.Updates[store.UpdateGroup] = g
	all := rollouts(tables, time.Unix(1000, 0))
	if _, wanted := all["agent/2.0.0"]; !wanted || len(all) != keptRollouts+1 {
		t.Errorf("%d are kept: %v", len(all), all)
	}
	if _, newest := all[fmt.Sprintf("agent/1.%d.0", 3*keptRollouts-1)]; !newest {
		t.Error("the newest is forgotten")
	}
}
