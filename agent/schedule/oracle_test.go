package schedule

import (
	"cmp"
	"path"
	"slices"
	"sort"
	"strings"

	"github.com/musterhq/muster/agent/unitfile"
	"github.com/musterhq/muster/cluster/instances"
)

// oracle decides as Decide does, with no index at all: it looks at every host and every unit each time, and at every
// instance of a template as at a unit. It returns for each unit that is not global the ID of its host after the decision, "" for none; a unit that waits in a lost host's
// schedule is there.
//
// The rule named drop is left out, which makes a mutant: a test makes sure that each would be noticed.
type oracle struct {
	drop    string
	hosts   []Host          // by name
	units   []Unit          // by name
	circles map[string]bool // those of circles
	placed
	passes int
}

// placed is where units are while the oracle works.
type placed map[string]string

func decideByOracle(s Snapshot, drop string) map[string]string {
	s = oneByOne(s)
	o := &oracle{drop: drop, hosts: slices.Clone(s.Hosts), units: s.Units}
	sort.Slice(o.hosts, func(i, j int) bool { return o.hosts[i].Name < o.hosts[j].Name })
	sort.Slice(o.units, func(i, j int) bool { return namesLess(o.units[i].Name, o.units[j].Name) })
	o.circles = o.circular()
	return o.pass(s, s)
}

// pass decides on everybody once, and again as long as somebody comes to where a unit is that it replaces. Units that find no
// host stay in the schedules where they were at first.
func (o *oracle) pass(s, first Snapshot) map[string]string {
	o.placed = placed{}
	for _, u := range o.units {
		if h := o.host(s.Placed[u.Name]); h != nil && !u.Requirements.Global && o.suits(u, *h) {
			o.placed[u.Name] = h.ID
		}
	}
	o.keep()
	for turn := o.turn(s, nil); len(turn) > 0; {
		done := []string{}
		for _, u := range turn {
			if id := o.choose(s, u); id != "" {
				o.placed[u.Name] = id
				done = append(done, u.Name)
			}
		}
		turn = o.turn(s, done)
	}
	displaced := o.displaced()
	o.waitInPlace(first)
	if !o.is("the replaced find a place") {
		for _, name := range displaced {
			delete(o.placed, name)
		}
		return o.placed
	}
	if o.passes++; len(displaced) > 0 {
		if o.passes > 100 { // a mutant: no rule says that this ends
			return map[string]string{"for ever": ""}
		}
		s.Placed = o.placed
		return o.pass(s, first)
	}
	return o.placed
}

func (o *oracle) waitInPlace(s Snapshot) {
	for _, u := range o.units {
		h := o.host(s.Placed[u.Name])
		if o.placed[u.Name] == "" && h != nil && o.waitsOn(*h) && !u.Requirements.Global {
			healthy := *h
			if healthy.State = Ready; o.suits(u, healthy) {
				o.placed[u.Name] = h.ID
			}
		}
	}
}

// oneByOne is the snapshot with each instance of a template as a unit.
func oneByOne(s Snapshot) Snapshot {
	var units []Unit
	for _, u := range s.Units {
		if !unitfile.IsTemplate(u.Name) {
			units = append(units, u)
		}
		for n := range u.Replicas {
			name := instances.Name(u.Name, n+1)
			if unitOf(s, name) == nil {
				units = append(units, Unit{Name: name, Requirements: u.Requirements})
			}
		}
	}
	s.Units, s.Placed, s.Spans = units, wherever(s), nil
	return s
}

// wherever is Placed with each instance of Spans.
func wherever(s Snapshot) map[string]string {
	placed := make(map[string]string)
	for name, host := range s.Placed {
		placed[name] = host
	}
	for _, span := range s.Spans {
		for n := range span.Instances.All() {
			placed[instances.Name(span.Template, n)] = span.Host
		}
	}
	return placed
}

// namesLess orders names, those of replicas by their numbers.
func namesLess(a, b string) bool {
	baseA, numberA, _ := instances.Split(a)
	baseB, numberB, _ := instances.Split(b)
	return cmp.Or(strings.Compare(cmp.Or(baseA, a), cmp.Or(baseB, b)), cmp.Compare(numberA, numberB)) < 0
}

