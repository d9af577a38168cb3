package schedule

import (
	"cmp"
	"slices"
	"strings"
)

// Decide returns what has to change, sorted by unit name; nothing for units that stay where they are.
//
// A unit stays at home (its host in Placed or Spans) while that host is ready and its rules hold there. Of two units there
// that now conflict the first by name stays; of units that reserve more than the host has, those of higher priority and
// then the first by name. Units are placed in the order of their priorities; of the same priority those that must leave
// come before new ones, then those that fewer hosts match, then by name; followers (MachineOf) right after the last of
// their peers, on the same host. A unit goes to the host with the fewest units, then of the provider with the fewest, then
// first by name; an instance that is spread over a label goes first of all where the label's value has the fewest of its
// template. Nothing is moved to make room, whatever its priority: a unit of low priority that runs is not stopped for one
// that waits.
//
// Only Replaces moves others: a unit with it is placed as if what it replaces were not there, and those that are where it
// goes are placed elsewhere, in another pass, and so on: until nobody is beside a unit that replaces it. Units that would make
// each other leave for ever are refused, see Circle, so that this ends.
//
// A unit that must leave and fits nowhere is removed, but for one whose host is lost and would suit it if it were back:
// that one waits in the lost host's schedule (Wait with From), so that nothing happens to it when the host comes back.
// It moves as soon as another host fits. The same goes for a host that is being drained, until it shall be empty.
//
// Global units are not decided on: see GlobalHosts. They give way to units that are already placed, and units to be
// placed give way to them.
//
// The cost grows with hosts, units and what their rules match, not with the product of hosts and units, and for instances
// of a template that stay with their ranges. BenchmarkDecide places ten units a host in one pass, a third of them with
// metadata, a third with conflicts in families of a quarter of the hosts; BenchmarkDecideMillion instances of four
// templates, of which one is spread over racks, one over hosts, and one reserves. Processor time of one core of an EPYC
// that was shared with other work:
//
//	   100 hosts ×     1,000 units        3 ms   300,000 placements/s       2,501 allocations, 0.7 MB
//	 1,000 hosts ×    10,000 units       32 ms   310,000 placements/s      21,281 allocations, 9.4 MB
//	10,000 hosts ×   100,000 units      600 ms   165,000 placements/s     208,153 allocations, 107 MB
//	 5,000 hosts × 1,000,000 instances  310 ms 3,200,000 placements/s      74,082 allocations,  20 MB
//
// A pass over the million that changes nothing takes 31 ms, and so does one that places anew the 200 of a lost host.
func Decide(s Snapshot) []Decision {
	w := newWorld(s)
	ds := w.pass()
	for last := w; last.displaced; {
		last = newWorld(After(s, ds))
		ds = w.then(ds, last.pass())
	}
	return ds
}

// pass decides on everybody once.
func (w *world) pass() []Decision {
	w.keep()
	w.placeAll()
	return w.decisions()
}

// keep settles every unit that may stay at home, and notes of the others why they must leave.
func (w *world) keep() {
	for i := range w.units {
		u := w.units[i]
		if u.from == "" {
			continue
		}
		if u.left = w.whyLeave(u, u.from, u.home); u.left == "" {
			w.settle(u, u.home)
		}
	}
	for _, g := range w.groups {
		w.keepGroup(g)
	}
	w.assumeGlobals()
	w.leaveWithPeers()
	w.giveWay()
	w.partRivals()
	w.shed()
	// Where global units run depends on who stays, and who stays on where they run: until nobody else leaves.
	for w.settleGlobals(); w.leaveWithPeers(); w.settleGlobals() {
	}
}

// whyLeave says why the host where the unit is is closed to it, whatever else is there.
func (w *world) whyLeave(u *unit, from string, home int32) string {
	if home == none {
		return "host " + from + " has left the cluster"
	}
	h := &w.hosts[home]
	switch h.State {
	case Ready, Cordoned:
		return w.whyUnfit(u, h.Host)
	case Lost:
		return "host " + nameOf(h.Host) + " was lost"
	}
	return "host " + nameOf(h.Host) + " " + h.State.against()
}

