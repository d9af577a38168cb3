package unitfile

import (
	"errors"
	"regexp"
	"slices"
	"strings"

	"github.com/musterhq/muster/cloudconfig/finding"
)

// Requirements are the placement rules of a unit, from [X-Fleet] (COMPAT: fleet) and its deprecated spellings, with
// specifiers expanded, and from [X-Muster].
type Requirements struct {
	Global    bool
	MachineID string              // full ID or its first 8 characters
	MachineOf []string            // units whose host this one must share
	Conflicts []string            // shell patterns (path.Match) of units this one must not share a host with
	Metadata  map[string][]string // label → accepted values: OR within a label, AND between labels
	Replaces  []string            // shell patterns (path.Match) of units that must leave the host where this one goes

	// Spread is a label (host, provider or any other) over whose values the instances of a template are spread evenly,
	// "" for none. A host without the label takes none of them.
	Spread   string
	MilliCPU int64 // of the host's CPUs kept for it, in thousandths of one; 0 for none
	Memory   int64 // of the host's kept for it, in bytes; 0 for none
	Priority int   // the higher is placed first; nothing is moved for it
	Strict   bool  // Singleton=strict: only hosts that can promise not to run it too long may have it
	// StopCutOff is OnPartition=stop, without Strict: only hosts that stop it when they are cut off may have it.
	StopCutOff bool
}

// xFleet is the section that fleet added.
const xFleet = "X-Fleet"

// fleetKeys maps each key of [X-Fleet], deprecated ones too, to its meaning (COMPAT: fleet).
var fleetKeys = map[string]string{
	"MachineID": "MachineID", "X-ConditionMachineID": "MachineID", "X-ConditionMachineBootID": "MachineID",
	"MachineOf": "MachineOf", "X-ConditionMachineOf": "MachineOf",
	"MachineMetadata": "MachineMetadata", "X-ConditionMachineMetadata": "MachineMetadata",
	"Conflicts": "Conflicts", "X-Conflicts": "Conflicts",
	"Global": "Global", "Replaces": "Replaces",
}

// Requirements returns where the unit may run. The findings are what is wrong with its rules; what is right is
// returned nevertheless. For a template the rules are those of an instance whose name is empty.
func (f File) Requirements(unitName string) (Requirements, finding.Findings) {
	r := ruler{unit: unitName, first: map[string]Option{}}
	for _, o := range f.Options {
		if o.Section == xFleet && o.Value != "" {
			r.rule(o)
		}
	}
	r.exclusions()
	r.beyond(f)
	return r.Requirements, r.problems
}

// Replaces says whether the file has Replaces= at all, right or wrong.
func (f File) Replaces() bool {
	return slices.ContainsFunc(f.Options, func(o Option) bool {
		return o.Section == xFleet && o.Name == "Replaces" && o.Value != ""
	})
}

// beyond takes in the placement rules of [X-Muster], and what does not go together with fleet's.
func (r *ruler) beyond(f File) {
	x := f.readMuster(r.unit)
	r.Spread, r.MilliCPU, r.Memory, r.Priority = x.rules.Spread, x.rules.MilliCPU, x.rules.Memory, x.rules.Priority
	r.Strict, r.StopCutOff = x.muster.Strict, x.muster.StopCutOff && !x.muster.Strict
	r.problems = append(r.problems, x.problems...)
	for _, pair := range [][2]string{
		{"Replicas", "Global"},
		{"Spread", "Global"},
		{"Spread", "MachineID"},
		{"Spread", "MachineOf"},
		{"Priority", "Global"},
		{"Singleton", "Global"},
	} {
		ours, hasOurs := x.given[pair[0]]
		fleets, hasFleets := r.first[pair[1]]
		if hasOurs && hasFleets {
			r.problems.Add(ours.at(r.unit, 0), "remove one of them", "`%s` cannot stand beside `%s`", pair[0], fleets.Name)
		}
	}
	if o, ok := x.given["Singleton"]; ok && x.muster.Strict && x.muster.Replicated {
		r.problems.Add(o.at(r.unit, 0), "remove one of them, or start instances by their own names",
			"`%s` cannot stand beside `Replicas`", o.Name)
	}
	r.alone(f, x)
	if o, ok := x.given["Replicas"]; ok && x.muster.Replicas > MaxOwnRules && f.HasOwnRules() {
		r.problems.Add(o.at(r.unit, 0), "write rules without specifiers",
			"there may be at most %d instances with rules of their own in [X-Fleet]", MaxOwnRules)
	}
}

// ruler gathers the rules of one unit.
type ruler struct {
	Requirements
	unit     string
	first    map[string]Option // meaning → the first assignment
	problems finding.Findings
}

