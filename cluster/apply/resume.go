package apply

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/musterhq/muster/cluster/plan"
	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/state"
	"github.com/musterhq/muster/providers"
)

// resume goes on with a first membership that an earlier run fixed and did not see work. Nothing about it can be changed:
// hosts may have been told. It ends with the cluster formed, or, when certainly no cluster can have come of it and none
// can any more, with the membership abandoned. A run that does not wait only sees to it that the members' instances are
// there.
func (r *run) resume(ctx context.Context, b state.Bootstrap, seen sight) error {
	r.report(Event{Phase: PhaseForm, Message: "going on with the cluster that was about to form"})
	absent := r.revive(ctx, b, seen)
	if r.opts.NoWait {
		return nil
	}
	admitted, lost := 0, 0
	for _, h := range b.Roster.Voters() {
		admitted += count(r.machine(refOfHost(h)).Admitted)
		lost += count(absent[h.ID])
	}
	majority := len(b.InitialCluster)/2 + 1
	switch present := len(b.InitialCluster) - lost; {
	case lost == 0, admitted >= majority && present >= majority:
		return r.form(ctx, b, absent)
	case admitted < majority:
		r.report(Event{Phase: PhaseForm, Message: "voters of the cluster that was about to form are gone: beginning again"})
		r.forgive()
		return r.record(state.Entry{Kind: state.KindAbandoned})
	default:
		return fmt.Errorf("cannot go on: the cluster may have formed, and %d of its %d voters are gone; "+
			"bring their instances back, or end it with `muster down`", lost, len(b.InitialCluster))
	}
}

func count(b bool) int {
	if b {
		return 1
	}
	return 0
}

// revive starts the first members' instances that are stopped, and asks again for those that were never listed. It
// returns the host IDs of those that are not there as they were.
func (r *run) revive(ctx context.Context, b state.Bootstrap, seen sight) map[string]bool {
	answers := &made{instances: make(map[string]providers.Instance)}
	var actions []plan.Action
	for _, h := range b.Roster {
		a := plan.Action{
			Host: h.Name, Provider: h.Provider, Generation: h.Generation, ID: h.ID, Voter: h.Voter, Reason: "is to be a first member",
		}
		i, _, ok := seen.find(refOfHost(h))
		a.Instance = i
		switch {
		case ok && i.State == providers.StateStopped:
			a.Kind = plan.Start
			actions = append(actions, a)
		case !ok && r.machine(refOfHost(h)).UserData != nil && !r.machine(refOfHost(h)).Destroying:
			a.Kind = plan.Create
			actions = append(actions, a)
		case ok && i.State != providers.StateFailed:
			answers.put(i)
		}
	}
	r.each(ctx, PhaseStart, actions, func(ctx context.Context, a plan.Action) error {
		if a.Kind == plan.Create {
			return r.create(ctx, a, nil, answers)
		}
		if err := r.start(ctx, a); err != nil {
			return err
		}
		answers.put(a.Instance)
		return nil
	})
	absent := make(map[string]bool)
	for _, h := range b.Roster {
		i, ok := answers.instances[h.ID]
		absent[h.ID] = !ok || len(i.Addresses) > 0 && i.Addresses[0].Unmap().String() != h.Address
	}
	return absent
}

// reach speaks to a cluster that has formed. When it does not answer, instances that are stopped are started first: they
// may be its voters.
func (r *run) reach(ctx context.Context, seen sight) (FleetStatus, error) {
	members := r.whereabouts(seen)
	if err := r.connect(members); err != nil {
		return FleetStatus{}, err
	}
	if status, err := r.fleet.Status(ctx); err == nil && status.Formed {
		return status, nil
	}
	patience := graceToAnswer
	if r.wake(ctx, seen, members) > 0 {
		patience = r.opts.Timeout
	}
	r.report(Event{Phase: PhaseForm, Message: "waiting for the cluster to answer"})
	ctx, cancel := context.WithTimeoutCause(ctx, min(patience, r.opts.Timeout), fmt.Errorf("waited %s", patience.Round(time.Second)))
	defer cancel()
	status, err := awaitFormed(ctx, r.fleet)
	if err != nil {
		return FleetStatus{}, fmt.Errorf("%w; a majority of its voters must run: see `muster status`", err)
	}
	return status, nil
}

// wake starts every stopped instance of a member and returns how many there are. It leaves those that are not in the
// cluster file, or at another provider, as they are.
func (r *run) wake(ctx context.Context, seen sight, members roster.Roster) int {
	var actions []plan.Action
	for _, h := range r.deps.Spec.Hosts() {
		for _, i := range seen[h.Provider] {
			_, member := members.ByID(i.Identity.ID())
			ref := state.Ref{Name: i.Host, Generation: i.Generation}
			if i.Host != h.Name || i.State != providers.StateStopped || !member || r.machine(ref).Destroying {
				continue
			}
			actions = append(actions, plan.Action{
				Kind: plan.Start, Host: h.Name, Provider: h.Provider, Generation: i.Generation, ID: i.Identity.ID(), Instance: i,
				Reason: "stopped: started again",
			})
		}
	}
	r.each(ctx, PhaseStart, actions, r.start)
	for _, a := range actions {
		list := seen[a.Provider]
		at := slices.IndexFunc(list, func(i providers.Instance) bool { return i.ID == a.Instance.ID })
		if !r.hasFailed(a.Host) {
			list[at].State = providers.StateRunning // so that the plan does not start it again
		}
	}
	return len(actions)
}

// admitRest goes on admitting first members that have not joined yet, while later ones join through the voters. The
// function returned ends that.
func (r *run) admitRest(ctx context.Context, p plan.Plan) (stop func(), err error) {
	v := r.view()
	if v.Bootstrap == nil {
		return func() {}, nil
	}
	stays := make(map[string]bool)
	for _, a := range p.Of(plan.Keep, plan.Start, plan.Relabel, plan.Appoint, plan.Retire) {
		stays[a.ID] = true
	}
	absent, waiting := make(map[string]bool), 0
	for _, h := range v.Bootstrap.Roster {
		absent[h.ID] = !stays[h.ID]
		waiting += count(stays[h.ID] && !v.Machines[refOfHost(h)].Joined)
	}
	if waiting == 0 {
		return func() {}, nil
	}
	if err := r.issueTokens(*v.Bootstrap); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, r.opts.Timeout, errTimeout)
	a, err := r.admitAll(ctx, *v.Bootstrap, absent)
	if err != nil {
		cancel()
		return nil, err
	}
	return func() {
		cancel()
		a.wait()
	}, nil
}
