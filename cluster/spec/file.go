package spec

import (
	"time"

	"go.yaml.in/yaml/v3"
)

// clusterFile is the shape of a cluster file. The descriptions are shown by editors that know the JSON Schema.
type clusterFile struct {
	Version   int           `yaml:"version" jsonschema:"required,enum=1,description=Version of this format."`
	Cluster   string        `yaml:"cluster" jsonschema:"required,description=Name of the cluster: a DNS label."`
	Voters    *int          `yaml:"voters" jsonschema:"enum=1,enum=3,enum=5,enum=7,description=How many hosts keep the cluster's shared state. 3 unless there are fewer hosts."`
	Grace     time.Duration `yaml:"voter_grace" jsonschema:"default=5m,description=A voter silent for so long is replaced by a standby host. From 5s to 24h. 0s: never."`
	Lease     time.Duration `yaml:"lease" jsonschema:"default=5s,description=A host silent for so long is given up and its units move. From 2s to 10m."`
	Rebalance int           `yaml:"rebalance" jsonschema:"default=5,minimum=0,maximum=100,description=How many of the units\\, in percent and at least one\\, may move at a time to even out the load when hosts join. The next ones move when these run again. 0: none move."`
	Backups   backupsFile   `yaml:"backups" jsonschema:"description=Backups of the cluster's records that every voter writes by itself."`
	Network   networkFile   `yaml:"network" jsonschema:"description=How hosts reach each other."`
	Fleet     fleetFile     `yaml:"fleet" jsonschema:"description=fleet's API beside the unix socket of every host. Hosts made before keep what they were told."`
	Keys      keysFile      `yaml:"keys" jsonschema:"description=Who\\, beside programs of every host itself\\, reaches the keys that all hosts share. Hosts made before keep what they were told."`
	Update    updateFile    `yaml:"update" jsonschema:"description=How hosts take new releases."`
	Musterd   yaml.Node     `yaml:"musterd"`
	Providers yaml.Node     `yaml:"providers" jsonschema:"required"`
	Hosts     yaml.Node     `yaml:"hosts" jsonschema:"required"`
	Units     []unitFile    `yaml:"units" jsonschema:"description=Units that shall be on the cluster."`
}

type networkFile struct {
	Mode string `yaml:"mode" jsonschema:"enum=direct,default=direct,description=direct: hosts reach each other at their addresses."`
}

type groupFile struct {
	Count       *int              `yaml:"count" jsonschema:"minimum=0,maximum=10000,default=1,description=How many hosts: GROUP-1 to GROUP-count."`
	Names       []string          `yaml:"names" jsonschema:"description=Names of the hosts\\, instead of count."`
	Provider    string            `yaml:"provider" jsonschema:"description=Name of the provider of every host in the group."`
	Spread      []string          `yaml:"spread" jsonschema:"minItems=1,description=Names of providers that get the hosts in turn\\, instead of provider."`
	Labels      map[string]string `yaml:"labels" jsonschema:"description=Labels that units can ask for."`
	Voter       *bool             `yaml:"voter" jsonschema:"description=Whether the hosts vote. Without it muster chooses."`
	Settings    yaml.Node         `yaml:"settings"`
	CloudConfig string            `yaml:"cloud_config" jsonschema:"description=Path of a #cloud-config to merge into the first boot."`
}

type unitFile struct {
	File      string    `yaml:"file" jsonschema:"required,description=Path of the unit file. Its base name is the unit's name."`
	Instances yaml.Node `yaml:"instances"`
	Desired   string    `yaml:"desired" jsonschema:"enum=launched,enum=loaded,enum=inactive,default=launched,description=launched: runs. loaded: is on a host\\, stopped. inactive: is only known. Of a template without instances it is what its replicas shall do."`
}
