package spec

import (
	"maps"
	"slices"

	"github.com/musterhq/muster/cluster/join"
)

// keysFile is who, beside programs of the host itself, reaches the keys that all hosts share.
type keysFile struct {
	Bridge string            `yaml:"bridge" jsonschema:"description=Containers behind this network interface reach the keys at its address\\, ports 4001 and 2379: podman0\\, docker0. They may read them. Without it they reach nothing."`
	Grants map[string]string `yaml:"grants" jsonschema:"description=Keys that these containers may write\\, each with all below it: \"/services: write\"."`
}

// grantWrite is the one thing that can be granted.
const grantWrite = "write"

// keys reads who reaches the keys.
func (p *parser) keys(raw keysFile) {
	keys := join.Keys{Bridge: raw.Bridge, Grants: slices.Sorted(maps.Keys(raw.Grants))}
	for _, key := range keys.Grants {
		if raw.Grants[key] != grantWrite {
			p.at("keys.grants", "reading needs no grant; write `"+key+": write`", "`%s` cannot be granted", raw.Grants[key])
			return
		}
	}
	if err := keys.Validate(); err != nil {
		p.at("keys", "write `keys: {bridge: podman0, grants: {/services: write}}`", "%v", err)
		return
	}
	p.spec.Keys = keys
}
