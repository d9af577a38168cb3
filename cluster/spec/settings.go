package spec

import (
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/musterhq/muster/cloudconfig/strictyaml"
	"github.com/musterhq/muster/providers"
)

// settings reads the settings of a group's hosts at each of their providers. One mapping serves all providers of one
// driver; when a key names a provider of the spread, every key must, and its value is for that provider.
func (p *parser) settings(path string, raw groupFile, places []string) map[string]any {
	at := path + ".settings"
	entries := p.Entries("settings", &raw.Settings)
	if !raw.Settings.IsZero() && !p.isMapping(at) {
		return nil
	}
	if slices.ContainsFunc(entries, func(e strictyaml.Entry) bool { return slices.Contains(raw.Spread, e.Key.Value) }) {
		return p.settingsByProvider(at, raw, places)
	}
	settings, byDriver := map[string]any{}, map[string]any{}
	for _, place := range places {
		driver := p.drivers[place]
		if driver == nil {
			continue
		}
		if _, done := byDriver[driver.Name]; !done {
			if len(byDriver) > 0 && len(entries) > 0 {
				p.at(at, "give each its own: settings: {"+places[0]+": {...}, "+place+": {...}}",
					"the hosts are at different drivers, whose settings differ")
				return settings
			}
			byDriver[driver.Name] = p.hostSettings(at, "settings", &raw.Settings, driver)
		}
		settings[place] = byDriver[driver.Name]
	}
	return settings
}

// settingsByProvider reads settings that are keyed by provider.
func (p *parser) settingsByProvider(at string, raw groupFile, places []string) map[string]any {
	settings, given := map[string]any{}, map[string]*yaml.Node{}
	for _, e := range p.Entries("settings", &raw.Settings) {
		if !slices.Contains(raw.Spread, e.Key.Value) {
			p.Add(e.Key, suggest(e.Key.Value, raw.Spread), "`%s` is no provider of this group's spread", e.Key.Value)
		}
		given[e.Key.Value] = e.Value
	}
	for _, place := range places {
		node := given[place]
		if node == nil {
			node = &yaml.Node{}
		}
		if _, done := settings[place]; !done && p.drivers[place] != nil {
			settings[place] = p.hostSettings(at+"."+place, place, node, p.drivers[place])
		}
	}
	return settings
}

// hostSettings decodes the settings at a path with a driver. The zero node is none given: the driver's defaults.
func (p *parser) hostSettings(path, key string, node *yaml.Node, driver *providers.Driver) any {
	if driver.NewSettings == nil {
		if len(p.Entries(key, node)) > 0 {
			p.Add(node, "remove them", "hosts of the driver `%s` have no settings", driver.Name)
		}
		return nil
	}
	settings := driver.NewSettings()
	if node.IsZero() {
		node = &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	}
	p.validated(path, key, node, settings)
	return settings
}
