package simulation

import (
	"fmt"
	"slices"

	"github.com/musterhq/muster/agent/unitfile"
	"github.com/musterhq/muster/cluster/store"
)

// rolls checks rollouts as hosts see them: how many members of one are without the contents that they were just given. It
// does not ask what the leader knows of them.
type rolls struct {
	*world
	now map[string]*rolling // by unit
}

// rolling is one direction of one rollout.
type rolling struct {
	to      string            // contents
	others  map[string]bool   // members that had other contents; who is new has nothing that is changed
	given   map[string]bool   // members, by name and host, that were given them
	waiting map[string]string // of these, the machine of those that did not run with them yet
}

// schedules looks at rollouts after schedules have changed.
func (r *rolls) schedules() {
	for name, u := range r.server.tables.Units {
		roll := u.Record.Rollout
		if !roll.Active() {
			continue
		}
		to := roll.To
		if roll.Phase == store.PhaseBack {
			to = roll.From
		}
		is := r.now[name]
		if is == nil || is.to != to {
			is = &rolling{to: to, others: map[string]bool{}, given: map[string]bool{}, waiting: map[string]string{}}
			r.now[name] = is
			r.look(name, is, true)
		}
		r.look(name, is, false)
	}
}

// look notes which members have the contents of a rollout. Those that had them when it began were not given them by it.
func (r *rolls) look(name string, is *rolling, before bool) {
	for _, m := range r.machines {
		if _, alive := r.server.tables.Alive[m.host.ID]; !alive {
			for member, host := range is.waiting {
				if host == m.host.Name {
					delete(is.waiting, member) // nobody waits for it
				}
			}
		}
		for u := range r.server.tables.Schedule[m.host.ID].Record.Each() {
			member := r.member(name, u, m)
			if member == "" || is.given[member] {
				continue
			}
			if u.File != is.to {
				is.others[member] = true
				continue
			}
			is.given[member] = true
			if k := m.runtime.known[u.Name]; !before && is.others[member] && (k == nil || k.RunningHash != is.to) {
				is.waiting[member] = m.host.Name
			}
		}
	}
	if before {
		return
	}
	roll := r.server.tables.Units[name].Record.Rollout
	if size := max(roll.Parallel, 1); roll.Percent == 0 && len(is.waiting) > size {
		r.fail("%d members of the rollout of %s are changed at once, of %d that may be", len(is.waiting), name, size)
	}
}

// member is a member's name if a scheduled unit is one of a rollout.
func (r *rolls) member(name string, u store.ScheduledUnit, m *machine) string {
	if template, _ := unitfile.Template(u.Name); u.Name != name && template != name {
		return ""
	}
	if r.server.tables.Units[name].Record.Rollout.Kind == store.RollHosts {
		return m.host.Name
	}
	return u.Name
}

// active notes that a unit runs.
func (r *rolls) active(m *machine, k *unit) {
	name := k.Name
	if template, instance := unitfile.Template(name); instance {
		name = template
	}
	is := r.now[name]
	if is == nil || k.RunningHash != is.to {
		return
	}
	delete(is.waiting, k.Name)
	delete(is.waiting, m.host.Name)
}

// ended counts rollouts that are over by a change of the store.
func (r *rolls) ended(change store.Change) {
	for _, e := range change.Events {
		name, unit := store.KeyName(store.PrefixUnits, e.Key)
		if roll := r.server.tables.Units[name].Record.Rollout; unit && roll != nil && !roll.Active() && r.now[name] != nil {
			r.saw("rollouts that are " + string(roll.Phase))
			delete(r.now, name)
		}
	}
}

// unfinished says which rollout goes on, "" if none does.
func (r *rolls) unfinished() string {
	var names []string
	for name, u := range r.server.tables.Units {
		if roll := u.Record.Rollout; roll.Active() {
			names = append(names, fmt.Sprintf("the rollout of %s is %s", name, roll.Phase))
		}
	}
	if len(names) == 0 {
		return ""
	}
	return slices.Min(names)
}

// batch checks that rebalancing moves no more at a time than it may.
func (r *rolls) batch(was, is store.RebalanceRecord) {
	moves := 0
	for _, m := range is.Moved {
		moves += max(m.Instances.Len(), 1)
	}
	if is.At.Equal(was.At) || moves == 0 {
		return
	}
	units := 0
	for _, m := range r.machines {
		for range r.server.tables.Schedule[m.host.ID].Record.Each() {
			units++
		}
	}
	if share := r.server.tables.Cluster.Record.RebalanceShare(); moves > max(units*share/100, 1) || moves > was.Left {
		r.fail("rebalancing moves %d units at once, of %d, with %d left to move", moves, units, was.Left)
	}
	r.tell("rebalancing moves %d", moves)
	r.saw("batches of moves")
}
