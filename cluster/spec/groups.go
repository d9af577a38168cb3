package spec

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/musterhq/muster/cloudconfig"
	"github.com/musterhq/muster/cloudconfig/finding"
	"github.com/musterhq/muster/cloudconfig/strictyaml"
)

func (p *parser) groups(node *yaml.Node) {
	entries := p.Entries("hosts", node)
	for _, e := range entries {
		if !p.name(p.Position(e.Key), "group of hosts", e.Key.Value) {
			continue
		}
		if len(p.hosts) > MaxHosts { // reported
			break
		}
		var raw groupFile
		p.Field(e.Key.Value, e.Value, &raw)
		p.group.path, p.group.node = "hosts."+e.Key.Value, e.Value
		p.readGroup(e.Key.Value, raw)
	}
	p.group.node = nil
	p.whole = len(p.spec.Groups) == len(entries)
	if p.whole && len(p.hosts) == 0 && p.isMapping("hosts") {
		p.atKey("hosts", "add `hosts: {node: {count: 3, provider: NAME}}`; `muster down` ends a cluster", "the cluster has no hosts")
	}
}

// readGroup checks one group and adds it to the Spec when nothing is wrong with it.
func (p *parser) readGroup(name string, raw groupFile) {
	path := p.group.path
	before := len(p.Findings())
	g := Group{Name: name, Labels: raw.Labels, Voter: raw.Voter}
	g.Providers = p.places(path, raw)
	p.labels(path, raw.Labels)
	g.Settings = p.settings(path, raw, g.Providers)
	g.CloudConfig = p.cloudConfig(path, raw.CloudConfig)
	g.Hosts = p.hostNames(path, name, raw)
	if len(p.Findings()) == before && len(g.Providers) > 0 {
		p.spec.Groups = append(p.spec.Groups, g)
	}
}

// places returns the providers of a group, in turn. It leaves out wrong ones.
func (p *parser) places(path string, raw groupFile) []string {
	var places []string
	switch one, many := p.has(path+".provider"), p.filled(path+".spread"); {
	case one && many:
		p.at(path+".spread", "keep one of them", "a group has either `provider` or `spread`")
		return nil
	case one:
		places = p.place(nil, path+".provider", raw.Provider)
	case many:
		for i, name := range raw.Spread {
			places = p.place(places, path+".spread["+strconv.Itoa(i)+"]", name)
		}
		if node := p.find(path + ".spread"); node.Kind == yaml.SequenceNode && len(node.Content) == 0 {
			p.at(path+".spread", quoteAll("there is", "there are", p.names), "`spread` is empty")
		}
	case p.isMapping(path):
		p.atKey(path, "add `provider: "+strings.Join(p.names[:min(1, len(p.names))], "")+"`", "the hosts have no provider")
	}
	return places
}

// place adds the provider named at a path to places, if there is one of that name.
func (p *parser) place(places []string, path, name string) []string {
	switch {
	case slices.Contains(p.names, name):
		p.used[name] = true
		return append(places, name)
	case p.isString(path):
		p.at(path, suggest(name, p.names), "no provider is called `%s`", name)
	}
	return places
}

var labelKey = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_./-]{0,61}[A-Za-z0-9])?$`)

// labels checks that MachineMetadata="key=value" of [X-Fleet] can name them (COMPAT: fleet).
func (p *parser) labels(path string, labels map[string]string) {
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		value, at := labels[key], path+".labels."+key
		if !labelKey.MatchString(key) {
			p.atKey(at, "use at most 63 letters, digits, `_`, `.`, `/` and `-`", "`%s` is no label", key)
		}
		if value == "" && !p.isString(at) {
			continue // of another type
		}
		if value == "" || len(value) > 255 || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == '"' || r == 0x7f }) {
			p.at(at, "use 1 to 255 characters without `\"`", "the value of the label `%s` is not possible", key)
		}
	}
}

// hostNames names the hosts of a group and checks that no other host is called so.
func (p *parser) hostNames(path, group string, raw groupFile) []string {
	count := 1
	if raw.Count != nil {
		count = *raw.Count
	}
	names := raw.Names
	switch given := p.filled(path + ".names"); {
	case given && p.has(path+".count"):
		p.at(path+".names", "keep one of them", "a group has either `count` or `names`")
		return nil
	case given && len(names) == 0:
		if p.find(path+".names").Kind == yaml.SequenceNode {
			p.at(path+".names", "", "`names` is empty")
		}
		return nil
	case count < 0 || count > MaxHosts:
		p.at(path+".count", fmt.Sprintf("0 to %d is possible", MaxHosts), "%d hosts are not possible", count)
		return nil
	case !given && !label.MatchString(fmt.Sprintf("%s-%d", group, count)):
		p.atKey(path, labelHint, "`%s-%d` is no name of a host", group, count)
		return nil
	case !given:
		names = NumberedHosts(group, count)
	}
	for i, name := range names {
		at := path
		if len(raw.Names) > 0 {
			at = path + ".names[" + strconv.Itoa(i) + "]"
			if !p.isString(at) || !p.name(strictyaml.Locate(p.File, p.root, at), "host", name) {
				continue
			}
		}
		p.host(name, place{group, at})
	}
	return names
}

// host notes a host, once.
func (p *parser) host(name string, from place) {
	if first, dup := p.hosts[name]; dup {
		line := strictyaml.LocateKey(p.File, p.root, first.path).Line
		p.atKey(from.path, "", "a second host `%s`, the first is in the group `%s` on line %d", name, first.group, line)
		return
	}
	p.hosts[name] = from
	if len(p.hosts) == MaxHosts+1 {
		p.atKey("hosts", "", "the cluster has more than %d hosts", MaxHosts)
	}
}

// cloudConfig reads the operator's document. One that several groups name is read once.
func (p *parser) cloudConfig(path, file string) cloudconfig.Document {
	if file == "" {
		return cloudconfig.Document{}
	}
	at := path + ".cloud_config"
	name := p.Path(file)
	if doc, known := p.configs[name]; known {
		return doc
	}
	p.configs[name] = cloudconfig.Document{}
	data, err := p.ReadFile(name, strictyaml.MaxBytes)
	if err != nil {
		p.at(at, pathHint(file, name, err), "cannot read the cloud-config: %v", err)
		return cloudconfig.Document{}
	}
	doc, err := cloudconfig.ParseOperator(name, data)
	var inside finding.Findings
	if errors.As(err, &inside) {
		for _, f := range inside {
			p.AddAt(f.Position, f.Hint, "%s", f.Message)
		}
	}
	if doc.Hostname != "" {
		p.at(at, "remove it there", "`%s` sets a hostname, but the hosts are named by the cluster", file)
	}
	p.configs[name] = doc
	return doc
}

// pathHint tells where relative paths start, when one has missed.
func pathHint(given, full string, err error) string {
	if given == full || !errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	return "paths are relative to the directory of the cluster file"
}
