package fleet

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/musterhq/muster/agent/schedule"
	"github.com/musterhq/muster/agent/unitfile"
	"github.com/musterhq/muster/cluster/instances"
	"github.com/musterhq/muster/cluster/store"
)

// Snapshot is what scheduling decisions are made from. rules are those of every wanted unit (Rules.Of). Members that were
// never seen are not part of it: nothing can be placed on them yet. now decides which drains are past their deadlines.
func (v View) Snapshot(rules map[string]unitfile.Requirements, now time.Time) schedule.Snapshot {
	var s schedule.Snapshot
	s.Placed, s.Spans = v.placed(rules)
	for _, h := range v.Members() {
		state := schedule.Lost
		switch {
		case v.Ready(h.ID):
			state = v.ordered(h.ID, now)
		case !v.Seen(h.ID):
			continue
		}
		facts := v.Hosts[h.ID].Record.Facts
		s.Hosts = append(s.Hosts, schedule.Host{
			ID: h.ID, Name: h.Name, Provider: h.Provider, State: state, Labels: h.Labels,
			MilliCPU: int64(facts.CPUs) * 1000, Memory: facts.MemoryBytes, Holds: v.Hosts[h.ID].Record.HoldMillis > 0,
			StopsCutOff: v.Hosts[h.ID].Record.StopsCutOff,
		})
	}
	for _, name := range slices.Sorted(maps.Keys(rules)) {
		u := schedule.Unit{Name: name, Requirements: rules[name]}
		if unitfile.IsTemplate(name) {
			u.Replicas = v.Units[name].Record.Replicas
		}
		s.Units = append(s.Units, u)
	}
	return s
}

// placed is where each unit is by the schedule, and instances of templates. Should two hosts have the same unit, as a
// leader that was cut short may have left it, the live one counts, then the one whose ID is first.
func (v View) placed(rules map[string]unitfile.Requirements) (map[string]string, []schedule.Span) {
	placed := map[string]string{}
	var spans []schedule.Span
	for _, id := range v.scheduledHosts() {
		for _, u := range v.Schedule[id].Record.Units {
			if u.Instances != nil {
				spans = append(spans, schedule.Span{Template: u.Name, Host: id, Instances: u.Instances})
				continue
			}
			if _, taken := placed[u.Name]; !taken && !rules[u.Name].Global {
				placed[u.Name] = id
			}
		}
	}
	return placed, distinct(spans, placed)
}

// scheduledHosts are the members that have a schedule: first those that live, each in the order of their IDs.
func (v View) scheduledHosts() []string {
	var live, lost []string
	for _, id := range slices.Sorted(maps.Keys(v.Schedule)) {
		_, member := v.Roster[id]
		switch {
		case v.Ready(id):
			live = append(live, id)
		case member:
			lost = append(lost, id)
		}
	}
	return append(live, lost...)
}

// distinct takes from spans the instances that are placed by their own names, or that are in a span before.
func distinct(spans []schedule.Span, placed map[string]string) []schedule.Span {
	named := map[string][]instances.Range{}
	for name := range placed {
		if template, n, ok := instances.Split(name); ok {
			named[template] = append(named[template], instances.Range{First: n, Last: n})
		}
	}
	taken := make(map[string]instances.Set, len(named))
	for template, ranges := range named {
		taken[template] = instances.Of(ranges...)
	}
	twice := overlapping(spans)
	for i := range spans {
		s := &spans[i]
		s.Instances = s.Instances.Minus(taken[s.Template])
		if twice[s.Template] {
			taken[s.Template] = taken[s.Template].Union(s.Instances)
		}
	}
	return slices.DeleteFunc(spans, func(s schedule.Span) bool { return len(s.Instances) == 0 })
}

// overlapping names the templates that have an instance in two spans.
func overlapping(spans []schedule.Span) map[string]bool {
	ranges := map[string][]instances.Range{}
	count := map[string]int{}
	for _, s := range spans {
		ranges[s.Template] = append(ranges[s.Template], s.Instances...)
		count[s.Template] += s.Instances.Len()
	}
	twice := map[string]bool{}
	for template, all := range ranges {
		twice[template] = instances.Of(all...).Len() < count[template]
	}
	return twice
}

