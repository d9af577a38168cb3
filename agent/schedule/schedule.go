// Package schedule decides which host runs which unit. It is pure: a decision follows from a snapshot alone, the same
// snapshot in any order gives the same decisions, and each carries its reason. It knows no store, clock or network.
//
// A unit that is where it may be stays there: hosts that come, or that are less loaded, move nothing. Units whose host
// is lost or whose rules no longer hold there move; units that fit nowhere wait, and say why. Rules are fleet's
// ([X-Fleet]): MachineID, MachineOf, MachineMetadata, Conflicts, Global.
//
// The leader's loop is: Decide, write the schedules of After(snapshot, decisions) with the hosts of GlobalHosts, and
// again when something changed. Explain answers for one unit what Decide has no room to say of each host.
package schedule

import "github.com/musterhq/muster/agent/unitfile"

// HostState is what the scheduler believes of a host.
type HostState int

// The states of a host. Only ready hosts receive units; units of lost hosts move away.
const (
	Ready HostState = iota
	Lost            // its session has ended
)

// Host is a place for units.
type Host struct {
	ID       string
	Name     string
	Provider string
	State    HostState
	Labels   map[string]string // as in the cluster file; `provider`, `host` are added
}

// Unit is something to place. Units whose desired state is inactive are not part of a snapshot.
type Unit struct {
	Name         string
	Requirements unitfile.Requirements
}

// Snapshot is everything a decision is made from.
type Snapshot struct {
	Hosts []Host
	Units []Unit
	// Placed maps each unit that has a host now to that host's ID. Units placed but no longer wanted are in Placed only.
	// A Global unit is never in Placed: where it runs follows from the ready hosts.
	Placed map[string]string
}

// Kind is what to do with a unit.
type Kind int

// The kinds of decisions. Units that stay where they are get no decision.
const (
	Place  Kind = iota // onto To; it was nowhere
	Move               // from From to To
	Remove             // from From: no longer wanted, or it must leave and no host fits
	Wait               // no host fits; it stays without one, or in the schedule of the lost host that From then names
)

// Decision is one change, or the reason why there can be none.
type Decision struct {
	Unit   string
	Kind   Kind
	From   string // host ID, "" for none
	To     string // host ID, "" for none
	Reason string // "least loaded of 3 hosts that fit", "host node-2 was lost", "no host has label role=db"
}