func (r *ruler) rule(o Option) {
	meaning, ok := fleetKeys[o.Name]
	if !ok {
		return
	}
	value, err := Expand(join(o.Value), r.unit, HostSpecifiers{})
	if err != nil {
		r.fail(o, err, "[X-Fleet] knows the specifiers %n %N %p %i")
		return
	}
	if meaning == "Global" {
		on, err := ParseBool(value)
		if err != nil {
			r.fail(o, err, "")
		}
		if r.Global = on; !on {
			delete(r.first, meaning)
			return
		}
	}
	if _, ok := r.first[meaning]; !ok {
		r.first[meaning] = o
	} else if meaning == "MachineID" {
		return // the first value wins
	}
	switch meaning {
	case "MachineID":
		r.machineID(o, value)
	case "MachineOf":
		r.machineOf(o, value)
	case "Conflicts":
		r.patterns(o, value, &r.Conflicts)
	case "Replaces":
		r.patterns(o, value, &r.Replaces)
	case "MachineMetadata":
		r.metadata(o, value)
	}
}

var machineID = regexp.MustCompile(`^[0-9a-f]{8}([0-9a-f]{24})?$`)

func (r *ruler) machineID(o Option, value string) {
	value = strings.ToLower(strings.ReplaceAll(value, "-", ""))
	if !machineID.MatchString(value) {
		r.problems.Add(o.at(r.unit, 0), "give all 32 hexadecimal digits of the host's ID, or the first 8",
			"%q is no host ID", value)
		return
	}
	r.MachineID = value
}

func (r *ruler) machineOf(o Option, value string) {
	for _, name := range strings.Fields(value) {
		if err := CheckName(name); err != nil {
			r.fail(o, err, "")
			continue
		}
		if name == r.unit {
			r.problems.Add(o.at(r.unit, 0), "name another unit", "the unit asks for its own host")
			continue
		}
		if IsTemplate(name) && !IsTemplate(r.unit) {
			r.problems.Add(o.at(r.unit, 0), "name an instance such as "+Instance(name, "1"),
				"%q is a template, which runs nowhere", name)
			continue
		}
		r.MachineOf = append(r.MachineOf, name)
	}
}

func (r *ruler) patterns(o Option, value string, into *[]string) {
	for _, pattern := range strings.Fields(value) {
		if err := checkPattern(pattern); err != nil {
			r.fail(o, err, "write one such as web@*.service")
			continue
		}
		*into = append(*into, pattern)
	}
}

func (r *ruler) metadata(o Option, value string) {
	words, err := splitWords(value)
	if err != nil {
		r.fail(o, err, "")
		return
	}
	for _, w := range words {
		label, accepted, ok := strings.Cut(w.text, "=")
		if len(r.problems) > maxFindings {
			return
		}
		if !ok || label == "" || accepted == "" {
			r.problems.Add(o.at(r.unit, w.offset), `write label=value, several as "a=1" "b=2"`, "%q is no label", w.text)
			continue
		}
		if r.Metadata == nil {
			r.Metadata = map[string][]string{}
		}
		if !slices.Contains(r.Metadata[label], accepted) {
			r.Metadata[label] = append(r.Metadata[label], accepted)
		}
	}
}

// exclusions reports rules that contradict each other (COMPAT: fleet).
func (r *ruler) exclusions() {
	for _, pair := range [][2]string{
		{"MachineID", "MachineOf"},
		{"MachineID", "Conflicts"},
		{"MachineID", "Global"},
		{"MachineID", "Replaces"},
		{"MachineOf", "Global"},
		{"Conflicts", "Replaces"},
		{"Global", "Replaces"},
	} {
		a, hasA := r.first[pair[0]]
		b, hasB := r.first[pair[1]]
		if !hasA || !hasB {
			continue
		}
		if a.Line > b.Line {
			a, b = b, a
		}
		r.problems.Add(b.at(r.unit, 0), "remove one of them", "`%s` cannot stand beside `%s`", b.Name, a.Name)
	}
}

// fail reports an error at its place in a value.
func (r *ruler) fail(o Option, err error, hint string) {
	r.problems = append(r.problems, explain(o, r.unit, err, hint))
}

// explain makes a finding of an error about an option's value. Specifiers that were expanded before make the place of
// a *SyntaxError approximate.
func explain(o Option, file string, err error, hint string) finding.Finding {
	var syntax *SyntaxError
	if !errors.As(err, &syntax) {
		return finding.Finding{Position: o.at(file, 0), Message: "`" + o.Name + "`: " + err.Error(), Hint: hint}
	}
	if hint == "" {
		hint = syntax.Hint
	}
	return finding.Finding{Position: o.at(file, syntax.Offset), Message: "`" + o.Name + "`: " + syntax.Message, Hint: hint}
}
