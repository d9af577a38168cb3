package schedule

import (
	"fmt"
	"strings"
)

// whyPlaced says why a unit goes where it goes, before it is settled.
func (w *world) whyPlaced(u *unit) string {
	if u.Requirements.MachineID != "" {
		return "MachineID names the host"
	}
	if peer := w.leadingPeer(u); peer != nil {
		return "follows " + peer.Name
	}
	if u.class.placed == "" {
		u.class.placed = u.placedReason()
	}
	return u.class.placed
}

// placedReason is the same for a whole class: counting for each unit the hosts that are open would cost more than placing
// it.
func (u *unit) placedReason() string {
	c := u.class
	if len(c.hosts) == 1 {
		return "the only host that fits"
	}
	fit, but := "match", u.exceptions()
	if but == "" {
		fit = "fit"
	}
	if c.tally != nil {
		return fmt.Sprintf("spread over %s, then least loaded of %d hosts that %s%s", c.tally.label, len(c.hosts), fit, but)
	}
	return fmt.Sprintf("least loaded of %d hosts that %s%s", len(c.hosts), fit, but)
}

// exceptions says which hosts that match may be closed to the unit, "" if none can be.
func (u *unit) exceptions() string {
	var but []string
	if len(u.patterns)+len(u.matched) > 0 {
		but = append(but, "it conflicts with")
	}
	if len(u.replaced) > 0 {
		but = append(but, "with units that replace it")
	}
	switch {
	case u.needs.isNone():
	case len(but) > 0:
		but = append(but, "without room")
	default:
		but = append(but, "without room for "+u.needs.String())
	}
	if len(but) == 0 {
		return ""
	}
	return ", but for those " + strings.Join(but, " or ")
}

// whyWaits says why no host fits.
func (w *world) whyWaits(u *unit) string {
	r := u.Requirements
	switch {
	case u.refused != "":
		return u.refused
	case len(w.hosts) == 0:
		return "there are no hosts"
	case r.MachineID != "":
		return w.whyNotNamed(u)
	case len(r.MachineOf) > 0:
		return w.whyNotWithPeers(u)
	}
	if u.class.waits == "" {
		u.class.waits = w.whyNoneFits(u)
	}
	return u.class.waits
}

func (w *world) whyNotNamed(u *unit) string {
	hosts := w.named(u.Requirements.MachineID)
	if len(hosts) == 0 {
		return "no host has the ID " + u.Requirements.MachineID
	}
	h := w.hosts[hosts[0]].Host
	switch {
	case h.State != Ready:
		return "host " + nameOf(h) + ", which MachineID names, " + h.State.against()
	case !metadataFits(u.Requirements.Metadata, h):
		return "host " + nameOf(h) + ", which MachineID names, " + missingLabel(u.Requirements.Metadata, h)
	}
	return "host " + nameOf(h) + ", which MachineID names, " + w.whyClosed(u, hosts[0])
}

// whyClosed says what on a host keeps the unit away.
func (w *world) whyClosed(u *unit, at int32) string {
	if w.replacing.on(at, nil, u.replaced) {
		return "has " + w.replacer(u, at) + ", which replaces it"
	}
	defer w.lift(u, at)()
	if w.conflicts.on(at, u.patterns, u.matched) {
		return "has " + w.rival(u, at) + ", which conflicts with it"
	}
	return w.whyNoRoom(u, at)
}

func (w *world) whyNotWithPeers(u *unit) string {
	leader := w.leadingPeer(u)
	for _, name := range u.Requirements.MachineOf {
		peer := w.byName[name]
		switch {
		case peer == nil:
			return "its peer " + name + " is not started"
		case peer.Requirements.Global:
		case peer.at == none:
			return "its peer " + name + " has no host"
		case peer.at != leader.at:
			return fmt.Sprintf("its peers are apart: %s is on host %s, %s on host %s",
				leader.Name, nameOf(w.hosts[leader.at].Host), name, nameOf(w.hosts[peer.at].Host))
		}
	}
	if leader == nil {
		return w.whyNoneFits(u)
	}
	h := w.hosts[leader.at].Host
	where := "host " + nameOf(h) + ", where its peer " + leader.Name + " is, "
	switch missing := w.missingPeer(u, leader.at); {
	case missing != "":
		return where + "does not run its peer " + missing
	case h.State != Ready:
		return where + h.State.against()
	case !metadataFits(u.Requirements.Metadata, h):
		return where + missingLabel(u.Requirements.Metadata, h)
	}
	return where + w.whyClosed(u, leader.at)
}

// promise is what hosts that are cut off must promise for a unit.
func (u *unit) promise() string {
	if u.Requirements.Strict {
		return "Singleton=strict"
	}
	return "OnPartition=stop"
}

// whyNoneFits counts the hosts by the first rule that closes each.
func (w *world) whyNoneFits(u *unit) string {
	var lost, held, unlabelled, unable, unspread, apart, replacers, rivals, full int
	for i := range w.hosts {
		h := &w.hosts[i]
		lower := w.lift(u, int32(i))
		switch {
		case h.State == Lost:
			lost++
		case h.State != Ready:
			held++
		case !metadataFits(u.Requirements.Metadata, h.Host):
			unlabelled++
		case unholding(u.Unit, h.Host) != "":
			unable++
		case unspreadable(u.Unit, h.Host):
			unspread++
		case !w.peersOn(u, int32(i)):
			apart++
		case w.replacing.on(int32(i), nil, u.replaced):
			replacers++
		case w.conflicts.on(int32(i), u.patterns, u.matched):
			rivals++
		case !u.needs.fit(h.free):
			full++
		}
		lower()
	}
	wanted := describeMetadata(u.Requirements.Metadata)
	if unlabelled == len(w.hosts) {
		return "no host has " + wanted
	}
	var parts []string
	for _, p := range []struct {
		count int
		what  string
	}{
		{lost, "lost"},
		{held, "cordoned or drained"},
		{unlabelled, "without " + wanted},
		{unable, "without what " + u.promise() + " needs"},
		{unspread, "without the label " + u.Requirements.Spread + ", over which it is spread"},
		{apart, "without " + strings.Join(u.Requirements.MachineOf, ", ")},
		{replacers, "with units that replace it"},
		{rivals, "with units that conflict with it"},
		{full, "without room for " + u.needs.String()},
	} {
		if p.count > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.count, p.what))
		}
	}
	return fmt.Sprintf("none of %d hosts fits: %s", len(w.hosts), strings.Join(parts, ", "))
}