func (o *oracle) is(rule string) bool { return o.drop != rule }

func (o *oracle) host(id string) *Host {
	for i := range o.hosts {
		if o.hosts[i].ID == id {
			return &o.hosts[i]
		}
	}
	return nil
}

func (o *oracle) unit(name string) *Unit {
	for i := range o.units {
		if o.units[i].Name == name {
			return &o.units[i]
		}
	}
	return nil
}

// suits holds the rules that concern one unit and one host.
func (o *oracle) suits(u Unit, h Host) bool {
	r := u.Requirements
	if o.is("ready") && h.State != Ready && (h.State != Cordoned || !o.is("keep in cordoned")) {
		return false
	}
	if o.is("refused") && (o.excluded(u) || o.circles[u.Name]) {
		return false
	}
	if o.is("MachineID") && r.MachineID != "" && r.MachineID != h.ID &&
		(len(r.MachineID) != 8 || r.MachineID != h.ID[:8]) {
		return false
	}
	if !o.promises(u, h) {
		return false
	}
	if _, ok := valueOf(r.Spread, h); !ok && r.Spread != "" && o.is("Spread's label") {
		return false
	}
	return !o.is("MachineMetadata") || o.labelled(u, h)
}

// excluded says whether rules of a unit exclude each other.
func (o *oracle) excluded(u Unit) bool {
	r := u.Requirements
	replaces := len(r.Replaces) > 0
	return r.MachineID != "" && (len(r.MachineOf) > 0 || len(r.Conflicts) > 0 || r.Global || replaces) ||
		(len(r.MachineOf) > 0 || r.Spread != "" || replaces || r.Strict) && r.Global || slices.Contains(r.MachineOf, u.Name) ||
		len(r.Conflicts) > 0 && replaces
}

func valueOf(key string, h Host) (string, bool) {
	switch key {
	case "provider":
		return h.Provider, true
	case "host":
		return h.Name, true
	}
	value, ok := h.Labels[key]
	return value, ok
}

// promises says whether a host can have a unit that may run only once, or not while the host is cut off.
func (o *oracle) promises(u Unit, h Host) bool {
	return (h.Holds || !u.Requirements.Strict || !o.is("Strict")) &&
		(h.StopsCutOff || !u.Requirements.StopCutOff || !o.is("OnPartition"))
}

// holds says whether a host has what some units reserve.
func (o *oracle) holds(h Host, units ...Unit) bool {
	var cpu, memory int64
	for _, u := range units {
		cpu += u.Requirements.MilliCPU
		memory += u.Requirements.Memory
	}
	last := units[len(units)-1].Requirements
	return (last.MilliCPU == 0 || cpu <= h.MilliCPU || !o.is("CPU")) &&
		(last.Memory == 0 || memory <= h.Memory || !o.is("Memory"))
}

// waitsOn says whether units that must go from a host and find no other stay there.
func (o *oracle) waitsOn(h Host) bool {
	return h.State == Lost && o.is("keep in lost") || h.State == Draining && o.is("keep in draining")
}

// on returns the units on a host, global ones not among them.
func (o *oracle) on(h Host) []Unit {
	var on []Unit
	for _, u := range o.units {
		if o.placed[u.Name] == h.ID {
			on = append(on, u)
		}
	}
	return on
}

// crowd takes units from hosts that do not hold them all.
func (o *oracle) crowd() {
	for _, h := range o.hosts {
		on := o.on(h)
		if o.is("Priority") {
			sort.SliceStable(on, func(i, j int) bool { return on[i].Requirements.Priority > on[j].Requirements.Priority })
		}
		var kept []Unit
		for _, u := range on {
			if o.is("shed") && !o.holds(h, append(slices.Clone(kept), u)...) {
				delete(o.placed, u.Name)
				continue
			}
			kept = append(kept, u)
		}
	}
}

