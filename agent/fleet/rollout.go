package fleet

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/agent/rollout"
	"github.com/musterhq/muster/agent/unitfile"
	"github.com/musterhq/muster/cluster/instances"
	"github.com/musterhq/muster/cluster/store"
)

// Roll is what is observed of a rollout.
type Roll struct {
	rollout.Observed
	// Names are the members that have names and no numbers, as of RollHosts and RollFamily: number 1 is the first.
	Names   []string
	Updated instances.Set // have the new contents
}

// Roll observes the members of a unit that has a rollout. sameRun is Rules.SameRun.
func (v View) Roll(name string, sameRun func(a, b string) bool) Roll {
	record := v.Units[name].Record
	o := observer{View: v, unit: name, record: record, roll: record.Rollout, sameRun: sameRun}
	o.Why = map[int]string{}
	switch o.roll.Kind {
	case store.RollHosts:
		o.hosts()
	case store.RollFamily:
		o.family()
	case store.RollReplicas:
		o.replicas()
	default:
		o.All, o.Updated = instances.UpTo(1), o.roll.Updated.Numbers
		o.seats(name, 1, record.Desired)
	}
	o.Absent = o.All.Minus(o.present)
	return o.Roll
}

// observer gathers a Roll.
type observer struct {
	Roll
	View
	unit    string
	record  store.UnitRecord
	roll    *store.Rollout
	sameRun func(a, b string) bool
	present instances.Set
}

func (o *observer) hosts() {
	for _, id := range slices.Sorted(maps.Keys(o.Schedule)) {
		if _, member := o.Roster[id]; !member {
			continue
		}
		if i := slices.IndexFunc(o.Schedule[id].Record.Units, o.isUnit); i >= 0 {
			o.Names = append(o.Names, id)
			n := len(o.Names)
			if o.roll.Updated.HasName(id) {
				o.Updated = o.Updated.Union(one(n))
			}
			o.seat(n, id, o.Schedule[id].Record.Units[i], o.record.Desired)
		}
	}
	o.All = instances.UpTo(len(o.Names))
}

func (o *observer) isUnit(u store.ScheduledUnit) bool { return u.Name == o.unit && u.Instances == nil }

// family are the instances whose records have one of the two contents.
func (o *observer) family() {
	for _, name := range slices.Sorted(maps.Keys(o.Units)) {
		record := o.Units[name].Record
		if template, ok := unitfile.Template(name); !ok || template != o.unit || record.File != o.roll.From && record.File != o.roll.To {
			continue
		}
		o.Names = append(o.Names, name)
		n := len(o.Names)
		if record.File == o.roll.To {
			o.Updated = o.Updated.Union(one(n))
		}
		o.seats(name, n, record.Desired)
	}
	o.All = instances.UpTo(len(o.Names))
}

// seats takes in where one unit is.
func (o *observer) seats(name string, n int, desired store.Desired) {
	for _, p := range o.placementsOf(name) {
		o.seat(n, p.host, p.scheduled, desired)
	}
}

// seat takes in one member that is one unit on a host.
func (o *observer) seat(n int, host string, scheduled store.ScheduledUnit, desired store.Desired) {
	if !o.Ready(host) || desired != store.DesiredLaunched {
		return
	}
	o.present = o.present.Union(one(n))
	for _, s := range o.States[host].Record.Units {
		template, number, ok := instances.Split(scheduled.Name)
		if s.Name == scheduled.Name && s.Instances == nil || ok && s.Name == template && s.Instances.Has(number) {
			o.judge(one(n), host, scheduled, s)
		}
	}
}

func (o *observer) replicas() {
	o.All, o.Updated = instances.UpTo(o.record.Replicas), o.roll.Updated.Numbers
	for name := range o.Units {
		if template, n, ok := instances.Split(name); ok && template == o.unit {
			o.All = o.All.Minus(one(n))
		}
	}
	for id, host := range o.Schedule {
		if !o.Ready(id) || o.record.Desired != store.DesiredLaunched {
			continue
		}
		for _, u := range host.Record.Units {
			some := o.replicasIn(o.unit, u.Name, u.Instances).Intersect(o.All)
			o.present = o.present.Union(some)
			for _, s := range o.States[id].Record.Units {
				if both := o.replicasIn(o.unit, s.Name, s.Instances).Intersect(some); len(some) > 0 && len(both) > 0 {
					o.judge(both, id, u, s)
				}
			}
		}
	}
}

