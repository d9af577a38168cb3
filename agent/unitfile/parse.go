package unitfile

import (
	_ "embed"
	"maps"
	"slices"
	"strings"

	"github.com/musterhq/muster/cloudconfig/finding"
)

// Parse reads the unit file that shall be known under a name. The error is finding.Findings: everything that is wrong,
// in the order of the file. Warnings are what systemd would ignore or this version does not honour; they do not fail.
// The size limit is MaxSize. What is wrong with a container beyond that, the package quadlet knows.
func Parse(name string, content []byte) (File, finding.Findings, error) {
	var problems, warnings finding.Findings
	if err := CheckName(name); err != nil {
		problems.Add(finding.Position{File: name}, "", "%s", err)
	}
	s := scan(name, content)
	f := File{Options: s.options}
	problems = append(problems, s.problems...)
	if len(f.Options) == 0 && len(s.problems) == 0 {
		problems.Add(finding.Position{File: name}, "begin with [Unit]", "the unit file is empty")
	}
	warnings = append(warnings, s.warnings...)
	warnings = append(warnings, f.unknown(name)...)
	warnings = append(warnings, f.strangeSpecifiers(name)...)
	_, wrong := f.Requirements(name)
	problems = append(problems, wrong...)
	if _, suffix := splitType(name); suffix == "service" && !f.IsContainer() && len(s.problems) == 0 && len(f.Options) > 0 {
		_, wrong, odd := f.service(name)
		problems = append(problems, wrong...)
		warnings = append(warnings, odd...)
	}
	_ = warnings.Err() // sorts
	if err := problems.Err(); err != nil {
		return File{}, warnings, err
	}
	return f, warnings, nil
}

// keys.txt lists what systemd 252 knows in [Unit], [Service] and [Install]: the output of
// `systemd --dump-configuration-items`.
//
//go:embed keys.txt
var keysText string

var knownKeys = readKeys(keysText)

// sections that systemd knows and [X-Fleet], [X-Muster]. Others beginning with X- belong to somebody else.
var sections = []string{
	"Unit", "Install", "Service", "Socket", "Mount", "Automount", "Swap", "Timer", "Path", "Slice", "Scope", "X-Fleet",
	xMuster, xContainer, "X-Container",
}

func readKeys(text string) map[string][]string {
	keys := map[string][]string{
		xFleet: slices.Sorted(maps.Keys(fleetKeys)), xMuster: slices.Sorted(maps.Keys(musterKeys)),
	}
	section := ""
	for _, line := range strings.Fields(text) {
		if line[0] == '[' {
			section = strings.Trim(line, "[]")
			continue
		}
		keys[section] = append(keys[section], line)
	}
	return keys
}

// isKnown is true for keys of sections that are not listed.
func isKnown(section, key string) bool {
	keys, listed := knownKeys[section]
	return !listed || slices.Contains(keys, key)
}

// checkSection warns of a section that nobody reads.
func checkSection(name string, at finding.Position) finding.Findings {
	if slices.Contains(sections, name) {
		return nil
	}
	hint := didYouMean(name, sections)
	if hint == "" && strings.HasPrefix(name, "X-") {
		return nil
	}
	var warnings finding.Findings
	warnings.Add(at, hint, "section [%s] is not known, its settings have no effect", name)
	return warnings
}

// unknown warns of keys that nobody reads. A key of systemd's own sections that resembles no known one may come from a
// later version.
func (f File) unknown(name string) finding.Findings {
	var warnings finding.Findings
	strangers := 0
	for _, o := range f.Options {
		at := finding.Position{File: name, Line: o.Line}
		ours := o.Section == xFleet || o.Section == xMuster
		if isKnown(o.Section, o.Name) {
			continue
		}
		if strangers++; strangers > maxFindings {
			return warnings
		}
		if hint := didYouMean(o.Name, knownKeys[o.Section]); ours || hint != "" {
			warnings.Add(at, hint, "`%s` is not known in [%s]", o.Name, o.Section)
		}
	}
	return warnings
}

// didYouMean is finding.DidYouMean for words short enough to be a slip of the fingers.
func didYouMean(got string, candidates []string) string {
	if len(got) > 64 {
		return ""
	}
	return finding.DidYouMean(got, candidates)
}

// strangeSpecifiers warns of % that systemd would leave as it stands.
func (f File) strangeSpecifiers(name string) finding.Findings {
	var warnings finding.Findings
	for _, o := range f.Options {
		if strings.HasPrefix(o.Section, "X-") || o.Name == "Description" {
			continue
		}
		if i, ok := strangeSpecifier(o.Value); ok {
			err := &SyntaxError{Offset: i, Message: "unknown specifier", Hint: "write %% for a percent sign"}
			warnings = append(warnings, explain(o, name, err, ""))
		}
	}
	return warnings
}
