package schedule

import (
	"path"
	"slices"
)

// displaced names the units that are beside one that replaces them.
func (o *oracle) displaced() []string {
	var displaced []string
	for _, u := range o.units {
		id := o.placed[u.Name]
		if id != "" && slices.ContainsFunc(o.units, func(by Unit) bool { return o.placed[by.Name] == id && o.replaces(by, u) }) {
			displaced = append(displaced, u.Name)
		}
	}
	return displaced
}

// replaces says whether a unit makes another one leave.
func (o *oracle) replaces(a, b Unit) bool {
	return o.is("Replaces") && a.Name != b.Name && !b.Requirements.Global &&
		slices.ContainsFunc(a.Requirements.Replaces, func(p string) bool {
			ok, _ := path.Match(p, b.Name)
			return ok
		})
}

// giveWay takes units from the hosts of those that replace them, if those stay.
func (o *oracle) giveWay() {
	var goes func(u Unit, chain int) bool
	goes = func(u Unit, chain int) bool {
		id := o.placed[u.Name]
		return id != "" && slices.ContainsFunc(o.units, func(by Unit) bool {
			if o.placed[by.Name] != id || !o.replaces(by, u) {
				return false
			}
			return !o.is("replaced in order") || chain > len(o.units) || !goes(by, chain+1)
		})
	}
	var leaving []string
	for _, u := range o.units {
		if goes(u, 0) {
			leaving = append(leaving, u.Name)
		}
	}
	for _, name := range leaving {
		delete(o.placed, name)
	}
}

// team is a unit and all that it must be with.
func (o *oracle) team(u Unit, known map[string]bool) []Unit {
	known[u.Name] = true
	team := []Unit{u}
	for _, name := range u.Requirements.MachineOf {
		if peer := o.unit(name); peer != nil && !known[name] && o.is("circles through peers") {
			team = append(team, o.team(*peer, known)...)
		}
	}
	return team
}

// circular finds the units that make each other leave for ever: those from which pushing others leads back to them.
func (o *oracle) circular() map[string]bool {
	if !slices.ContainsFunc(o.units, func(u Unit) bool { return len(u.Requirements.Replaces) > 0 }) {
		return nil
	}
	pushes := make(map[string][]Unit)
	for _, by := range o.units {
		for _, u := range o.units {
			push := slices.ContainsFunc(o.team(u, map[string]bool{}), func(t Unit) bool { return o.replaces(by, t) })
			if push && !o.excluded(by) && !o.excluded(u) {
				pushes[by.Name] = append(pushes[by.Name], u)
			}
		}
	}
	circular := make(map[string]bool)
	for _, u := range o.units {
		reached := make(map[string]bool)
		for queue := pushes[u.Name]; len(queue) > 0 && o.is("circles"); queue = queue[1:] {
			if name := queue[0].Name; !reached[name] {
				reached[name] = true
				queue = append(queue, pushes[name]...)
			}
		}
		circular[u.Name] = reached[u.Name]
	}
	return circular
}
