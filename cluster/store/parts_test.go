package store_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/musterhq/muster/cluster/instances"
	"github.com/musterhq/muster/cluster/store"
)

var sum = strings.Repeat("5", 64)

// few is a scheduled set of instances.
func few(t interface{ Fatal(...any) }, template, set string) store.ScheduledUnit {
	s, err := instances.Parse(set)
	if err != nil {
		t.Fatal(err)
	}
	return store.ScheduledUnit{Name: template, File: sum, Desired: store.DesiredLaunched, Instances: s}
}

func TestPackedSchedule(t *testing.T) {
	record := store.ScheduleRecord{Units: []store.ScheduledUnit{few(t, "web@.service", "1-200000,200005")}}
	data, err := store.Marshal(record)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"v":2,"units":[{"n":"web@.service","f":"` + sum + `","d":"launched","i":"1-200000,200005"}]}`
	if string(data) != want {
		t.Errorf("got %s, want %s", data, want)
	}
	got, err := store.Unmarshal[store.ScheduleRecord](data)
	record.V = 2
	if d := cmp.Diff(record, got); d != "" || err != nil {
		t.Errorf("%v %s", err, d)
	}
	if _, err := store.Unmarshal[store.ScheduleRecord]([]byte(`{"v":4,"units":[]}`)); !errors.Is(err, store.ErrVersion) {
		t.Errorf("a fourth version: %v", err)
	}
	part, err := store.Marshal(store.ScheduleRecord{Part: true, Units: []store.ScheduledUnit{}})
	if want := `{"v":2,"p":true,"units":[]}`; err != nil || string(part) != want {
		t.Errorf("a part: %s, %v, want %s", part, err, want)
	}
}

func TestPackStates(t *testing.T) {
	at := func(seconds int64) time.Time { return time.Unix(seconds, 0).UTC() }
	state := func(name, active string, since int64) store.UnitState {
		return store.UnitState{Name: name, File: sum, Load: "loaded", Active: active, Sub: "running", Since: at(since)}
	}
	states := []store.UnitState{
		state("a.service", "active", 9), state("web@1.service", "active", 1), state("web@10.service", "active", 3),
		state("web@2.service", "active", 2), state("web@3.service", "failed", 4), state("web@x.service", "active", 5),
	}
	packed := store.PackStates(states)
	var lines []string
	for _, s := range packed {
		lines = append(lines, fmt.Sprintf("%s %s %s since %d", s.Name, s.Instances, s.Active, s.Since.Unix()))
	}
	want := []string{
		"a.service  active since 9", "web@.service 1-2,10 active since 3", "web@3.service  failed since 4",
		"web@x.service  active since 5",
	}
	if d := cmp.Diff(want, lines); d != "" {
		t.Error(d)
	}
	var names []string
	for s := range (store.StatesRecord{Units: packed}).Each() {
		names = append(names, s.Name+" "+s.Active)
	}
	slices.Sort(names)
	for i, s := range states {
		if names[i] != s.Name+" "+s.Active {
			t.Errorf("%v, want %s", names[i], s.Name)
		}
	}
}

// host is a host's records as a leader writes them.
type host struct {
	tables   *store.Tables
	revision int64
}

// write repacks the host's schedule and returns the bytes that were written, by part.
func (h *host) write(t *rapid.T, wanted []store.ScheduledUnit) map[int]int {
	h.revision++
	change := store.Change{Revision: h.revision}
	sizes := make(map[int]int)
	for n, r := range store.Repack(h.tables.Parts["h"], wanted) {
		item := store.Item{Key: store.PartKey(store.ScheduleKey("h"), n), ModRevision: h.revision}
		if r.Units == nil {
			change.Events = append(change.Events, store.Event{Item: item, Deleted: true})
			continue
		}
		data, err := store.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		item.Value, sizes[n] = data, len(data)
		change.Events = append(change.Events, store.Event{Item: item})
	}
	h.tables.Apply(change)
	return sizes
}

// genUnits draws what a host shall have, sorted as a schedule is.
func genUnits(t *rapid.T) []store.ScheduledUnit {
	units := map[string]store.ScheduledUnit{}
	for range rapid.IntRange(0, 120).Draw(t, "units") {
		name := fmt.Sprintf("unit-%d.service", rapid.IntRange(0, 150).Draw(t, "name"))
		desired := rapid.SampledFrom([]store.Desired{store.DesiredLoaded, store.DesiredLaunched}).Draw(t, "desired")
		units[name] = store.ScheduledUnit{Name: name, File: sum, Desired: desired}
	}
	for range rapid.IntRange(0, 3).Draw(t, "templates") {
		template := fmt.Sprintf("web%d@.service", rapid.IntRange(0, 3).Draw(t, "template"))
		first := rapid.IntRange(1, 5).Draw(t, "first")
		units[template] = few(t, template, fmt.Sprintf("%d-%d,%d", first, first+rapid.IntRange(1, 100).Draw(t, "more"), 1000))
	}
	var sorted []store.ScheduledUnit
	for _, name := range slices.Sorted(maps.Keys(units)) {
		sorted = append(sorted, units[name])
	}
	return sorted
}

// TestRepack: whatever a host's schedule was, after the parts are written it is what is wanted, no part is too large, and
// repeating it writes nothing.
func TestRepack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := host{tables: store.NewTables()}
		for range rapid.IntRange(1, 4).Draw(t, "changes") {
			wanted := genUnits(t)
			for n, size := range h.write(t, wanted) {
				if size > store.PartSize+64 {
					t.Fatalf("part %d has %d bytes", n, size)
				}
			}
			if d := cmp.Diff(wanted, h.tables.Schedule["h"].Record.Units, cmpopts.EquateEmpty()); d != "" {
				t.Fatal(d)
			}
			parts := h.tables.Parts["h"]
			for n, p := range parts {
				if p.Record.Part != (len(parts) > 1) || n != 0 && len(p.Record.Units) == 0 {
					t.Fatalf("part %d of %d: %+v", n, len(parts), p.Record)
				}
			}
			if again := h.write(t, wanted); len(again) > 0 {
				t.Fatalf("the same again writes %v", again)
			}
		}
	})
}

// TestRepackWritesLittle: of 200 distinct units, more than 20 kB, the change of one writes one part.
func TestRepackWritesLittle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := host{tables: store.NewTables()}
		var units []store.ScheduledUnit
		for i := range 200 {
			units = append(units, store.ScheduledUnit{
				Name: fmt.Sprintf("unit-%04d.service", i), File: sum, Desired: store.DesiredLaunched,
			})
		}
		total := 0
		for _, size := range h.write(t, units) {
			total += size
		}
		if total < 20_000 {
			t.Fatalf("all units are %d bytes, too few for the test", total)
		}
		i := rapid.IntRange(0, len(units)-1).Draw(t, "unit")
		switch rapid.SampledFrom([]string{"stop", "remove", "replace"}).Draw(t, "change") {
		case "stop":
			units[i].Desired = store.DesiredLoaded
		case "remove":
			units = slices.Delete(units, i, i+1)
		case "replace":
			units[i].Name += "x.service"
		}
		for n, size := range h.write(t, units) {
			if total -= size; size > store.PartSize+64 || total < 20_000-2*store.PartSize {
				t.Fatalf("part %d: %d bytes", n, size)
			}
		}
	})
}

func TestTablesWithOddParts(t *testing.T) {
	tables := store.NewTables()
	set := func(key, value string, revision int64) {
		tables.Read(store.View{Items: []store.Item{{Key: key, Value: []byte(value), ModRevision: revision}}, Revision: revision})
	}
	set("/muster/schedule/h", `{"v":2,"p":true,"units":[{"n":"b.service","f":"1","d":"loaded"}]}`, 1)
	set("/muster/schedule/h/1", `{"v":2,"p":true,"units":[{"n":"a.service","f":"2","d":"loaded"},{"n":"b.service","f":"3","d":"loaded"}]}`, 4)
	set("/muster/schedule/h/01", `{"v":1,"units":[]}`, 2)
	set("/muster/schedule/h/x", `{"v":1,"units":[]}`, 3)
	want := store.Entry[store.ScheduleRecord]{Revision: 4, Record: store.ScheduleRecord{V: 2, Units: []store.ScheduledUnit{
		{Name: "a.service", File: "2", Desired: store.DesiredLoaded}, {Name: "b.service", File: "1", Desired: store.DesiredLoaded},
	}}}
	if d := cmp.Diff(want, tables.Schedule["h"]); d != "" {
		t.Error(d)
	}
	set("/muster/schedule/h/1", `{"v":9}`, 5)
	if tables.Bad["/muster/schedule/h/1"] == nil || len(tables.Schedule["h"].Record.Units) != 1 {
		t.Errorf("with an unreadable part: %+v, %v", tables.Schedule["h"], tables.Bad)
	}
}

// TestRepackStates reports 200 units, and then that one of them has failed.
func TestRepackStates(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tables, revision := store.NewTables(), int64(0)
		report := func(states []store.UnitState) (written int) {
			revision++
			change := store.Change{Revision: revision}
			for n, r := range store.RepackStates(tables.StateParts["h"], states) {
				item := store.Item{Key: store.PartKey(store.StatesKey("h"), n), ModRevision: revision}
				if r.Units != nil {
					var err error
					if item.Value, err = store.Marshal(r); err != nil {
						t.Fatal(err)
					}
				}
				if len(item.Value) > store.PartSize+64 {
					t.Fatalf("part %d has %d bytes", n, len(item.Value))
				}
				written += len(item.Value)
				change.Events = append(change.Events, store.Event{Item: item, Deleted: r.Units == nil})
			}
			tables.Apply(change)
			if d := cmp.Diff(states, tables.States["h"].Record.Units); d != "" {
				t.Fatal(d)
			}
			return written
		}
		var states []store.UnitState
		for n := range 200 {
			states = append(states, store.UnitState{
				Name: fmt.Sprintf("unit-%04d.service", n), File: sum, Load: "loaded", Active: "active", Sub: "running",
				Since: time.Unix(1, 5).UTC(),
			})
		}
		if written := report(states); written < 20_000 {
			t.Fatalf("all are %d bytes, too few for the test", written)
		}
		n := rapid.IntRange(0, 199).Draw(t, "unit")
		states[n].Active, states[n].Reason, states[n].Since = "failed", `exit "1"`, time.Unix(2, 0).UTC()
		if written := report(states); written > 2*(store.PartSize+64) {
			t.Fatalf("one that failed writes %d bytes", written)
		}
		if written := report(states); written != 0 {
			t.Fatalf("nothing new writes %d bytes", written)
		}
		if report(states[:n]); n == 0 && len(tables.StateParts["h"]) != 1 {
			t.Fatalf("%d states are in %d parts", n, len(tables.StateParts["h"]))
		}
	})
}
