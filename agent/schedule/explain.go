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
// is against it. It returns nil for a unit that is not in the snapshot.
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
			r.Reason = fmt.Sprintf("fits, has %s", plural(int(h.load), "unit"))
		}
		reasons[i] = r
	}
	return reasons
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
	{"ready", (*explainer).lost},
	{"MachineID", (*explainer).notNamed},
	{"MachineMetadata", (*explainer).unlabelled},
	{"MachineOf", (*explainer).apart},
	{"Conflicts", (*explainer).rivals},
}

// explainer is a world in which every unit but one is where Placed says.
type explainer struct {
	*world
	unit *unit
}

func newExplainer(s Snapshot, unitName string) *explainer {
	w := newWorld(s)
	x := &explainer{world: w, unit: w.byName[unitName]}
	if x.unit == nil {
		return nil
	}
	for i := range w.units {
		if u := &w.units[i]; u != x.unit && u.home != none {
			w.settle(u, u.home)
		}
	}
	for i := range w.units {
		if u := &w.units[i]; u.Requirements.Global && u != x.unit {
			for n := range w.hosts {
				// A global unit gives way to one that is placed, so to be fair to that one it is not counted where it is.
				on := globalHost{u, int32(n)}
				if (x.unit.home != on.host || !conflict(u.Unit, x.unit.Unit)) && w.admitGlobal(u, on.host) {
					w.globalOn[on] = true
				}
			}
		}
	}
	return x
}

func (x *explainer) refused(int32) string { return x.unit.refused }

func (x *explainer) lost(at int32) string {
	// What a lost host runs does not depend on its being lost, see GlobalHosts.
	if x.hosts[at].State == Ready || x.unit.Requirements.Global {
		return ""
	}
	return "is lost"
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
	if !x.conflicts.on(at, x.unit) {
		return ""
	}
	for i := range x.units {
		other := &x.units[i]
		there := other.at == at || x.globalOn[globalHost{other, at}]
		if there && conflict(x.unit.Unit, other.Unit) && x.before(other) {
			return "has " + other.Name + ", which conflicts with it"
		}
	}
	return ""
}

// before says whether another unit goes first where both want to be: a placed one always, of two global ones the first
// by name.
func (x *explainer) before(other *unit) bool {
	return !x.unit.Requirements.Global || !other.Requirements.Global || other.Name < x.unit.Name
}
