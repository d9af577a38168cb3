package main

import (
	"os"

	"github.com/musterhq/muster/cluster/apply"
	"github.com/musterhq/muster/cluster/deliver"
	"github.com/musterhq/muster/cluster/spec"
	"github.com/musterhq/muster/providers"
)

// deliverMusterd fills in how hosts get musterd, as the cluster file says.
func (c *cli) deliverMusterd(deps *apply.Deps) error {
	home, err := os.UserHomeDir()
	if err != nil {
		home = "/"
	}
	config := deliver.Config{
		Ways: make(map[string]spec.Musterd), Consoles: make(map[string]providers.Consoler),
		Musterd: musterdPath(), Home: home, AgentSocket: os.Getenv("SSH_AUTH_SOCK"), Log: c.log(),
	}
	for _, p := range deps.Spec.Providers {
		if p.Musterd.IsZero() {
			continue
		}
		config.Ways[p.Name] = p.Musterd
		if opened := deps.Providers[p.Name]; opened != nil {
			if console, ok := providers.As[providers.Consoler](opened); ok {
				config.Consoles[p.Name] = console
			}
		}
	}
	d, err := deliver.New(config)
	if err != nil {
		return failed("", "%w", err)
	}
	deps.Musterd = make(map[string]apply.Musterd)
	for name, way := range config.Ways {
		deps.Musterd[name] = apply.Musterd{Downloads: d.Downloads(name), Pushed: way.Push != nil}
		if way.Push != nil || way.Serve != "" {
			deps.Delivery = d
		}
	}
	return nil
}
