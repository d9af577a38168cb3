package spec

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/musterhq/muster/cloudconfig/strictyaml"
)

// desiredStates are fleet's words (store.Desired).
var desiredStates = []string{"launched", "loaded", "inactive"}

var (
	// unitName is what fleet takes (COMPAT: fleet).
	unitName  = regexp.MustCompile(`^[A-Za-z0-9:_.\\@-]+\.(automount|busname|device|mount|path|scope|service|slice|snapshot|socket|swap|target|timer)$`)
	instance  = regexp.MustCompile(`^[A-Za-z0-9:_.\\-]+$`)
	unitRange = regexp.MustCompile(`^([0-9]{1,9})\.\.([0-9]{1,9})$`)
)

// maxUnitName is the longest name that systemd and fleet take.
const maxUnitName = 256

func (p *parser) allUnits(units []unitFile) {
	for i, u := range units {
		p.unit("units["+strconv.Itoa(i)+"]", u)
	}
}

// unit reads a unit file and names what it stands for.
func (p *parser) unit(path string, raw unitFile) {
	if !p.has(path + ".file") {
		if p.isMapping(path) {
			p.atKey(path, "add `file: PATH`", "the unit has no `file`")
		}
		return
	}
	if !p.isString(path + ".file") {
		return
	}
	u := Unit{Name: unitOf(filepath.Base(raw.File)), File: p.Path(raw.File), Desired: p.desired(path, raw.Desired)}
	u.At = strictyaml.Locate(p.File, p.root, path+".file")
	if raw.File == "" {
		u.Name = ""
	}
	if !unitName.MatchString(u.Name) || len(u.Name) > maxUnitName {
		p.at(path+".file", "a unit is called for example web.service or web@.service", "`%s` is no unit name", u.Name)
		return
	}
	before := len(p.Findings())
	content, err := p.ReadFile(u.File, MaxUnitBytes)
	if err != nil {
		p.at(path+".file", pathHint(raw.File, u.File, err), "cannot read the unit file: %v", err)
	}
	u.Content = content
	instances := p.instances(path, u, &raw.Instances)
	if len(p.Findings()) == before {
		p.add(path, u, instances)
	}
}

// unitOf is the unit of a file: that of a container, which is one of Quadlet's, is a service.
func unitOf(file string) string {
	if base, ok := strings.CutSuffix(file, ".container"); ok {
		return base + ".service"
	}
	return file
}

func (p *parser) desired(path, state string) string {
	if !p.has(path + ".desired") {
		return "launched"
	}
	for _, d := range desiredStates {
		if state == d {
			return state
		}
	}
	if p.isString(path + ".desired") {
		p.at(path+".desired", suggest(state, desiredStates), "the state `%s` is not known", state)
	}
	return ""
}

// add adds a unit to the Spec, or a template with its instances.
func (p *parser) add(path string, u Unit, instances []string) {
	units := []Unit{u}
	if before, after, ok := strings.Cut(u.Name, "@."); ok && len(instances) > 0 {
		units[0].Desired = "inactive" // its instances run
		for _, name := range instances {
			one := u
			one.Name = before + "@" + name + "." + after
			units = append(units, one)
		}
	}
	for _, u := range units {
		switch first, dup := p.units[u.Name]; {
		case dup:
			line := strictyaml.Locate(p.File, p.root, first).Line
			p.at(path+".file", "", "a second unit `%s`, the first is on line %d", u.Name, line)
			return
		case len(u.Name) > maxUnitName:
			p.at(path+".instances", "", "`%s` is longer than %d characters", u.Name, maxUnitName)
			return
		}
		p.units[u.Name] = path + ".file"
	}
	p.spec.Units = append(p.spec.Units, units...)
}

// instances reads the instances of a template: a range, a name, or a list of them.
func (p *parser) instances(path string, u Unit, node *yaml.Node) []string {
	at := path + ".instances"
	template := strings.Contains(u.Name, "@.")
	given := !node.IsZero()
	switch {
	case given && !template:
		p.at(at, "only a template such as "+templateOf(u.Name)+" has", "`%s` has no instances", u.Name)
		return nil
	case !given:
		return nil
	}
	items := []*yaml.Node{node}
	if node.Kind == yaml.SequenceNode {
		items = node.Content
	}
	var names []string
	seen := map[string]bool{}
	for _, item := range items {
		for _, name := range p.expand(item, len(names)) {
			if seen[name] {
				p.Add(item, "", "a second instance `%s`", name)
			}
			seen[name] = true
			names = append(names, name)
		}
	}
	if len(items) == 0 {
		p.at(at, "write for example 1..3", "`instances` is empty")
	}
	return names
}

func templateOf(name string) string {
	base, suffix, _ := strings.Cut(name, ".")
	base, _, _ = strings.Cut(base, "@")
	return base + "@." + suffix
}

// expand reads one item of `instances`, after so many others.
func (p *parser) expand(item *yaml.Node, before int) []string {
	if item.Kind == yaml.AliasNode {
		item = item.Alias
	}
	if item.Kind != yaml.ScalarNode || item.ShortTag() == "!!null" {
		p.Add(item, "write a range such as 1..6, or a name", "this is no instance")
		return nil
	}
	m := unitRange.FindStringSubmatch(item.Value)
	if m == nil {
		if strings.Contains(item.Value, "..") || !instance.MatchString(item.Value) {
			p.Add(item, "write a range such as 1..6, or a name", "`%s` is no instance", item.Value)
			return nil
		}
		return []string{item.Value}
	}
	first, _ := strconv.Atoi(m[1])
	last, _ := strconv.Atoi(m[2])
	switch {
	case last < first:
		p.Add(item, fmt.Sprintf("write %d..%d", last, first), "the range `%s` counts down", item.Value)
		return nil
	case len(p.spec.Units)+before+last-first+1 > MaxInstances:
		p.Add(item, "", "more than %d units", MaxInstances)
		return nil
	}
	names := make([]string, 0, last-first+1)
	for i := first; i <= last; i++ {
		names = append(names, strconv.Itoa(i))
	}
	return names
}
