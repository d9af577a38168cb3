package schedule

import "slices"

// GlobalHosts returns where global units shall run: for each, the IDs of its hosts, sorted. Call it with the snapshot
// that After returns.
//
// A global unit runs on every host that has its metadata and keeps what it asks of hosts that are cut off, unless a unit
// placed there conflicts with it or leaves it no room, or a global unit before it by name. Hosts in any state are
// included: what a lost host runs, if it runs at all, is not known here, and taking its global units off its schedule
// would only stop and start them when it comes back.
func GlobalHosts(s Snapshot) map[string][]string {
	result := make(map[string][]string)
	if !slices.ContainsFunc(s.Units, func(u Unit) bool { return u.Requirements.Global }) {
		return result
	}
	w := newWorld(s)
	w.settleHome()
	for i := range w.units {
		u := w.units[i]
		if !u.Requirements.Global {
			continue
		}
		ids := []string{}
		for n := range w.hosts {
			if w.admitGlobal(u, int32(n)) {
				ids = append(ids, w.hosts[n].ID)
			}
		}
		slices.Sort(ids)
		result[u.Name] = ids
	}
	return result
}

// admitGlobal counts a global unit on a host if it may run there.
func (w *world) admitGlobal(u *unit, at int32) bool {
	if h := w.hosts[at].Host; u.refused != "" || !suitsGlobal(u, h) || w.closed(at, u) {
		return false
	}
	w.restrict(u, at, 1)
	return true
}

// suitsGlobal says whether a global unit may be on a host, whatever else is there.
func suitsGlobal(u *unit, h *Host) bool {
	return metadataFits(u.Requirements.Metadata, h) && unholding(u.Unit, h) == ""
}

// assumeGlobals takes it for granted that each global unit that others follow runs wherever its metadata is, until
// settleGlobals knows better.
func (w *world) assumeGlobals() {
	for g := range w.followers {
		if !g.Requirements.Global || g.refused != "" {
			continue
		}
		for n := range w.hosts {
			if suitsGlobal(g, w.hosts[n].Host) {
				w.globalOn[globalHost{g, int32(n)}] = true
			}
		}
	}
}

// settleGlobals finds the hosts of those global units that matter to others, as GlobalHosts will: the ones with
// conflicts or reservations and the ones that are followed. It may be called again when units have left.
func (w *world) settleGlobals() {
	for _, on := range w.admitted {
		w.restrict(on.unit, on.host, -1)
	}
	w.admitted = w.admitted[:0]
	clear(w.globalOn)
	for i := range w.units {
		g := w.units[i]
		matters := len(g.patterns)+len(g.matched)+len(w.followers[g]) > 0 || !g.needs.isNone()
		if !g.Requirements.Global || !matters {
			continue
		}
		for n := range w.hosts {
			if w.admitGlobal(g, int32(n)) {
				on := globalHost{g, int32(n)}
				w.admitted = append(w.admitted, on)
				w.globalOn[on] = true
			}
		}
	}
}