// whyUnfit says which rule of the unit itself does not hold on a host, "" if all do.
func (w *world) whyUnfit(u *unit, h *Host) string {
	r := u.Requirements
	switch {
	case u.refused != "":
		return u.refused
	case r.MachineID != "" && !idMatches(r.MachineID, h):
		return "MachineID does not name host " + nameOf(h)
	case !metadataFits(r.Metadata, h):
		return "host " + nameOf(h) + " " + missingLabel(r.Metadata, h)
	case unholding(u.Unit, h) != "":
		return "host " + nameOf(h) + " " + unholding(u.Unit, h)
	case unspreadable(u.Unit, h):
		return "host " + nameOf(h) + " has no label " + r.Spread + ", over which it is spread"
	}
	return ""
}

// leaveWithPeers unsettles every unit whose peers are not all with it, and then the units whose peer that was. It says
// whether there were any.
func (w *world) leaveWithPeers() bool {
	left := false
	var queue []*unit
	for i := range w.units {
		if u := w.units[i]; u.at != none && len(u.Requirements.MachineOf) > 0 {
			queue = append(queue, u)
		}
	}
	for len(queue) > 0 {
		u := queue[0]
		queue = queue[1:]
		if u.at == none {
			continue
		}
		if peer := w.missingPeer(u, u.at); peer != "" {
			u.left = "its peer " + peer + " is not on host " + nameOf(w.hosts[u.at].Host)
			w.unsettle(u)
			left = true
			queue = append(queue, w.followers[u]...)
		}
	}
	return left
}

// partRivals unsettles units that conflict with one before them, by name, on the same host.
func (w *world) partRivals() {
	settled := w.residents(func(u *unit, _ int32) bool { return len(u.patterns)+len(u.matched) > 0 })
	for _, r := range settled {
		w.conflicts.count(r.at, r.patterns, r.matched, -1)
	}
	for _, r := range settled {
		rival := w.conflicts.on(r.at, r.patterns, r.matched)
		if w.conflicts.count(r.at, r.patterns, r.matched, 1); rival {
			w.leave(r, "it conflicts with "+w.rival(r.unit, r.at)+" on host "+nameOf(w.hosts[r.at].Host))
		}
	}
}

// rival names the first unit on a host with which the unit conflicts.
func (w *world) rival(u *unit, at int32) string {
	for i := range w.units {
		other := w.units[i]
		if (other.at == at || w.globalOn[globalHost{other, at}]) && conflict(u.Unit, other.Unit) && !replaces(u.Unit, other.Unit) {
			return other.Name
		}
	}
	return w.rivalReplica(u, at)
}

// place finds the unit a host. Its own is the first choice: it may be open again, after whoever it had to make room for
// has left too.
func (w *world) place(u *unit) bool {
	if u.home != none && w.openAgain(u, u.home) {
		w.arrive(u, u.home)
		return true
	}
	at := none
	switch {
	case u.Requirements.MachineID != "":
		at = w.leastLoaded(u, w.named(u.Requirements.MachineID))
	case w.leadingPeer(u) != nil:
		at = w.leastLoaded(u, []int32{w.leadingPeer(u).at})
	default:
		at = w.pick(u.class, u)
	}
	if at == none {
		return false
	}
	u.reason = w.whyPlaced(u) + w.whom(u, at)
	w.arrive(u, at)
	return true
}

// open says whether the unit may go to a host now.
func (w *world) open(u *unit, at int32) bool {
	h := &w.hosts[at]
	return h.State == Ready && w.suits(u, at)
}

// openAgain says whether the unit may go back to the host where it was.
func (w *world) openAgain(u *unit, home int32) bool {
	h := &w.hosts[home]
	return (h.State == Ready || h.State == Cordoned) && w.suits(u, home)
}

// suits says whether every rule holds on a host now, whatever the host's state.
func (w *world) suits(u *unit, at int32) bool {
	return w.whyUnfit(u, w.hosts[at].Host) == "" && w.peersOn(u, at) && !w.closed(at, u)
}

