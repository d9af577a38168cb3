package schedule

import (
	"slices"

	"github.com/musterhq/muster/agent/unitfile"
)

// family is the instances of one template, of which some at least are spread over the values of a label. It counts all of
// them that have a host.
type family struct{ tallies []*tally }

// tally is how many instances are on the hosts with each value of a label.
type tally struct {
	label   string
	domains []int32 // the value's number, by host; none where the host lacks the label
	counts  []int32 // by the value's number
}

func (f *family) count(at, by int32) {
	for _, t := range f.tallies {
		if d := t.domains[at]; d != none {
			t.counts[d] += by
		}
	}
}

// over returns the tally of a label, nil if there is none or no label.
func (f *family) over(label string) *tally {
	if f == nil {
		return nil
	}
	for _, t := range f.tallies {
		if t.label == label {
			return t
		}
	}
	return nil
}

// on is how many of the family are where a host is. Without a tally they do not matter.
func (t *tally) on(at int32) int32 {
	if t == nil || t.domains[at] == none {
		return 0
	}
	return t.counts[t.domains[at]]
}

// addFamilies gives the instances of templates that are spread what counts them.
func (w *world) addFamilies() {
	for i := range w.units {
		w.addFamily(w.units[i])
	}
	for _, g := range w.groups {
		w.addFamily(&g.unit)
	}
	if len(w.families) == 0 {
		return
	}
	for i := range w.units {
		if template, ok := unitfile.Template(w.units[i].Name); ok {
			w.units[i].family = w.families[template]
		}
	}
	for _, g := range w.groups {
		g.family = w.families[g.template]
	}
}

func (w *world) addFamily(u *unit) {
	label := u.Requirements.Spread
	if label == "" {
		return
	}
	template, ok := unitfile.Template(u.Name)
	if !ok {
		return
	}
	f := w.families[template]
	if f == nil {
		f = &family{}
		w.families[template] = f
	}
	if f.over(label) == nil {
		domains := w.domainsOf(label)
		values := int32(0)
		if len(domains) > 0 {
			values = slices.Max(domains) + 1
		}
		f.tallies = append(f.tallies, &tally{label: label, domains: domains, counts: make([]int32, values)})
	}
}

// domainsOf numbers the values of a label and returns each host's.
func (w *world) domainsOf(key string) []int32 {
	if domains := w.domains[key]; domains != nil {
		return domains
	}
	numbers := make(map[string]int32)
	domains := make([]int32, len(w.hosts))
	for i := range w.hosts {
		domains[i] = none
		if value, ok := label(w.hosts[i].Host, key); ok {
			n, known := numbers[value]
			if !known {
				n = int32(len(numbers))
				numbers[value] = n
			}
			domains[i] = n
		}
	}
	w.domains[key] = domains
	return domains
}

// unspreadable says whether a host lacks the label over which a unit is spread.
func unspreadable(u *Unit, h *Host) bool {
	if u.Requirements.Spread == "" {
		return false
	}
	_, ok := label(h, u.Requirements.Spread)
	return !ok
}