func (o *oracle) labelled(u Unit, h Host) bool {
	for key, values := range u.Requirements.Metadata {
		have, ok := valueOf(key, h)
		if !ok || !slices.Contains(values, have) {
			return false
		}
	}
	return true
}

func (o *oracle) rivals(a, b Unit) bool {
	if !o.is("Conflicts") || a.Name == b.Name {
		return false
	}
	for _, p := range a.Requirements.Conflicts {
		if ok, _ := path.Match(p, b.Name); ok {
			return true
		}
	}
	for _, p := range b.Requirements.Conflicts {
		if ok, _ := path.Match(p, a.Name); ok && o.is("symmetry") {
			return true
		}
	}
	return false
}

// globals returns the global units on a host.
func (o *oracle) globals(h Host) []Unit {
	var on []Unit
	for _, g := range o.units {
		if !g.Requirements.Global || !o.is("Global") {
			continue
		}
		h.State = Ready
		blocked := !o.suits(g, h)
		for _, u := range o.units {
			blocked = blocked || o.placed[u.Name] == h.ID && o.rivals(g, u)
		}
		for _, other := range on {
			blocked = blocked || o.rivals(g, other)
		}
		if !blocked && o.holds(h, append(append(o.on(h), on...), g)...) {
			on = append(on, g)
		}
	}
	return on
}

// together says whether a unit's peers are on a host.
func (o *oracle) together(u Unit, h Host, assumeGlobals bool) bool {
	for _, name := range u.Requirements.MachineOf {
		peer := o.unit(name)
		switch {
		case !o.is("MachineOf"):
		case peer == nil:
			return false
		case peer.Requirements.Global && assumeGlobals:
			if hh := h; !o.suits(*peer, hh) {
				return false
			}
		case peer.Requirements.Global:
			if !slices.ContainsFunc(o.globals(h), func(g Unit) bool { return g.Name == name }) {
				return false
			}
		case o.placed[name] != h.ID:
			return false
		}
	}
	return true
}

func (o *oracle) keep() {
	o.leave(true)
	o.giveWay()
	var kept []Unit
	for _, u := range o.units {
		id := o.placed[u.Name]
		if id == "" {
			continue
		}
		if slices.ContainsFunc(kept, func(k Unit) bool { return o.placed[k.Name] == id && o.rivals(u, k) }) {
			delete(o.placed, u.Name)
			continue
		}
		kept = append(kept, u)
	}
	o.crowd()
	o.leave(false)
}

// leave takes away units without their peers until all that are left have theirs.
func (o *oracle) leave(assumeGlobals bool) {
	for again := true; again; {
		again = false
		var leaving []string
		for _, u := range o.units {
			if id := o.placed[u.Name]; id != "" && !o.together(u, *o.host(id), assumeGlobals) {
				leaving = append(leaving, u.Name)
			}
		}
		for _, name := range leaving {
			delete(o.placed, name)
			again = true
		}
	}
}

// turn returns the units whose turn it is after the named ones got their hosts (nil: at the beginning).
func (o *oracle) turn(s Snapshot, done []string) []Unit {
	var turn []Unit
	for _, u := range o.units {
		if o.placed[u.Name] != "" || u.Requirements.Global {
			continue
		}
		ready, new := true, done == nil
		for _, name := range u.Requirements.MachineOf {
			peer := o.unit(name)
			ready = ready && (peer != nil && (peer.Requirements.Global || o.placed[name] != "") || !o.is("MachineOf"))
			new = new || slices.Contains(done, name)
		}
		if ready && new {
			turn = append(turn, u)
		}
	}
	sort.SliceStable(turn, func(i, j int) bool { return o.first(s, turn[i], turn[j]) })
	return turn
}

func (o *oracle) first(s Snapshot, a, b Unit) bool {
	if x, y := a.Requirements.Priority, b.Requirements.Priority; x != y && o.is("Priority") {
		return x > y
	}
	if x, y := s.Placed[a.Name] != "", s.Placed[b.Name] != ""; x != y && o.is("old first") {
		return x
	}
	if x, y := a.Requirements.MachineID != "", b.Requirements.MachineID != ""; x != y {
		return x
	}
	if x, y := o.suiting(a), o.suiting(b); x != y && o.is("picky first") {
		return x < y
	}
	if x, y := o.quarrelsome(a), o.quarrelsome(b); x != y && o.is("rivals first") {
		return x
	}
	return namesLess(a.Name, b.Name)
}

