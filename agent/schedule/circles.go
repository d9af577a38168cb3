package schedule

import (
	"cmp"
	"slices"
	"strings"

	"github.com/musterhq/muster/agent/unitfile"
)

// Circle says how Replaces of units goes in a circle in which one of them is, or an instance of a template, "" if it does
// not: each would make the next leave, or one that the next must be with (MachineOf), for ever. Decide refuses the units
// of a circle.
func Circle(units []Unit, name string) string {
	w := newWorld(Snapshot{Units: units})
	for _, m := range w.replacing.replacers {
		template, _ := unitfile.Template(m.Name)
		if m.refused != "" && (m.Name == name || template == name) {
			return w.circleThrough(m)
		}
	}
	return ""
}

// push is that one member makes another leave, by replacing it or one that it must be with.
type push struct {
	by, over, of member
}

func (p push) String() string {
	over := p.over.Name
	if g := p.over.group; g != nil && p.by.unit == p.over.unit {
		over = g.named(g.numbers[len(g.numbers)-1].Last).Name // the group stands for more than one
	}
	text := p.by.Name + " replaces " + over
	if p.over.unit != p.of.unit {
		text += ", which " + p.of.Name + " must be with"
	}
	return text
}

// rankReplacers puts the units with Replaces in order, and refuses those of circles.
func (w *world) rankReplacers() {
	if len(w.replacing.patterns) == 0 {
		return
	}
	var all []member
	for _, u := range w.units {
		all = append(all, member{unit: u})
	}
	for _, g := range w.groups {
		if len(g.numbers) > 0 {
			all = append(all, member{unit: &g.unit, group: g})
		}
	}
	declaring := make(map[int32][]member)
	for _, m := range all {
		if m.refused == "" {
			for _, p := range m.replaces {
				declaring[p] = append(declaring[p], m)
			}
		}
	}
	w.replacing.declaring = declaring
	r := ranker{world: w, index: make(map[*unit]int), low: make(map[*unit]int), open: make(map[*unit]bool)}
	for _, m := range all {
		if len(m.replaces) > 0 && m.refused == "" && r.index[m.unit] == 0 {
			r.visit(m)
		}
	}
	w.replacing.replacers = r.ranked
	for _, circle := range r.circles {
		text := "Replaces goes in a circle: " + w.circleThrough(slices.MinFunc(circle, func(a, b member) int {
			return compareUnits(a.unit, b.unit)
		}))
		for _, m := range circle {
			m.refused = text
		}
	}
}

// pushes are all that make a member leave, in the order of the units' names: patterns are numbered as units came.
func (w *world) pushes(m member) []push {
	var pushes []push
	for _, over := range w.team(m) {
		for _, p := range over.replaced {
			for _, by := range w.replacing.declaring[p] {
				itself := by.unit == over.unit && (by.group == nil || by.group.numbers.Len() == 1)
				if !itself {
					pushes = append(pushes, push{by: by, over: over, of: m})
				}
			}
		}
	}
	slices.SortFunc(pushes, func(a, b push) int {
		return cmp.Or(compareUnits(a.by.unit, b.by.unit), compareUnits(a.over.unit, b.over.unit))
	})
	return pushes
}

// team is a member and all that it must be with, by MachineOf of its own or of theirs.
func (w *world) team(m member) []member {
	team := []member{m}
	if m.group != nil {
		return team // instances with MachineOf are units of their own
	}
	for i := 0; i < len(team); i++ {
		for _, name := range team[i].Requirements.MachineOf {
			peer := w.byName[name]
			if peer != nil && !slices.ContainsFunc(team, func(t member) bool { return t.unit == peer }) {
				team = append(team, member{unit: peer})
			}
		}
	}
	return team
}

// ranker is Tarjan's search for strongly connected components along pushes, from who leaves to who makes it leave: so
// members come out after all that make them leave.
type ranker struct {
	*world
	index, low map[*unit]int
	open       map[*unit]bool // on the stack
	stack      []member
	ranked     []member
	circles    [][]member
}

func (r *ranker) visit(m member) {
	n := len(r.index) + 1
	r.index[m.unit], r.low[m.unit] = n, n
	r.stack, r.open[m.unit] = append(r.stack, m), true
	alone := true
	for _, p := range r.pushes(m) {
		alone = alone && p.by.unit != m.unit
		switch {
		case r.index[p.by.unit] == 0:
			r.visit(p.by)
			r.low[m.unit] = min(r.low[m.unit], r.low[p.by.unit])
		case r.open[p.by.unit]:
			r.low[m.unit] = min(r.low[m.unit], r.index[p.by.unit])
		}
	}
	if r.low[m.unit] < n {
		return
	}
	at := slices.IndexFunc(r.stack, func(s member) bool { return s.unit == m.unit })
	component := slices.Clone(r.stack[at:])
	r.stack = r.stack[:at]
	for _, c := range component {
		r.open[c.unit] = false
	}
	if r.ranked = append(r.ranked, component...); len(component) > 1 || !alone {
		r.circles = append(r.circles, component)
	}
}

// circleThrough tells the shortest circle in which a member is, "" if it is in none.
func (w *world) circleThrough(m member) string {
	towards := make(map[*unit]push) // how each makes one leave from whom the search came
	for queue := []member{m}; len(queue) > 0; queue = queue[1:] {
		for _, p := range w.pushes(queue[0]) {
			if _, seen := towards[p.by.unit]; seen {
				continue
			}
			if towards[p.by.unit] = p; p.by.unit == m.unit {
				return describe(towards, m.unit)
			}
			queue = append(queue, p.by)
		}
	}
	return ""
}

// describe follows a circle from one of its units until it is there again.
func describe(towards map[*unit]push, from *unit) string {
	var parts []string
	for at := from; ; {
		p := towards[at]
		parts = append(parts, p.String())
		if at = p.of.unit; at == from {
			return strings.Join(parts, ", ")
		}
	}
}
