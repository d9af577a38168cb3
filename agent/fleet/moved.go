package fleet

import (
	"fmt"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/cluster/instances"
	"github.com/musterhq/muster/cluster/store"
)

// MovedPrefixes are what Unsettled needs of all hosts.
var MovedPrefixes = []string{store.PrefixStates, store.PrefixSchedule, store.PrefixAlive, store.PrefixRoster}

// Unsettled says what of the units that moved does not run yet where they went, "" if all do or are as they shall be. What
// is not there any more, because it was stopped or its host was lost, is settled.
func (v View) Unsettled(moved []store.MovedUnit) string {
	hosts := map[string]map[string]bool{}
	for _, m := range moved {
		if !v.Ready(m.To) {
			continue
		}
		if hosts[m.To] == nil {
			hosts[m.To] = map[string]bool{}
		}
		for name := range namesOf(m) {
			hosts[m.To][name] = true
		}
	}
	for id, names := range hosts {
		states := map[string]store.UnitState{}
		for s := range v.States[id].Record.Each() {
			states[s.Name] = s
		}
		for u := range v.Schedule[id].Record.Each() {
			if !names[u.Name] {
				continue
			}
			s, said := states[u.Name]
			state, reason := api.UnitStarting, ""
			if said {
				state, reason = stateOf(u, s)
			}
			switch state {
			case api.UnitRunning, api.UnitExited, api.UnitStopped:
			default:
				return unsettled(u.Name, v.Roster[id].Record.Name, state, reason)
			}
		}
	}
	return ""
}

func unsettled(unit, host, state, reason string) string {
	text := fmt.Sprintf("%s is %s on %s", unit, state, host)
	if reason != "" {
		text += ": " + reason
	}
	return text
}

// namesOf yields the units of a move.
func namesOf(m store.MovedUnit) func(func(string) bool) {
	return func(yield func(string) bool) {
		if m.Instances == nil {
			yield(m.Unit)
			return
		}
		for n := range m.Instances.All() {
			if !yield(instances.Name(m.Unit, n)) {
				return
			}
		}
	}
}

// MovedTo is how rebalancing moved a unit to a host, if that was the last that it did.
func (v View) MovedTo(unit, host string) (store.MovedUnit, bool) {
	template, n, replica := instances.Split(unit)
	for _, m := range v.Rebalance.Record.Moved {
		same := m.Unit == unit && m.Instances == nil || replica && m.Unit == template && m.Instances.Has(n)
		if same && m.To == host {
			return m, true
		}
	}
	return store.MovedUnit{}, false
}
