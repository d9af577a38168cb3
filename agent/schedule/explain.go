package schedule

import "fmt"

// HostReason is why one host may or may not have a unit.
type HostReason struct {
	HostID string
	Host   string // name
	Here   bool   // the unit is there, in Placed or as a global unit
	Fits   bool   // every rule holds there
	Reason string
}

// Explain says for each host, in order of their names, whether a unit may be there as things are, and if not, which rule
// is against it. It returns nil for a unit that is not in the snapshot. Of a template it tells where one more instance
// might go, and where there are some.
func Explain(s Snapshot, unitName string) []HostReason {
	x := newExplainer(s, unitName)
	if x == nil {
		return nil
	}
	reasons := make([]HostReason, len(x.hosts))
	for i := range x.hosts {
		h := &x.hosts[i]
		r := HostReason{HostID: h.ID, Host: h.Name, Fits: true, Here: x.unit.home == int32(i)}
		for _, f := range filters {
			if why := f.against(x, int32(i)); why != "" {
				r.Fits, r.Reason = false, why
				break
			}
		}
		if x.unit.Requirements.Global {
			r.Here = r.Fits
		}
		switch {
		case r.Fits && r.Here:
			r.Reason = "it is here"
		case r.Fits:
			r.Reason = "fits, has " + x.hasUnits(int32(i)) + x.whom(x.unit, int32(i))
		}
		if x.group != nil {
			x.addInstances(&r, int32(i))
		}
		reasons[i] = r
	}
	return reasons
}

// hasUnits says how full a host is, in what matters to the unit.
func (x *explainer) hasUnits(at int32) string {
	has := plural(int(x.hosts[at].load), "unit")
	if t := x.unit.family.over(x.unit.Requirements.Spread); t != nil {
		has += fmt.Sprintf(" and %d of the template with its %s", t.on(at), t.label)
	}
	return has
}

// addInstances says how many of a template's instances are on a host.
func (x *explainer) addInstances(r *HostReason, at int32) {
	if n := x.group.here[at].Len(); n > 0 {
		r.Here = true
		r.Reason = fmt.Sprintf("has %d of its instances; another one: %s", n, r.Reason)
	}
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// filter is one rule, as a question to a host.
type filter struct {
	name    string
	against func(x *explainer, at int32) string // why the host may not have the unit, "" if it may
}

// filters are every rule that there is. Decide obeys the same ones, through its indexes; a test holds the two together.
var filters = []filter{
	{"refused combination", (*explainer).refused},
	{"ready", (*explainer).unready},
	{"MachineID", (*explainer).notNamed},
	{"MachineMetadata", (*explainer).unlabelled},
	{"Singleton, OnPartition", (*explainer).unholding},
	{"Spread", (*explainer).unspread},
	{"MachineOf", (*explainer).apart},
	{"Replaces", (*explainer).replacers},
	{"Conflicts", (*explainer).rivals},
	{"CPU, Memory", (*explainer).crowded},
}

// explainer is a world in which every unit but one is where Placed says.
type explainer struct {
	*world
	unit  *unit
	group *group // of which the unit is one more instance, nil for a unit
}

func newExplainer(s Snapshot, unitName string) *explainer {
	w := newWorld(s, unitName)
	x := &explainer{world: w, unit: w.byName[unitName]}
	for _, g := range w.groups {
		if g.template == unitName {
			x.unit, x.group = &g.unit, g
		}
	}
	if x.unit == nil {
		return nil
	}
	w.settleHome()
	if x.group == nil && x.unit.home != none {
		w.unsettle(x.unit)
	}
	for i := range w.units {
		u := w.units[i]
		if x.unit.Requirements.Global && u == x.unit {
			break // global units give way to those before them, and not to those after
		}
		if u.Requirements.Global {
			for n := range w.hosts {
				// A global unit gives way to one that is placed, so to be fair to that one it is not counted where it is.
				on := globalHost{u, int32(n)}
				if (x.unit.home != on.host || !x.excludes(u, on.host)) && w.admitGlobal(u, on.host) {
					w.globalOn[on] = true
				}
			}
		}
	}
	return x
}

// excludes says whether a global unit could not be on a host beside the unit.
func (x *explainer) excludes(g *unit, at int32) bool {
	free := x.hosts[at].free
	free.take(x.unit.needs, 1)
	return conflict(g.Unit, x.unit.Unit) || !g.needs.fit(free)
}

func (x *explainer) refused(int32) string { return x.unit.refused }

func (x *explainer) unready(at int32) string {
	// Where global units run does not depend on the host's state, see GlobalHosts.
	h := &x.hosts[at]
	if h.State == Cordoned && (x.unit.home == at) || x.unit.Requirements.Global {
		return ""
	}
	return h.State.against()
}

func (x *explainer) notNamed(at int32) string {
	id := x.unit.Requirements.MachineID
	if id == "" || idMatches(id, x.hosts[at].Host) {
		return ""
	}
	return "is not the host that MachineID names"
}

func (x *explainer) unlabelled(at int32) string {
	return missingLabel(x.unit.Requirements.Metadata, x.hosts[at].Host)
}

func (x *explainer) unholding(at int32) string {
	return unholding(x.unit.Unit, x.hosts[at].Host)
}

func (x *explainer) unspread(at int32) string {
	if !unspreadable(x.unit.Unit, x.hosts[at].Host) {
		return ""
	}
	return "has no label " + x.unit.Requirements.Spread + ", over which it is spread"
}

func (x *explainer) crowded(at int32) string {
	defer x.lift(x.unit, at)()
	return x.whyNoRoom(x.unit, at)
}

func (x *explainer) replacers(at int32) string {
	if !x.replacing.on(at, nil, x.unit.replaced) {
		return ""
	}
	return "has " + x.replacer(x.unit, at) + ", which replaces it"
}

func (x *explainer) apart(at int32) string {
	name := x.missingPeer(x.unit, at)
	if name == "" {
		return ""
	}
	peer := x.byName[name]
	switch {
	case peer == nil:
		return name + ", which must be on the same host, is not started"
	case peer.at == none && !peer.Requirements.Global:
		return name + ", which must be on the same host, has none"
	}
	return "does not have " + name
}

func (x *explainer) rivals(at int32) string {
	defer x.lift(x.unit, at)()
	if !x.conflicts.on(at, x.unit.patterns, x.unit.matched) {
		return ""
	}
	for i := range x.units {
		other := x.units[i]
		there := other.at == at || x.globalOn[globalHost{other, at}]
		if there && conflict(x.unit.Unit, other.Unit) && !replaces(x.unit.Unit, other.Unit) {
			return "has " + other.Name + ", which conflicts with it"
		}
	}
	if rival := x.rivalReplica(x.unit, at); rival != "" {
		return "has " + rival + ", which conflicts with it"
	}
	return ""
}
