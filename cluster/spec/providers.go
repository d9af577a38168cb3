package spec

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/musterhq/muster/cloudconfig/finding"
	"github.com/musterhq/muster/cloudconfig/strictyaml"
	"github.com/musterhq/muster/providers"
)

// providers reads the providers. musterd is how hosts get it where a provider does not say.
func (p *parser) providers(node *yaml.Node, musterd Musterd) {
	entries := p.Entries("providers", node)
	if len(entries) == 0 && p.isMapping("providers") {
		p.atKey("providers", p.exampleProvider(), "no provider is configured")
	}
	for _, e := range entries {
		p.names = append(p.names, e.Key.Value)
	}
	for _, e := range entries {
		if p.name(p.Position(e.Key), "provider", e.Key.Value) {
			p.provider(e.Key.Value, e.Value, musterd)
		}
	}
	slices.SortFunc(p.spec.Providers, func(a, b Provider) int { return strings.Compare(a.Name, b.Name) })
}

// exampleProvider is a hint for those who have none: `local` needs nothing.
func (p *parser) exampleProvider() string {
	names := p.reg.Names()
	switch {
	case slices.Contains(names, "local"):
		return "add `providers: {cloud-a: {driver: local}}`"
	case len(names) > 0:
		return "add `providers: {cloud-a: {driver: " + names[0] + ", ...}}`"
	}
	return ""
}

// provider reads `driver:` and `musterd:` and gives the driver all other keys.
func (p *parser) provider(name string, node *yaml.Node, musterd Musterd) {
	driver := p.driver(name, node)
	if driver == nil {
		return
	}
	path := "providers." + name
	provider := Provider{Name: name, Driver: driver.Name, Musterd: musterd}
	if driver.BringsMusterd {
		provider.Musterd = Musterd{}
	}
	config := yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: node.Line, Column: node.Column}
	for _, e := range p.Entries(name, node) {
		switch {
		case e.Key.Value == "driver":
		case e.Key.Value == "musterd" && !driver.BringsMusterd:
			provider.Musterd = p.musterd(path+".musterd", e.Value, musterd)
		default:
			config.Content = append(config.Content, e.Key, e.Value)
		}
	}
	if driver.NewConfig != nil {
		provider.Config = driver.NewConfig()
		p.validated(path, name, &config, provider.Config)
	} else if len(config.Content) > 0 {
		p.Add(config.Content[0], "", "the driver `%s` takes no configuration", driver.Name)
	}
	p.spec.Providers = append(p.spec.Providers, provider)
}

// driver finds the driver of a provider, nil when there is none.
func (p *parser) driver(name string, node *yaml.Node) *providers.Driver {
	path := "providers." + name
	entries := p.Entries(name, node)
	i := slices.IndexFunc(entries, func(e strictyaml.Entry) bool { return e.Key.Value == "driver" })
	if i < 0 {
		if p.isMapping(path) {
			p.atKey(path, quoteAll("there is", "there are", p.reg.Names()), "the provider `%s` has no `driver`", name)
		}
		return nil
	}
	var driverName string
	p.Field("driver", entries[i].Value, &driverName)
	driver, err := p.reg.Lookup(driverName)
	if err != nil {
		if entries[i].Value.ShortTag() == "!!str" {
			p.at(path+".driver", suggest(driverName, p.reg.Names()), "the driver `%s` is not known", driverName)
		}
		return nil
	}
	p.drivers[name] = &driver
	return &driver
}

// validated decodes the mapping at a path, whose last key is key, into what a driver gave for it, and lets that check itself.
func (p *parser) validated(path, key string, node *yaml.Node, into any) {
	before := len(p.Findings())
	p.Field(key, node, into)
	v, ok := into.(providers.Validator)
	if !ok || len(p.Findings()) > before {
		return
	}
	for _, problem := range v.Validate() {
		at := path
		if problem.Field != "" {
			at += "." + problem.Field
		}
		p.at(at, problem.Hint, "`%s`: %s", problem.Field, problem.Message)
	}
}

// suggest guesses which of the names was meant, or lists them.
func suggest(got string, names []string) string {
	if hint := finding.DidYouMean(got, names); hint != "" {
		return hint
	}
	return quoteAll("there is", "there are", names)
}

func quoteAll(one, many string, names []string) string {
	switch len(names) {
	case 0:
		return ""
	case 1:
		return one + " `" + names[0] + "`"
	}
	const most = 20
	if len(names) > most {
		names = append(slices.Clone(names[:most]), "…")
	}
	last := len(names) - 1
	return many + " `" + strings.Join(names[:last], "`, `") + "` and `" + names[last] + "`"
}
