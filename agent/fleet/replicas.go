package fleet

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/cluster/instances"
	"github.com/musterhq/muster/cluster/store"
)

// maxListed is how many replicas of one template a status lists one by one. Of more it tells how many are in which state.
const maxListed = 1000

// crowds are the templates of which there are too many replicas to list.
func (v View) crowds() map[string]bool {
	counts := map[string]int{}
	for _, host := range v.Schedule {
		for _, u := range host.Record.Units {
			counts[u.Name] += u.Instances.Len()
		}
	}
	for _, host := range v.States {
		for _, u := range host.Record.Units {
			counts[u.Name] += u.Instances.Len()
		}
	}
	crowds := map[string]bool{}
	for template, n := range counts {
		if n > maxListed {
			crowds[template] = true
		}
	}
	return crowds
}

// replicaStatus is one entry for a template's replicas together.
func (v View) replicaStatus(template string, u store.UnitRecord, pending string) api.UnitStatus {
	states := v.replicaStates(template)
	placed := 0
	for _, n := range states {
		placed += n
	}
	c := &api.ReplicaCounts{
		Wanted: u.Replicas - v.ownReplicas(template, u.Replicas), Placed: placed, Running: states[api.UnitRunning],
		Failed: states[api.UnitFailed], Unhealthy: v.unhealthyReplicas(template),
	}
	if missing := c.Wanted - placed; missing > 0 {
		states[api.UnitPending] = missing
	}
	s := api.UnitStatus{Name: template, Desired: string(u.Desired), Replicas: c, State: worst(states)}
	s.Reason = describeReplicas(states, c.Wanted)
	if states[api.UnitPending] > 0 {
		s.Reason += ": " + cmp.Or(pending, "they wait to be scheduled")
	}
	return s
}

// ownReplicas is how many of a template's replicas are units by their own names.
func (v View) ownReplicas(template string, replicas int) int {
	own := 0
	for name := range v.Units {
		if of, n, ok := instances.Split(name); ok && of == template && n <= replicas {
			own++
		}
	}
	return own
}

// severity orders the states of replicas: the first that some replica is in is that of all together.
var severity = []string{
	api.UnitFailed, api.UnitPending, api.UnitUnknown, api.UnitStopping, api.UnitStarting, api.UnitRunning, api.UnitStopped,
	api.UnitExited,
}

func worst(states map[string]int) string {
	for _, state := range severity {
		if states[state] > 0 {
			return state
		}
	}
	return api.UnitInactive
}

// describeReplicas is such as "7 of 10 running, 1 failed, 2 pending".
func describeReplicas(states map[string]int, wanted int) string {
	parts := []string{fmt.Sprintf("%d of %d %s", states[api.UnitRunning], wanted, api.UnitRunning)}
	for _, state := range slices.Backward(severity) {
		if n := states[state]; n > 0 && state != api.UnitRunning {
			parts = append(parts, fmt.Sprintf("%d %s", n, state))
		}
	}
	return strings.Join(parts, ", ")
}

// replicaStates counts the replicas that have a host by their states.
func (v View) replicaStates(template string) map[string]int {
	states := map[string]int{}
	for id, host := range v.Schedule {
		if _, member := v.Roster[id]; !member {
			continue
		}
		var reported []store.UnitState
		for _, s := range v.States[id].Record.Units {
			if set := v.replicasIn(template, s.Name, s.Instances); len(set) > 0 {
				s.Instances = set
				reported = append(reported, s)
			}
		}
		for _, u := range host.Record.Units {
			if u.Instances = v.replicasIn(template, u.Name, u.Instances); len(u.Instances) > 0 {
				v.countReplicas(id, u, reported, states)
			}
		}
	}
	return states
}

// replicasIn is which replicas of a template an entry of a record is of.
func (v View) replicasIn(template, name string, set instances.Set) instances.Set {
	if name == template {
		return set
	}
	of, n, ok := instances.Split(name)
	if _, own := v.Units[name]; !ok || own || of != template {
		return nil
	}
	return instances.Of(instances.Range{First: n, Last: n})
}

// countReplicas adds the replicas of one entry of a host's schedule.
func (v View) countReplicas(id string, u store.ScheduledUnit, reported []store.UnitState, states map[string]int) {
	if !v.Ready(id) {
		states[api.UnitUnknown] += u.Instances.Len()
		return
	}
	silent := u.Instances
	for _, s := range reported {
		both := silent.Intersect(s.Instances)
		if len(both) == 0 {
			continue
		}
		state, _ := stateOf(u, s)
		states[state] += both.Len()
		silent = silent.Minus(both)
	}
	states[api.UnitStarting] += silent.Len()
}

// RecordOf is the record of a unit, or of the template whose replica it is.
func (v View) RecordOf(name string) (store.UnitRecord, bool) {
	if u, known := v.Units[name]; known {
		return u.Record, true
	}
	template, n, ok := instances.Split(name)
	u := v.Units[template].Record
	return u, ok && u.Replicated && n <= u.Replicas
}

// placementsOf is where the schedule has one unit, hosts in the order of their IDs.
func (v View) placementsOf(name string) []placement {
	template, n, replica := instances.Split(name)
	var where []placement
	for _, id := range slices.Sorted(maps.Keys(v.Schedule)) {
		if _, member := v.Roster[id]; !member {
			continue
		}
		for _, u := range v.Schedule[id].Record.Units {
			if u.Name == name && u.Instances == nil || replica && u.Name == template && u.Instances.Has(n) {
				where = append(where, placement{
					host: id, scheduled: store.ScheduledUnit{Name: name, File: u.File, Desired: u.Desired},
				})
			}
		}
	}
	return where
}
