package apply

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/musterhq/muster/cluster/plan"
	"github.com/musterhq/muster/cluster/state"
	"github.com/musterhq/muster/providers"
)

// timeToLeave is how long the other voters may take to go on without one that leaves.
const timeToLeave = 30 * time.Second

// depart takes hosts out of the cluster and ends their instances: voters one after another, so that the cluster stays
// able to decide, the others at the same time. Hosts whose successors failed stay.
func (r *run) depart(ctx context.Context, p plan.Plan) {
	var voters, others []plan.Action
	for _, a := range p.Of(plan.Destroy, plan.Forget) {
		switch {
		case r.hasFailed(a.Host):
			r.report(Event{Host: a.Host, Provider: a.Provider, Phase: PhaseDestroy, Message: "stays until its successor works"})
		case a.Voter && a.Member != "":
			voters = append(voters, a)
		default:
			others = append(others, a)
		}
	}
	for _, a := range voters {
		r.each(ctx, PhaseDestroy, []plan.Action{a}, r.end)
	}
	r.each(ctx, PhaseDestroy, others, r.end)
}

// end takes a host out of the cluster, if it is a member, and ends its instance, if there is one.
func (r *run) end(ctx context.Context, a plan.Action) error {
	if err := r.leave(ctx, a); err != nil {
		return &HostError{Host: a.Host, Provider: a.Provider, Phase: PhaseForget, Err: fmt.Errorf("cannot take it out of the cluster: %w", err)}
	}
	if !a.Destroys() {
		return nil
	}
	r.report(Event{Host: a.Host, Provider: a.Provider, Phase: PhaseDestroy, Message: "destroying: " + a.Reason})
	ref := state.Ref{Name: a.Instance.Host, Generation: a.Instance.Generation}
	if err := r.destroy(ctx, ref, a.Provider, a.Instance); err != nil {
		return &HostError{Host: a.Host, Provider: a.Provider, Phase: PhaseDestroy, Err: fmt.Errorf("cannot destroy: %w", err)}
	}
	r.report(Event{Host: a.Host, Provider: a.Provider, Phase: PhaseDestroy, Message: "destroyed", Done: a.Kind == plan.Destroy})
	return nil
}

// leave takes a host out of the cluster. Of a voter it waits until the others have agreed to go on without it: ending it
// sooner might cost them their majority.
func (r *run) leave(ctx context.Context, a plan.Action) error {
	if a.Member == "" || r.fleet == nil {
		return nil
	}
	before, err := r.fleet.Status(ctx)
	if err != nil {
		return err
	}
	if err := r.fleet.Remove(ctx, a.Member); err != nil {
		return err
	}
	r.report(Event{Host: a.Host, Provider: a.Provider, Phase: PhaseForget, Message: "taken out of the cluster", Done: a.Kind == plan.Forget})
	member, ok := before.roster().ByID(a.Member)
	if !ok || !member.Voter || a.Kind != plan.Destroy {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeToLeave, errors.New("the other voters did not agree in time"))
	defer cancel()
	rest := pauses{50 * time.Millisecond, time.Second}
	for {
		if now, err := r.fleet.Status(ctx); err == nil && now.Formed && now.Voters.Total < before.Voters.Total {
			return nil
		}
		if err := rest.rest(ctx); err != nil {
			return err
		}
	}
}

// destroy ends an instance. One that was asked for and never listed is asked for once more, to be ended for certain.
func (r *run) destroy(ctx context.Context, ref state.Ref, provider string, instance providers.Instance) error {
	p, err := r.provider(provider)
	if err != nil {
		return err
	}
	if err := r.record(state.Entry{Kind: state.KindIntent, Op: state.OpDestroy, Host: &ref, Provider: provider}); err != nil {
		return err
	}
	if instance.ID == "" {
		if instance, err = r.adopt(ctx, ref); err != nil {
			return err
		}
	}
	if instance.ID != "" {
		if err := r.ask("destroy", ref, func() error { return p.Destroy(ctx, instance) }); err != nil {
			return err
		}
	}
	return r.record(state.Entry{Kind: state.KindDone, Op: state.OpDestroy, Host: &ref})
}

// adopt finds an instance that no list shows by asking for it with the same identity again. The answer has no ID when
// there cannot be one, because nothing was ever asked of the provider.
func (r *run) adopt(ctx context.Context, ref state.Ref) (providers.Instance, error) {
	m := r.machine(ref)
	if m.UserData == nil {
		return providers.Instance{}, nil
	}
	return r.askCreate(ctx, m)
}
