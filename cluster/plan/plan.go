package plan

import (
	"slices"

	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/providers"
)

// Kind says what an action does.
type Kind string

// The kinds of actions.
const (
	Create  Kind = "create"  // make an instance
	Start   Kind = "start"   // power a stopped instance on
	Stop    Kind = "stop"    // power an instance off and keep it; no plan of Make's has it
	Replace Kind = "replace" // end what is left of an older generation, then make an instance
	Destroy Kind = "destroy" // end an instance, and take the host out of the cluster
	Forget  Kind = "forget"  // take a host out of the cluster whose instance is gone
	Relabel Kind = "relabel" // change a member's labels
	Appoint Kind = "appoint" // have a member vote that does not
	Retire  Kind = "retire"  // have a member vote no more
	Keep    Kind = "keep"    // nothing
)

// Action is one thing to do with one host. The JSON form is stable.
type Action struct {
	Kind       Kind              `json:"kind"`
	Host       string            `json:"host"`
	Provider   string            `json:"provider"`
	Generation int               `json:"generation"` // of the instance that is made, started, ended or kept
	ID         string            `json:"id"`         // host ID of that generation
	Voter      bool              `json:"voter"`
	Labels     map[string]string `json:"labels,omitempty"` // that the host shall have
	Reason     string            `json:"reason"`

	// Instance is what is started, ended or kept; of a replace what is ended first. It has no ID when there is none: the
	// instance of a replace is gone, or that of a destroy was asked for but never listed.
	Instance providers.Instance `json:"-"`
	// Member is the host ID to be taken out of the cluster with a destroy, replace or forget, "" when it is no member.
	Member string `json:"-"`
}

// Changes reports whether the action changes anything.
func (a Action) Changes() bool { return a.Kind != Keep }

// Destroys reports whether the action ends an instance.
func (a Action) Destroys() bool {
	return a.Kind == Destroy || a.Kind == Replace && a.Instance.ID != ""
}

// Plan is what has to be done. The JSON form is stable.
type Plan struct {
	Cluster   string   `json:"cluster"`
	ClusterID string   `json:"cluster_id"` // "" for a cluster that does not exist yet
	Voters    []string `json:"voters"`     // names of the hosts that vote when all is done
	Actions   []Action `json:"actions"`    // by host, then generation
	Warnings  []string `json:"warnings"`   // what to know; nothing in them keeps the plan from being applied
}

// Changes returns the actions that change something.
func (p Plan) Changes() []Action { return p.filter(Action.Changes) }

// Destroys returns the actions that end an instance.
func (p Plan) Destroys() []Action { return p.filter(Action.Destroys) }

// Of returns the actions of some kinds.
func (p Plan) Of(kinds ...Kind) []Action {
	return p.filter(func(a Action) bool { return slices.Contains(kinds, a.Kind) })
}

func (p Plan) filter(keep func(Action) bool) []Action {
	var actions []Action
	for _, a := range p.Actions {
		if keep(a) {
			actions = append(actions, a)
		}
	}
	return actions
}

// Observed is what is known beside the cluster file.
type Observed struct {
	ClusterID string // "" for a cluster that does not exist yet
	// Instances is what each provider lists, by the provider's name. All providers of the cluster file are in it: half a
	// view is not planned on.
	Instances map[string][]providers.Instance
	// Roster is the members, as the running cluster says. Nil means that no cluster has formed: every role is free then.
	Roster roster.Roster
	// Roles tells of hosts that have yet to join a formed cluster whether they were promised to vote, by host ID.
	Roles map[string]bool
	// Generations is the highest generation that was ever asked for, by host name.
	Generations map[string]int
	// Pending is what was asked of providers but never listed. Whether it exists is not known.
	Pending []Pending
	// Condemned gives reasons to replace instances that look healthy, by host ID.
	Condemned map[string]string
	// CannotStart has the providers that cannot power a stopped instance on.
	CannotStart map[string]bool
}

// Pending is an instance that was asked for but never listed.
type Pending struct {
	Host       string
	Generation int
	Provider   string
}