// Schedules renders where units shall be, and the hosts of global units, as the schedule of each host. Hosts whose
// schedule would be empty and who have none yet are left out. A unit whose record cannot be read stays as it is: a newer
// muster may have written it. Replicas stay with the file that they have where sameRun says that what runs is the same: to
// have more of them restarts none. Units of Singleton=strict come to a host only when they can run on no other any more; gone
// are the hosts that have been without a session for longer than they may go on with theirs.
func (v View) Schedules(after schedule.Snapshot, global map[string][]string, sameRun func(a, b string) bool,
	gone map[string]bool,
) map[string]store.ScheduleRecord {
	r := renderer{View: v, sameRun: sameRun, units: make(map[string][]store.ScheduledUnit, len(v.Schedule))}
	r.handover = v.handover(after, gone)
	for id, was := range v.Schedule {
		for _, u := range r.handover.kept[id] {
			r.units[id] = append(r.units[id], u)
		}
		if _, member := v.Roster[id]; !member {
			continue
		}
		if r.units[id] == nil {
			r.units[id] = []store.ScheduledUnit{}
		}
		for _, u := range was.Record.Units {
			if v.Bad[store.UnitKey(u.Name)] != nil {
				r.units[id] = append(r.units[id], u)
			}
		}
	}
	replicas := map[site]instances.Set{}
	for name, id := range after.Placed {
		if _, own := v.Units[name]; own {
			r.addUnit(name, id)
		} else if template, n, ok := instances.Split(name); ok {
			at := site{id, template}
			replicas[at] = replicas[at].Union(instances.Of(instances.Range{First: n, Last: n}))
		}
	}
	for _, span := range after.Spans { // of a host two, if a rollout has changed some of its replicas
		at := site{span.Host, span.Template}
		replicas[at] = replicas[at].Union(span.Instances)
	}
	for at, set := range replicas {
		r.addReplicas(at, set)
	}
	for name, ids := range global {
		for _, id := range ids {
			r.addUnit(name, id)
		}
	}
	return r.records()
}

// site is a host and the name of a unit or template there.
type site struct{ host, name string }

// renderer makes schedules.
type renderer struct {
	View
	sameRun  func(a, b string) bool
	handover handover
	units    map[string][]store.ScheduledUnit // by host
}

// before is what a host's schedule has of a template so far.
func (r *renderer) before(at site) []store.ScheduledUnit {
	units := r.Schedule[at.host].Record.Units
	compare := func(u store.ScheduledUnit, name string) int { return cmp.Compare(u.Name, name) }
	i, _ := slices.BinarySearchFunc(units, at.name, compare)
	n := i
	for n < len(units) && units[n].Name == at.name {
		n++
	}
	return units[i:n]
}

func (r *renderer) addUnit(name, id string) {
	if r.handover.stays[name] {
		return
	}
	record := r.Units[name].Record
	file := record.File
	if roll := record.Rollout; roll.Active() && roll.Kind != store.RollFamily {
		file = roll.Given(1, id)
	}
	r.units[id] = append(r.units[id], store.ScheduledUnit{Name: name, File: file, Desired: record.Desired, Partition: record.Partition})
}

func (r *renderer) addReplicas(at site, set instances.Set) {
	record := r.Units[at.name].Record
	if roll := record.Rollout; roll.Active() && roll.Kind == store.RollReplicas {
		updated := set.Intersect(roll.Updated.Numbers)
		r.addReplicasOf(at, roll.To, updated)
		r.addReplicasOf(at, roll.From, set.Minus(updated))
		return
	}
	r.addReplicasOf(at, record.File, set)
}

// addReplicasOf gives replicas contents, or leaves them others of which what runs is the same.
func (r *renderer) addReplicasOf(at site, file string, set instances.Set) {
	record := r.Units[at.name].Record
	add := func(file string, set instances.Set) {
		if len(set) > 0 {
			r.units[at.host] = append(r.units[at.host],
				store.ScheduledUnit{Name: at.name, File: file, Desired: record.Desired, Instances: set, Partition: record.Partition})
		}
	}
	old := map[string]instances.Set{}
	for _, was := range r.before(at) {
		if was.File != file && r.sameRun(was.File, file) {
			old[was.File] = old[was.File].Union(was.Instances.Intersect(set))
			set = set.Minus(was.Instances)
		}
	}
	for file, kept := range old {
		add(file, kept)
	}
	add(file, set)
}

func (r *renderer) records() map[string]store.ScheduleRecord {
	records := make(map[string]store.ScheduleRecord, len(r.units))
	for id, units := range r.units {
		slices.SortFunc(units, func(a, b store.ScheduledUnit) int {
			return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.File, b.File))
		})
		records[id] = store.ScheduleRecord{V: store.RecordVersion, Units: units}
	}
	return records
}

// Schedulable is an error when records of hosts cannot be read: where units are, or may be, is not known then.
func (v View) Schedulable() error {
	for _, key := range slices.Sorted(maps.Keys(v.Bad)) {
		if _, unit := store.KeyName(store.PrefixUnits, key); !unit && key != store.KeyRebalance && key != store.KeyCluster && key != store.KeyVoters {
			return fmt.Errorf("cannot schedule while %s cannot be read: %w", key, v.Bad[key])
		}
	}
	return nil
}