// leastLoaded returns the best of a few hosts that is open to the unit.
func (w *world) leastLoaded(u *unit, hosts []int32) int32 {
	best := none
	for _, n := range hosts {
		if w.open(u, n) && (best == none || w.before(n, best)) {
			best = n
		}
	}
	return best
}

// before says whether one host comes before another in the order in which units are placed.
func (w *world) before(a, b int32) bool {
	x, y := &w.hosts[a], &w.hosts[b]
	return cmp.Or(
		cmp.Compare(x.load, y.load),
		cmp.Compare(w.providers[x.provider].load, w.providers[y.provider].load),
		cmp.Compare(a, b),
	) < 0
}

// leadingPeer is the first unit of MachineOf that is not global: it decides on the host. The unit's turn comes only when
// all of its peers have theirs.
func (w *world) leadingPeer(u *unit) *unit {
	for _, name := range u.Requirements.MachineOf {
		if peer := w.byName[name]; peer != nil && !peer.Requirements.Global {
			return peer
		}
	}
	return nil
}

// named returns the hosts that a MachineID means, in order of their names. More than one have the same first characters.
func (w *world) named(machineID string) []int32 {
	if n, ok := w.byID[machineID]; ok {
		return []int32{n}
	}
	if len(machineID) != shortID {
		return nil
	}
	if w.byShort == nil {
		w.byShort = make(map[string][]int32, len(w.hosts))
		for i := range w.hosts {
			if id := w.hosts[i].ID; len(id) > shortID {
				w.byShort[id[:shortID]] = append(w.byShort[id[:shortID]], int32(i))
			}
		}
	}
	return w.byShort[machineID]
}

// decisions tells where units are now from where they were.
func (w *world) decisions() []Decision {
	ds := w.unwanted
	for i := range w.units {
		u := w.units[i]
		if u.Requirements.Global || u.at != none && u.at == u.home {
			continue
		}
		d := Decision{Unit: u.Name, From: u.from}
		if u.at != none {
			d.To = w.hosts[u.at].ID
		}
		d.Kind, d.Reason = w.verdict(u, u.from, u.home, u.left, u.at)
		ds = append(ds, d)
	}
	for _, g := range w.groups {
		ds = append(ds, w.decideGroup(g)...)
	}
	slices.SortFunc(ds, compareDecisions)
	return merged(ds)
}

func compareDecisions(a, b Decision) int {
	return cmp.Or(strings.Compare(a.Unit, b.Unit), cmp.Compare(a.Kind, b.Kind), strings.Compare(a.From, b.From),
		strings.Compare(a.To, b.To), strings.Compare(a.Reason, b.Reason))
}

// merged makes one decision of those that are the same but for their instances.
func merged(sorted []Decision) []Decision {
	ds := sorted[:0]
	for _, d := range sorted {
		if last := len(ds) - 1; last >= 0 && compareDecisions(ds[last], d) == 0 {
			ds[last].Instances = ds[last].Instances.Union(d.Instances)
			continue
		}
		ds = append(ds, d)
	}
	return ds
}

// holdsOn says whether a host from which units must go keeps those that find no other.
func (w *world) holdsOn(home int32) bool {
	state := w.hosts[home].State
	return state == Lost || state == Draining
}

// verdict says what becomes of a unit that was on one host and is on another, or on none, and why.
func (w *world) verdict(u *unit, from string, home int32, left string, at int32) (Kind, string) {
	switch {
	case at != none && from == "":
		return Place, u.reason
	case at != none:
		return Move, left + "; " + u.reason
	case from == "":
		return Wait, w.whyWaits(u)
	case home != none && w.holdsOn(home) && w.whyUnfit(u, w.hosts[home].Host) == "":
		return Wait, left + "; " + w.whyWaits(u)
	case u.refused != "":
		return Remove, u.refused
	}
	return Remove, left + "; " + w.whyWaits(u)
}
