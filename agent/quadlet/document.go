package quadlet

import (
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/musterhq/muster/agent/unitfile"
	"github.com/musterhq/muster/cloudconfig/finding"
)

// document is what [Container] says: each key that is given, with the values that count.
type document struct {
	unit     string
	file     unitfile.File
	values   map[string][]string
	given    map[string]unitfile.Option // the last assignment that counts
	problems finding.Findings
}

var byName = func() map[string]key {
	m := map[string]key{}
	for _, k := range keys {
		m[k.name] = k
	}
	return m
}()

// read reads a unit that is a container. What is wrong with it is among the problems.
func read(unit string, f unitfile.File) *document {
	d := &document{unit: unit, file: f, values: map[string][]string{}, given: map[string]unitfile.Option{}}
	for _, o := range f.Section("Container") {
		d.option(o)
	}
	for _, o := range f.Section("Service") {
		d.service(o)
	}
	d.sections()
	d.together()
	return d
}

func (d *document) fail(o unitfile.Option, hint, format string, args ...any) {
	d.problems = append(d.problems, o.Finding(d.unit, wrong(hint, format, args...), ""))
}

// option takes one assignment. An empty one forgets those before it.
func (d *document) option(o unitfile.Option) {
	k, known := byName[o.Name]
	if !known {
		d.stranger(o)
		return
	}
	if o.Value == "" {
		delete(d.values, o.Name)
		delete(d.given, o.Name)
		return
	}
	values, err := split(k.kind, o.Value)
	for _, v := range values {
		if err == nil {
			err = k.problem(v)
		}
	}
	if err != nil {
		d.problems = append(d.problems, o.Finding(d.unit, err, ""))
	}
	if k.kind == text || k.kind == boolean || k.kind == command {
		d.values[o.Name] = nil
	}
	d.values[o.Name] = append(d.values[o.Name], values...)
	d.given[o.Name] = o
}

// stranger refuses a key that is not taken.
func (d *document) stranger(o unitfile.Option) {
	if hint, known := refused[o.Name]; known {
		d.fail(o, hint, "not supported in [Container]")
		return
	}
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = k.name
	}
	hint := ""
	if len(o.Name) < 64 {
		hint = finding.DidYouMean(o.Name, names)
	}
	if hint == "" {
		hint = "it knows the keys of podman-systemd.unit(5) of podman 5.4; PodmanArgs= takes any flag"
	}
	d.fail(o, hint, "not known in [Container]")
}

// split reads a value as its kind is written.
func split(k kind, value string) ([]string, error) {
	switch k {
	case texts, text:
		if w, err := unitfile.SplitWords(value); err == nil && len(w) == 1 && strings.ContainsRune(`"'`, rune(value[0])) {
			return w, nil // it is quoted as a whole
		}
		return []string{value}, nil
	case boolean:
		on, err := unitfile.ParseBool(value)
		if err != nil {
			return nil, wrong("write yes or no", "%v", err)
		}
		return []string{map[bool]string{true: "true", false: "false"}[on]}, nil
	default:
		all, err := unitfile.SplitWords(value)
		for _, w := range all {
			if name, _, ok := strings.Cut(w, "="); k == pairs && (!ok || name == "") {
				return all, wrong(`write NAME=value, or "NAME=two words"`, "%q is no assignment", w)
			}
		}
		return all, err
	}
}

// problem says what is wrong with a value, as far as it can be known before specifiers and variables are replaced.
func (k key) problem(v string) error {
	switch {
	case !utf8.ValidString(v):
		return wrong("write it in UTF-8", "the value is not text")
	case k.check == nil || strings.ContainsAny(v, "%$"):
		return nil
	}
	return k.check(v)
}

// service refuses what the rendered service has of its own.
func (d *document) service(o unitfile.Option) {
	hint, taken := ours[o.Name]
	switch {
	case taken && o.Value != "":
		d.fail(o, hint, "it follows from [Container]")
	case o.Name == "Type" && !slices.Contains([]string{"", "notify", "oneshot"}, o.Value):
		d.fail(o, "write oneshot, or remove it", "a container is no service of type %q", o.Value)
	}
}

// sections refuses those that Quadlet knows and that are not for containers.
func (d *document) sections() {
	seen := map[string]bool{}
	for _, o := range d.file.Options {
		hint, other := otherSections[o.Section]
		if !other || seen[o.Section] {
			continue
		}
		seen[o.Section] = true
		at := finding.Position{File: d.unit, Line: o.Line}
		d.problems.Add(at, hint, "section [%s] is not supported in the unit of a container", o.Section)
	}
}

// together checks what concerns several keys.
func (d *document) together() {
	_, image := d.given["Image"]
	rootfs, hasRootfs := d.given["Rootfs"]
	switch {
	case !image && !hasRootfs:
		d.problems.Add(finding.Position{File: d.unit}, "add Image= to [Container]", "the container has no `Image`")
	case image && hasRootfs:
		d.fail(rootfs, "remove one of them", "cannot stand beside `Image`")
	}
	if o, ok := d.given["Group"]; ok && d.one("User") == "" {
		d.fail(o, "add User=", "an engine takes a group with a user alone")
	}
	template := unitfile.IsTemplate(d.unit)
	if _, instance := unitfile.Template(d.unit); instance {
		template = true
	}
	if o, ok := d.given["ContainerName"]; ok && template && !strings.Contains(o.Value, "%i") && !strings.Contains(o.Value, "%I") {
		d.fail(o, "write "+o.Value+"-%i", "instances on one host would take each other's container")
	}
	if o, ok := d.given["Notify"]; ok && d.one("Notify") == "healthy" && d.one("HealthCmd") == "" {
		d.fail(o, "add HealthCmd=", "nobody would ask whether the container is well")
	}
}

// one is the value of a key that has one, "" when it is not given.
func (d *document) one(name string) string {
	if values := d.values[name]; len(values) > 0 {
		return values[len(values)-1]
	}
	return ""
}

// name is the container's: ContainerName=, or systemd-%p and, of an instance, _%i, as with Quadlet.
func (d *document) name() string {
	if name := d.one("ContainerName"); name != "" {
		return name
	}
	base := strings.TrimSuffix(d.unit, ".service")
	return "systemd-" + strings.Map(func(r rune) rune {
		if strings.ContainsRune(`@:\`, r) {
			return '_'
		}
		return r
	}, base)
}
