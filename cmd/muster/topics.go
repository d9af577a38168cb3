package main

import "github.com/spf13/cobra"

const fleetTopic = `Who knows fleet knows muster's units: their states, [X-Fleet], fleetctl's verbs.

As below ` + "`muster units`" + `, with fleetctl's flags (--no-block, --block-attempts, --replace, --fields, --no-legend, -l):

  submit load start stop unload destroy restart cat verify status journal ssh
  list-units list-unit-files list-machines

What differs, because it was a trap: a file always replaces what the cluster has of its name, as with --replace. A unit
goes on when musterd ends, and when the store is empty or away. Logs come through the agents, not through SSH.

fleetctl itself, and other programs written for fleet, work with no change:

  on a host                 fleetctl list-units        (/var/run/fleet.sock: root, and the group fleet)
  from elsewhere            fleetctl --tunnel HOST list-units
  over TCP                  fleetctl --endpoint http://127.0.0.1:49153 list-units

TCP is off unless the cluster file says fleet: {listen: ":49153"}, because nobody is asked there who they are. Hosts that do
not vote show everything and change nothing, unless it says fleet: {hosts_command: true}.

Metadata of machines are the labels of the cluster file. What is set by PATCH while hosts run stays, except under keys that
the file names: there the file wins, and muster plan shows it.`

const unitFilesTopic = `A unit is a systemd unit file. Two sections more say where it runs.

[X-Fleet] is fleet's: MachineID, MachineOf, MachineMetadata, Conflicts, Replaces, Global, with the specifiers %n %N %p %i.
A unit with Replaces=old*.service goes wherever its own rules allow; units of such names that are there are moved to
other hosts, as their own rules allow: what fits on no other waits. Units that would replace each other in a circle are
refused.

[X-Muster] is what fleet did not have:

  Replicas=20000      of a template NAME@.service: as many instances, from one record. ` + "`muster start NAME@.service`" + `
  Spread=provider     instances evenly over providers, over hosts (host), or over the values of any label
  CPU=0.5             reserved on the host, as is Memory
  Memory=512M
  Priority=10         from -1000 to 1000: the higher is placed first
  Singleton=strict    never twice at once: a host that is cut off stops it before another starts it
  OnPartition=stop    a host that is cut off from the cluster stops it; keep, the default, lets it run
  HealthCheck=tcp://127.0.0.1:5432
                      asks whether it is well; also http://..., https://..., exec:COMMAND. HealthAction=restart restarts
                      it when it is not. HealthInterval, HealthTimeout, HealthRetries and HealthStartPeriod as podman's
  UpdateParallel=2    new contents go to two instances at a time, or 25% of them, and back if one is not well
  UpdateDelay=1min    between them; see ` + "`muster rollout --help`" + `
  Engine=docker       of a container unit: insists on docker or podman

` + "`muster units verify FILE`" + ` compares a file with the cluster's, ` + "`muster why UNIT`" + ` tells why a unit is where it is.`

// helpTopics are what `muster help` tells of beside verbs.
func helpTopics() []*cobra.Command {
	return []*cobra.Command{
		{Use: "fleet", Short: "fleetctl's verbs, fleetctl itself, and what differs from fleet", Long: fleetTopic},
		{Use: "unit-files", Short: "what [X-Fleet] and [X-Muster] say in a unit file", Long: unitFilesTopic},
	}
}