// suiting counts the hosts with the unit's labels and the global units it follows, as they were before this pass placed
// anything: what it places does not move them.
func (o *oracle) suiting(u Unit) int {
	n := 0
	for _, h := range o.hosts {
		_, spreads := valueOf(u.Requirements.Spread, h)
		fits := h.State == Ready && o.labelled(u, h) && (spreads || u.Requirements.Spread == "") && o.promises(u, h)
		for _, name := range u.Requirements.MachineOf {
			if peer := o.unit(name); peer != nil && peer.Requirements.Global {
				fits = fits && slices.ContainsFunc(o.globals(h), func(g Unit) bool { return g.Name == name })
			}
		}
		if fits {
			n++
		}
	}
	return n
}

func (o *oracle) quarrelsome(u Unit) bool {
	for _, other := range o.units {
		for _, p := range append(slices.Clone(other.Requirements.Conflicts), other.Requirements.Replaces...) {
			if ok, _ := path.Match(p, u.Name); ok {
				return true
			}
		}
	}
	_, spreads := unitfile.Template(u.Name)
	r := u.Requirements
	return len(r.Conflicts) > 0 || r.MilliCPU > 0 || r.Memory > 0 || r.Spread != "" && spreads
}

func (o *oracle) fits(u Unit, h Host) bool {
	if !o.suits(u, h) || !o.together(u, h, false) {
		return false
	}
	for _, other := range o.on(h) {
		if o.rivals(u, other) && (!o.replaces(u, other) || !o.is("conflicts of the replaced")) || o.replaces(other, u) {
			return false
		}
	}
	globals := o.globals(h)
	others := slices.DeleteFunc(o.on(h), func(v Unit) bool { return o.replaces(u, v) && o.is("room of the replaced") })
	return o.holds(h, append(append(others, globals...), u)...) &&
		!slices.ContainsFunc(globals, func(g Unit) bool { return o.rivals(u, g) })
}

func (o *oracle) choose(s Snapshot, u Unit) string {
	if h := o.host(s.Placed[u.Name]); h != nil && o.is("home") && o.fits(u, *h) {
		return h.ID
	}
	var best *Host
	for i := range o.hosts {
		h := &o.hosts[i]
		if h.State == Cordoned && o.is("cordoned") || !o.fits(u, *h) {
			continue
		}
		if best == nil || slices.Compare(o.load(u, h), o.load(u, best)) < 0 {
			best = h
		}
	}
	if best == nil {
		return ""
	}
	return best.ID
}

// load is the instances of the unit's template where it is spread to, then the units on a host, then those on its provider.
func (o *oracle) load(u Unit, h *Host) []int {
	load := make([]int, 3)
	for name, id := range o.placed {
		on := o.host(id)
		if o.is("Spread") && alike(u, name, *on, *h) {
			load[0]++
		}
		if on.ID == h.ID && o.is("least loaded") {
			load[1]++
		}
		if on.Provider == h.Provider && o.is("provider") {
			load[2]++
		}
	}
	return load
}

// alike says whether a unit of the same template is on a host with the same value of the label that it is spread over.
func alike(u Unit, name string, on, h Host) bool {
	template, ok := unitfile.Template(u.Name)
	other, same := unitfile.Template(name)
	if u.Requirements.Spread == "" || !ok || !same || template != other {
		return false
	}
	a, has := valueOf(u.Requirements.Spread, on)
	b, _ := valueOf(u.Requirements.Spread, h)
	return has && a == b
}

// shortNames makes failures readable.
func shortNames(hosts []Host) map[string]string {
	names := make(map[string]string)
	for _, h := range hosts {
		names[h.ID] = strings.TrimPrefix(h.Name, "host-")
	}
	return names
}
