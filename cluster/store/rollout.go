package store

import (
	"slices"
	"strings"
	"time"

	"github.com/musterhq/muster/cluster/instances"
)

// Rollout is a change of a unit's contents that goes a few instances, or hosts, at a time. It is part of the unit's record,
// so that nobody sees new contents without it: while it is active, which of the two contents an instance has is what
// Given says, whatever the record's File. A voter begins it for an operator; the leader drives it, fenced.
type Rollout struct {
	From string      `json:"from"` // SHA-256 of the contents to go back to
	To   string      `json:"to"`   // of those that are rolled out, or were
	Kind RolloutKind `json:"kind"`
	// Replicas and Partition are what From says, as in UnitRecord.
	Replicas  int       `json:"replicas,omitempty"`
	Partition Partition `json:"partition,omitempty"`

	// How it goes, as the contents had it when it began: UpdateParallel, a number or a percentage; UpdateDelay; how long
	// an instance may take to be well; whether there is a health check to say so.
	Parallel int           `json:"parallel,omitempty"`
	Percent  int           `json:"percent,omitempty"`
	Delay    time.Duration `json:"delay,omitempty"`
	Patience time.Duration `json:"patience"`
	Health   bool          `json:"health,omitempty"`

	Phase  RolloutPhase `json:"phase"`
	Paused bool         `json:"paused,omitempty"`
	Undone bool         `json:"undone,omitempty"` // an operator said so
	// Reason is why it was paused, goes back, or failed.
	Reason string `json:"reason,omitempty"`

	Updated Members `json:"updated,omitzero"` // have To
	Batch   Members `json:"batch,omitzero"`   // of whom are changed now

	// Times of the leader's clock. Started and Ended are of all of it, Began is of the batch; since Steady all is well, and
	// Mark is the latest change that a host had reported by then.
	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended,omitzero"`
	Began   time.Time `json:"began,omitzero"`
	Steady  time.Time `json:"steady,omitzero"`
	Mark    time.Time `json:"mark,omitzero"`
	// Setbacks is how often the batch was well and then was not.
	Setbacks int `json:"setbacks,omitempty"`
}

// RolloutKind says whose contents change.
type RolloutKind string

// The kinds of rollouts.
const (
	RollUnit     RolloutKind = "unit"     // one unit, as if it were instance 1 of itself
	RollReplicas RolloutKind = "replicas" // of a template; Members by number
	RollHosts    RolloutKind = "hosts"    // of a Global unit; Members by the host's ID
	RollFamily   RolloutKind = "family"   // units of the template's file; what their own records say, and Members by name
)

// RolloutPhase is how far a rollout is.
type RolloutPhase string

// The phases of a rollout.
const (
	PhaseForward RolloutPhase = "updating"
	PhaseBack    RolloutPhase = "rolling back"
	PhaseDone    RolloutPhase = "done"
	PhaseFailed  RolloutPhase = "failed" // and all have From again
	PhaseUndone  RolloutPhase = "undone" // likewise
)

// Active says whether there is something left to change. It is false for nil.
func (r *Rollout) Active() bool {
	return r != nil && (r.Phase == PhaseForward || r.Phase == PhaseBack)
}

// Given is the contents (SHA-256) that a member of a rollout shall have now. number is an instance's, or 1 of a unit that
// has none; host counts for RollHosts alone.
func (r *Rollout) Given(number int, host string) string {
	if r.Kind == RollHosts && r.Updated.HasName(host) || r.Kind != RollHosts && r.Updated.Numbers.Has(number) {
		return r.To
	}
	return r.From
}

// Members are some of those whose contents a rollout changes: by their numbers, or by names of which most are the first in
// order, so that a record stays small however many there are: all up to Upto, but those in Except.
type Members struct {
	Numbers instances.Set `json:"numbers,omitempty"`
	Upto    string        `json:"upto,omitempty"`
	Except  []string      `json:"except,omitempty"`
	Names   []string      `json:"names,omitempty"` // instead of the other two
}

// IsZero says whether nobody is a member.
func (m Members) IsZero() bool { return len(m.Numbers) == 0 && m.Upto == "" && len(m.Names) == 0 }

// HasName says whether a name is a member.
func (m Members) HasName(name string) bool {
	if m.Upto == "" {
		return slices.Contains(m.Names, name)
	}
	_, except := slices.BinarySearch(m.Except, name)
	return strings.Compare(name, m.Upto) <= 0 && !except
}

// MembersAmong are those of some sorted names that are in. Names that come later count as members if they sort among them.
func MembersAmong(names []string, in func(name string) bool) Members {
	var m Members
	var out []string
	for _, name := range names {
		if !in(name) {
			out = append(out, name)
			continue
		}
		m.Upto, m.Except = name, append(m.Except, out...)
		out = out[:0]
	}
	return m
}
