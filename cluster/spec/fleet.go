package spec

import (
	"slices"

	"github.com/musterhq/muster/cluster/join"
	"github.com/musterhq/muster/cluster/roster"
)

// fleetFile is how hosts serve fleet's API beside its unix socket.
type fleetFile struct {
	Listen       string `yaml:"listen" jsonschema:"description=Serve fleet's API over plain TCP too\\, on every host: \":49153\" for programs on the host itself\\, 0.0.0.0:49153 for all who reach it. Nobody is asked who they are: who connects commands the cluster."`
	HostsCommand bool   `yaml:"hosts_command" jsonschema:"default=false,description=Voters take changes of units and metadata from every host\\, as fleet did. A host that was broken into commands the cluster then."`
}

// fleet reads how hosts serve fleet's API. An address must be one that every host has.
func (p *parser) fleet(raw fleetFile) {
	p.spec.Fleet = join.Fleet{Listen: raw.Listen, HostsCommand: raw.HostsCommand}
	if raw.Listen == "" {
		return
	}
	own := roster.DefaultPorts()
	host, port, err := p.spec.Fleet.Address()
	switch {
	case err != nil:
		p.at("fleet.listen", `write ":49153", for programs on the host itself`, "%v", err)
	case slices.Contains([]int{own.API, own.Client, own.Peer}, port):
		p.at("fleet.listen", `49153 is the one that fleet used`, "the port %d is musterd's own", port)
	case host.IsValid() && host.IsUnspecified():
		p.warn("fleet.listen", `":49153" is for programs on the host itself; fleetctl --tunnel goes through SSH`,
			"who reaches port %d of a host commands the cluster: fleet's API asks nobody who they are", port)
	case host.IsValid() && !host.IsLoopback():
		p.at("fleet.listen", `write ":49153" or 0.0.0.0:49153, or that host's own settings into its `+join.FleetPath,
			"`%s` is the address of one host", host)
	}
}
