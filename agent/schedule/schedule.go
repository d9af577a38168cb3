// Package schedule decides which host runs which unit. It is pure: a decision follows from a snapshot alone, the same
// snapshot in any order gives the same decisions, and each carries its reason. It knows no store, clock or network.
//
// A unit that is where it may be stays there: hosts that come, or that are less loaded, move nothing, unless Rebalance is
// asked what would be a gain. Units whose host
// is lost or whose rules no longer hold there move; units that fit nowhere wait, and say why. Rules are fleet's
// ([X-Fleet]): MachineID, MachineOf, MachineMetadata, Conflicts, Replaces, Global; and muster's own ([X-Muster]): Replicas,
// Spread, CPU, Memory, Priority.
//
// The instances of a replicated template are one unit of a snapshot, however many there are, and sets of numbers where
// they are. Those that some rule names singly, such as MachineOf=web@7.service, are decided on one by one.
//
// The leader's loop is: Decide, write the schedules of After(snapshot, decisions) with the hosts of GlobalHosts, and
// again when something changed. Explain answers for one unit what Decide has no room to say of each host.
package schedule

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/musterhq/muster/agent/unitfile"
	"github.com/musterhq/muster/cluster/instances"
)

// HostState is what the scheduler believes of a host.
type HostState int

// The states of a host. Only ready hosts receive units; units of lost hosts and of those that are drained move away. Who
// drains a host gives its units until some moment to find another one: before it the host is Draining, after it Drained.
// Global units stay, whatever the state.
const (
	Ready    HostState = iota
	Lost               // its session has ended
	Cordoned           // keeps its units
	Draining           // keeps those that fit nowhere else
	Drained            // keeps none
)

// against says why no unit may be sent to a host in this state, "" if some may.
func (s HostState) against() string {
	return [...]string{Ready: "", Lost: "is lost", Cordoned: "is cordoned", Draining: "is being drained", Drained: "is drained"}[s]
}

// Host is a place for units.
type Host struct {
	ID       string
	Name     string
	Provider string
	State    HostState
	Labels   map[string]string // as in the cluster file; `provider`, `host` are added

	// What units may reserve of it: thousandths of a CPU, and bytes. Zero is a host that has not said what it has; units
	// with reservations do not fit there.
	MilliCPU int64
	Memory   int64

	Holds       bool // it keeps what Singleton=strict promises; units of that kind go to no other
	StopsCutOff bool // likewise OnPartition=stop
}

// Unit is something to place. Units whose desired state is inactive are not part of a snapshot.
type Unit struct {
	Name         string
	Requirements unitfile.Requirements
	// Replicas is, for a template (web@.service), how many instances shall be on hosts: 1 to Replicas. One that is a unit of
	// the snapshot by its own name has its own rules and is not the template's.
	Replicas int
}

// Span is instances of a replicated template on a host.
type Span struct {
	Template  string
	Host      string // ID
	Instances instances.Set
}

// Snapshot is everything a decision is made from.
type Snapshot struct {
	Hosts []Host
	Units []Unit
	// Placed maps each unit that has a host now to that host's ID. Units placed but no longer wanted are in Placed only.
	// A Global unit is never in Placed: where it runs follows from the ready hosts.
	Placed map[string]string
	// Spans is the same for instances of templates. No instance is in two of them, nor in Placed as well.
	Spans []Span
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
	Unit string
	// Instances are those that the decision is about when Unit is a template.
	Instances instances.Set
	Kind      Kind
	From      string // host ID, "" for none
	To        string // host ID, "" for none
	Reason    string // "least loaded of 3 hosts that fit", "host node-2 was lost", "no host has label role=db"
}

// After returns the snapshot as it is once the decisions have been carried out.
func After(s Snapshot, decisions []Decision) Snapshot {
	placed := make(map[string]string, len(s.Placed)+len(decisions))
	maps.Copy(placed, s.Placed)
	leave, come := make(spans), make(spans)
	for _, d := range decisions {
		if d.Kind == Wait {
			continue
		}
		if d.Instances != nil {
			leaveEach(placed, d)
			leave.add(d.Unit, d.From, d.Instances)
			come.add(d.Unit, d.To, d.Instances)
			continue
		}
		if template, n, ok := instances.Split(d.Unit); ok {
			leave.add(template, d.From, one(n))
		}
		if delete(placed, d.Unit); d.To != "" {
			placed[d.Unit] = d.To
		}
	}
	s.Placed, s.Spans = placed, changed(s.Spans, leave, come)
	return s
}

// leaveEach removes instances that were placed by their own names.
func leaveEach(placed map[string]string, d Decision) {
	if d.From == "" || len(placed) == 0 {
		return
	}
	for n := range d.Instances.All() {
		delete(placed, instances.Name(d.Unit, n))
	}
}

// spans is instances by template and host.
type spans map[spot]instances.Set

type spot struct{ template, host string }

func (s spans) add(template, host string, set instances.Set) {
	if host != "" {
		s[spot{template, host}] = s[spot{template, host}].Union(set)
	}
}

// changed returns the spans without those that leave and with those that come.
func changed(was []Span, leave, come spans) []Span {
	is := make([]Span, 0, len(was)+len(come))
	for _, span := range was {
		at := spot{span.Template, span.Host}
		span.Instances = span.Instances.Minus(leave[at]).Union(come[at])
		if delete(come, at); len(span.Instances) > 0 {
			is = append(is, span)
		}
	}
	for _, at := range slices.SortedFunc(maps.Keys(come), compareSpots) {
		is = append(is, Span{Template: at.template, Host: at.host, Instances: come[at]})
	}
	return is
}

func compareSpots(a, b spot) int {
	return cmp.Or(strings.Compare(a.template, b.template), strings.Compare(a.host, b.host))
}