// judge says of members that are on one host and of which it says the same how they are.
func (o *observer) judge(set instances.Set, host string, scheduled store.ScheduledUnit, s store.UnitState) {
	for _, of := range []struct {
		file string
		set  instances.Set
		new  bool
	}{{o.roll.To, set.Intersect(o.Updated), true}, {o.roll.From, set.Minus(o.Updated), false}} {
		if len(of.set) == 0 {
			continue
		}
		if of.new && s.Since.After(o.Latest) {
			o.Latest = s.Since
		}
		if scheduled.File != s.File || !o.sameRun(scheduled.File, of.file) {
			continue
		}
		good, bad, why := verdict(scheduled, s, of.new && o.roll.Health)
		switch {
		case good:
			o.Observed.Ready = o.Observed.Ready.Union(of.set)
			continue
		case bad:
			o.Observed.Bad = o.Observed.Bad.Union(of.set)
		}
		if n := of.set[0].First; why != "" {
			o.Why[n] = o.call(n) + " on " + o.Roster[host].Record.Name + " " + why
		}
	}
}

// verdict says of a unit with the contents that it shall have whether it is well, or will not be by waiting.
func verdict(want store.ScheduledUnit, s store.UnitState, checked bool) (good, bad bool, why string) {
	state, reason := stateOf(want, s)
	switch {
	case state == api.UnitExited:
		return true, false, ""
	case state == api.UnitFailed:
		return false, true, "failed: " + reason
	case state != api.UnitRunning:
		return false, false, strings.TrimSuffix("is "+state+": "+reason, ": ")
	case s.Health == store.HealthUnhealthy:
		return false, true, "is unhealthy: " + s.HealthReason
	case s.Health == store.HealthStarting || checked && s.Health == "":
		return false, false, strings.TrimSuffix("is not healthy yet: "+s.HealthReason, ": ")
	}
	return true, false, ""
}

// call is a member as people know it.
func (o *observer) call(n int) string {
	switch o.roll.Kind {
	case store.RollReplicas:
		return instances.Name(o.unit, n)
	case store.RollFamily:
		return o.Names[n-1]
	}
	return o.unit
}

func one(n int) instances.Set { return instances.Set{{First: n, Last: n}} }

// TellRollout tells of the rollout of a unit, or of the template whose instance it is; "" if there was none.
func (v View) TellRollout(name string) string {
	template, _ := unitfile.Template(name)
	for _, of := range []string{name, template} {
		if r := v.Units[of].Record.Rollout; r != nil {
			return v.tellRollout(of, r).Text()
		}
	}
	return ""
}

// rollouts are what the status tells of rollouts, and what it warns of.
func (v View) rollouts() (list []api.Rollout, warnings []string) {
	for _, name := range slices.Sorted(maps.Keys(v.Units)) {
		r := v.Units[name].Record.Rollout
		if r == nil {
			continue
		}
		told := v.tellRollout(name, r)
		if list = append(list, told); r.Paused || r.Phase == store.PhaseBack || r.Phase == store.PhaseFailed {
			warnings = append(warnings, told.Text())
		}
	}
	return list, warnings
}

func (v View) tellRollout(name string, r *store.Rollout) api.Rollout {
	told := api.Rollout{
		Unit: name, Phase: string(r.Phase), Paused: r.Paused, Reason: r.Reason, From: r.From, To: r.To, Parallel: r.Parallel,
		Percent: r.Percent, Started: r.Started.Truncate(time.Second),
	}
	if !r.Ended.IsZero() {
		ended := r.Ended.Truncate(time.Second)
		told.Ended = &ended
	}
	roll := v.Roll(name, func(a, b string) bool { return a == b })
	told.Total = roll.All.Len()
	switch updated := roll.Updated.Intersect(roll.All); {
	case r.Active():
		told.Updated, told.Ready = updated.Len(), updated.Intersect(roll.Observed.Ready).Len()
	case r.Phase == store.PhaseDone:
		told.Updated, told.Ready = told.Total, told.Total
	}
	told.Paused = told.Paused && r.Active()
	told.What = cmp.Or(map[store.RolloutKind]string{store.RollHosts: "hosts", store.RollUnit: "units"}[r.Kind], "instances")
	return told
}
