package unitfile

import "path/filepath"

// singleton reads Singleton=. What could leave processes behind when the unit is stopped, or let others start it, cannot
// be promised to be alone.
func (r *xReader) singleton(o Option, value string) {
	switch {
	case value != "strict":
		r.fail(o, "write strict, or remove it", "%q is not known", value)
	case filepath.Ext(r.unit) != ".service":
		r.fail(o, "remove it", "only a service can be kept from running twice, and %s is none", r.unit)
	default:
		r.muster.Strict = true
	}
}

func (r *xReader) onPartition(o Option, value string) {
	switch value {
	case "keep": // what happens anyway
	case "stop":
		r.muster.StopCutOff = true
	default:
		r.fail(o, "write keep or stop", "%q is not known", value)
	}
}

// spared are the settings of [Service] with which processes may outlive the stop of a unit (systemd.kill(5)).
var spared = []struct{ name, value, hint string }{
	{"KillMode", "none", "remove it: a stop that leaves processes lets two run at once"},
	{"KillMode", "process", "remove it: a stop that leaves processes lets two run at once"},
	{"SendSIGKILL", "no", "remove it: a process that does not end would run beside another"},
	{"PAMName", anything, "remove it: a session's processes may leave the unit's control group, where nobody would find them to kill"},
}

const anything = "*" // whatever the value is

// alone reports what does not go together with Singleton=strict, beside placement rules.
func (r *ruler) alone(f File, x *xReader) {
	o, given := x.given["Singleton"]
	if !given || !x.muster.Strict {
		return
	}
	if keep, ok := x.given["OnPartition"]; ok && keep.Value == "keep" {
		r.problems.Add(keep.at(r.unit, 0), "remove one of them", "`%s`=keep cannot stand beside `%s`", keep.Name, o.Name)
	}
	for _, s := range spared {
		values := f.Values("Service", s.name)
		if len(values) == 0 {
			continue
		}
		last := values[len(values)-1]
		if s.value == anything && last != "" {
			r.problems.Add(o.at(r.unit, 0), s.hint, "`%s` cannot stand beside `%s`", o.Name, s.name)
			continue
		}
		if off, err := ParseBool(last); last == s.value || s.value == "no" && err == nil && !off {
			r.problems.Add(o.at(r.unit, 0), s.hint, "`%s` cannot stand beside `%s`=%s", o.Name, s.name, last)
		}
	}
}
