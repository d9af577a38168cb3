package schedule

import "slices"

// then is what decisions, and those of another pass on what they lead to, do together.
func (w *world) then(first, next []Decision) []Decision {
	byUnit := make(map[string][]*Decision, len(first))
	for i := range first {
		byUnit[first[i].Unit] = append(byUnit[first[i].Unit], &first[i])
	}
	var ds []Decision
	done := make(map[*Decision]bool)
	for _, d := range next {
		rest := d.Instances
		for _, b := range byUnit[d.Unit] {
			both := b.Instances.Intersect(rest)
			if d.Instances != nil && both == nil {
				continue
			}
			if one := w.join(*b, d); one.From != one.To || one.To == "" {
				one.Instances = both
				ds = append(ds, one)
			}
			b.Instances, rest = b.Instances.Minus(both), rest.Minus(both)
			done[b] = b.Instances == nil
		}
		if d.Instances = rest; rest != nil || byUnit[d.Unit] == nil {
			ds = append(ds, d)
		}
	}
	for i := range first {
		if !done[&first[i]] {
			ds = append(ds, first[i])
		}
	}
	slices.SortFunc(ds, compareDecisions)
	return merged(ds)
}

// join makes one decision of two about the same unit; From and To are the same host if it comes back to where it was.
func (w *world) join(first, next Decision) Decision {
	switch {
	case first.Kind == Wait:
		return next
	case next.Kind == Wait:
		return first // it was removed
	}
	d := Decision{Unit: next.Unit, Kind: next.Kind, From: first.From, To: next.To, Reason: next.Reason}
	switch {
	case d.To == "" && (d.From == "" || w.waitsAt(d.Unit, d.From)):
		d.Kind = Wait
	case d.To != "" && d.From == "":
		d.Kind = Place
	case d.To != "":
		d.Kind = Move
	}
	return d
}

// waitsAt says whether a unit that must go from a host stays in its schedule as long as no other host fits.
func (w *world) waitsAt(name, hostID string) bool {
	u := w.byName[name]
	for _, g := range w.groups {
		if g.template == name {
			u = &g.unit
		}
	}
	home, known := w.byID[hostID]
	return known && w.holdsOn(home) && w.whyUnfit(u, w.hosts[home].Host) == ""
}
