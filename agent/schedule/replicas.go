package schedule

import (
	"slices"
	"strings"

	"github.com/musterhq/muster/agent/unitfile"
	"github.com/musterhq/muster/cluster/instances"
)

// group is the instances of a replicated template that every rule treats alike: which of them is where does not matter.
// Its unit stands for each; what unit says of one unit's host is not used.
type group struct {
	unit
	template string
	numbers  instances.Set
	here     map[int32]instances.Set // by host, while a decision is made
	pending  []*batch                // in order of their numbers, once all are known
	gains    map[int32]int           // how many a host gets
}

// batch is instances of a group that need a host.
type batch struct {
	instances.Range
	from   string // as in unit
	home   int32
	left   string
	stays  instances.Set // those that went home after all
	placed int           // how many of the others have a host, the first ones
}

// chunk is instances of a batch that get the same host.
type chunk struct {
	*batch
	instances.Range
	to int32
}

// resident is a unit, or one instance of a group, on a host.
type resident struct {
	*unit
	group  *group // nil for a unit
	number int
	at     int32
}

// addGroups makes a group of every template, and returns the units that are decided on one by one: those that are no
// templates, and those instances that some rule tells from the others.
func (w *world) addGroups(wanted []Unit, single []string) []unit {
	byTemplate := make(map[string]*group)
	for i := range wanted {
		if u := &wanted[i]; unitfile.IsTemplate(u.Name) {
			byTemplate[u.Name] = newGroup(u)
			w.groups = append(w.groups, byTemplate[u.Name])
		}
	}
	slices.SortFunc(w.groups, func(a, b *group) int { return strings.Compare(a.template, b.template) })
	units := w.addSingles(wanted, byTemplate)
	for _, g := range w.groups {
		if len(g.numbers) > 0 {
			g.patterns = w.conflicts.add(g.Requirements.Conflicts)
			g.replaces = w.replacing.add(g.Requirements.Replaces)
		}
	}
	for _, name := range w.singledOut(wanted, single) {
		if template, n, ok := instances.Split(name); ok && byTemplate[template].take(n) {
			units = append(units, w.newReplica(byTemplate[template], n))
		}
	}
	for _, g := range w.groups {
		for n := range w.apart(g).All() {
			if g.take(n) {
				units = append(units, w.newReplica(g, n))
			}
		}
		g.represent()
	}
	return units
}

// addSingles makes units of those that are no templates. Instances among them are not their template's.
func (w *world) addSingles(wanted []Unit, byTemplate map[string]*group) []unit {
	units := make([]unit, 0, len(wanted))
	for i := range wanted {
		u := &wanted[i]
		if unitfile.IsTemplate(u.Name) {
			continue
		}
		each := w.newUnit(u)
		if template, n, ok := instances.Split(u.Name); ok {
			each.base, each.number = template, n
			if g := byTemplate[template]; g != nil {
				g.numbers = g.numbers.Minus(one(n))
			}
		}
		units = append(units, each)
	}
	return units
}

func newGroup(u *Unit) *group {
	return &group{
		unit:     unit{Unit: u, base: u.Name, at: none, home: none, needs: needsOf(u), refused: refused(u)},
		template: u.Name, numbers: instances.UpTo(u.Replicas),
		here: make(map[int32]instances.Set), gains: make(map[int32]int),
	}
}

// newReplica makes a unit of one instance of a template.
func (w *world) newReplica(g *group, number int) unit {
	u := w.newUnit(g.named(number))
	u.base, u.number = g.template, number
	return u
}

func one(n int) instances.Set { return instances.Set{{First: n, Last: n}} }

// take takes an instance from the group, if it has it. One that is refused is refused as a whole.
func (g *group) take(n int) bool {
	if g == nil || g.refused != "" || !g.numbers.Has(n) {
		return false
	}
	g.numbers = g.numbers.Minus(one(n))
	return true
}

// represent names the unit that stands for the instances after the first of them.
func (g *group) represent() {
	n := 1
	if len(g.numbers) > 0 {
		n = g.numbers[0].First
	}
	g.Unit = g.named(n)
}

// singledOut names the units that others follow, and those asked for.
func (w *world) singledOut(wanted []Unit, single []string) []string {
	names := slices.Clone(single)
	if len(w.groups) == 0 {
		return nil
	}
	for i := range wanted {
		names = append(names, wanted[i].Requirements.MachineOf...)
	}
	return names
}

// apart returns the instances that are not like the others: all, if a rule ties each to one host, or else those that some
// pattern matches and some not.
func (w *world) apart(g *group) instances.Set {
	if r := g.Requirements; len(r.MachineOf) > 0 || r.MachineID != "" {
		return g.numbers
	}
	at := strings.LastIndexByte(g.template, '@') + 1
	prefix, suffix := g.template[:at], g.template[at:]
	var apart []instances.Range
	for _, patterns := range [][]pattern{w.conflicts.patterns, w.replacing.patterns} {
		for i := range patterns {
			p := &patterns[i]
			if !p.mayMatch(prefix, suffix) || p.matchesBetween(prefix, suffix) {
				continue
			}
			matched := g.matchedBy(p)
			if !matched.Equal(g.numbers) {
				apart = append(apart, matched...)
			}
		}
	}
	return instances.Of(apart...)
}

// matchedBy returns the instances whose names a pattern matches.
func (g *group) matchedBy(p *pattern) instances.Set {
	if !p.glob {
		if template, n, ok := instances.Split(p.text); ok && template == g.template && g.numbers.Has(n) {
			return one(n)
		}
		return nil
	}
	var matched []instances.Range
	for n := range g.numbers.All() {
		if matchPattern(p.text, instances.Name(g.template, n)) {
			matched = append(matched, instances.Range{First: n, Last: n})
		}
	}
	return instances.Of(matched...)
}
