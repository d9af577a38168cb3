package fleet

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/musterhq/muster/agent/schedule"
	"github.com/musterhq/muster/agent/unitfile"
	"github.com/musterhq/muster/cluster/store"
)

// Snapshot is what scheduling decisions are made from. rules are those of every wanted unit (Rules.Of). Members that were
// never seen are not part of it: nothing can be placed on them yet.
func (v View) Snapshot(rules map[string]unitfile.Requirements) schedule.Snapshot {
	s := schedule.Snapshot{Placed: v.placed(rules)}
	for _, h := range v.Members() {
		state := schedule.Lost
		switch {
		case v.Ready(h.ID):
			state = schedule.Ready
		case !v.Seen(h.ID):
			continue
		}
		s.Hosts = append(s.Hosts, schedule.Host{
			ID: h.ID, Name: h.Name, Provider: h.Provider, State: state, Labels: h.Labels,
		})
	}
	for _, name := range slices.Sorted(maps.Keys(rules)) {
		s.Units = append(s.Units, schedule.Unit{Name: name, Requirements: rules[name]})
	}
	return s
}

// placed is where each unit is by the schedule. Should two hosts have the same unit, as a leader that was cut short may
// have left it, the live one counts, then the one whose ID is first.
func (v View) placed(rules map[string]unitfile.Requirements) map[string]string {
	placed := map[string]string{}
	for _, id := range slices.Sorted(maps.Keys(v.Schedule)) {
		if _, member := v.Roster[id]; !member {
			continue
		}
		for _, u := range v.Schedule[id].Record.Units {
			if rules[u.Name].Global {
				continue
			}
			if first, taken := placed[u.Name]; !taken || !v.Ready(first) && v.Ready(id) {
				placed[u.Name] = id
			}
		}
	}
	return placed
}

// Schedules renders where units shall be, unit → host, and the hosts of global units, as the record of each host. Hosts
// whose record would be empty and who have none yet are left out. A unit whose record cannot be read stays as it is: a
// newer muster may have written it.
func (v View) Schedules(placed map[string]string, global map[string][]string) map[string]store.ScheduleRecord {
	records := make(map[string]store.ScheduleRecord, len(v.Schedule))
	add := func(id string, units ...store.ScheduledUnit) {
		r, ok := records[id]
		if !ok {
			r = store.ScheduleRecord{V: store.RecordVersion, Units: []store.ScheduledUnit{}}
		}
		r.Units = append(r.Units, units...)
		records[id] = r
	}
	for id, was := range v.Schedule {
		if _, member := v.Roster[id]; !member {
			continue
		}
		add(id)
		for _, u := range was.Record.Units {
			if v.Bad[store.UnitKey(u.Name)] != nil {
				add(id, u)
			}
		}
	}
	scheduled := func(name string) store.ScheduledUnit {
		u := v.Units[name].Record
		return store.ScheduledUnit{Name: name, File: u.File, Desired: u.Desired}
	}
	for name, id := range placed {
		add(id, scheduled(name))
	}
	for name, ids := range global {
		for _, id := range ids {
			add(id, scheduled(name))
		}
	}
	for _, r := range records {
		slices.SortFunc(r.Units, func(a, b store.ScheduledUnit) int { return cmp.Compare(a.Name, b.Name) })
	}
	return records
}

// Schedulable is an error when records of hosts cannot be read: where units are, or may be, is not known then.
func (v View) Schedulable() error {
	for _, key := range slices.Sorted(maps.Keys(v.Bad)) {
		if _, unit := store.KeyName(store.PrefixUnits, key); !unit {
			return fmt.Errorf("cannot schedule while %s cannot be read: %w", key, v.Bad[key])
		}
	}
	return nil
}
