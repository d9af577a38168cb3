package apply

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/musterhq/muster/cluster/plan"
	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/state"
)

// Preview plans what Up would do and changes nothing, neither at the providers nor in the state directory. Of a cluster
// that has formed and does not answer it takes the members as last seen, and warns.
func Preview(ctx context.Context, deps Deps) (plan.Plan, error) {
	deps = deps.withDefaults()
	dir, err := state.OpenReader(deps.StateDir, deps.Spec.Cluster)
	if errors.Is(err, state.ErrNoCluster) {
		return plan.Make(deps.Spec, observed("", state.View{}, emptySight(deps), deps, nil))
	}
	if err != nil {
		return plan.Plan{}, err
	}
	cluster := dir.Cluster().ID
	seen, err := look(ctx, deps, cluster, func(_ string, fn func() error) error { return fn() })
	if err != nil {
		return plan.Plan{}, err
	}
	v, err := dir.View()
	if err != nil {
		return plan.Plan{}, err
	}
	v = v.With(news(v, seen, places(deps.Spec), deps.Now())...)
	members, warning := previewMembers(ctx, deps, dir, v)
	p, err := plan.Make(deps.Spec, observed(cluster, v, seen, deps, members))
	if err == nil && warning != "" {
		p.Warnings = append(p.Warnings, warning)
	}
	return p, err
}

// PreviewDown plans what Down would do and changes nothing. It returns state.ErrNoCluster when there is nothing to end.
func PreviewDown(ctx context.Context, deps Deps) (plan.Plan, error) {
	deps = deps.withDefaults()
	dir, err := state.OpenReader(deps.StateDir, deps.Spec.Cluster)
	if err != nil {
		return plan.Plan{}, err
	}
	cluster := dir.Cluster().ID
	seen, err := look(ctx, deps, cluster, func(_ string, fn func() error) error { return fn() })
	if err != nil {
		return plan.Plan{}, err
	}
	v, err := dir.View()
	if err != nil {
		return plan.Plan{}, err
	}
	return demolition(deps.Spec.Cluster, cluster, v.With(news(v, seen, nil, deps.Now())...), seen)
}

// emptySight is what providers have of a cluster that does not exist.
func emptySight(deps Deps) sight {
	seen := make(sight)
	for _, p := range deps.Spec.Providers {
		seen[p.Name] = nil
	}
	return seen
}

// previewMembers are the members, none when no cluster has formed.
func previewMembers(ctx context.Context, deps Deps, dir *state.Reader, v state.View) (members roster.Roster, warning string) {
	switch {
	case !v.Formed && v.Bootstrap == nil:
		return nil, ""
	case !v.Formed:
		return v.Bootstrap.Roster, "the cluster is about to form: `muster up` goes on with that first"
	}
	last, err := dir.Roster()
	if last == nil {
		last = roster.Roster{}
	}
	if err == nil {
		var status FleetStatus
		if status, err = askStatus(ctx, deps, dir, last); err == nil {
			return status.roster(), ""
		}
	}
	return last, fmt.Sprintf("the plan is made with the members as last seen: %v", err)
}

func askStatus(ctx context.Context, deps Deps, dir *state.Reader, members roster.Roster) (FleetStatus, error) {
	root, operator, err := dir.Operator(deps.Now())
	if err != nil {
		return FleetStatus{}, err
	}
	fleet, err := deps.Connect(root, operator, members)
	if err != nil {
		return FleetStatus{}, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, patienceOfPreview, fmt.Errorf("waited %s", patienceOfPreview))
	defer cancel()
	return awaitFormed(ctx, fleet)
}

// patienceOfPreview outlasts an election among the voters.
const patienceOfPreview = 3 * time.Second
