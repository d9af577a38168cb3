package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/musterhq/muster/cluster/plan"
	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/state"
	"github.com/musterhq/muster/providers"
)

// Stop powers hosts of the cluster file off and keeps them, after a question of Options.Confirm. Unless force, it returns
// ErrNoQuorum when too few voters would remain, or when they cannot be asked. It does not wait until the hosts are off,
// and what is not stopped any more the next Up starts again. A stop is not in the journal: the providers' lists tell it.
func Stop(ctx context.Context, deps Deps, hosts []string, force bool, opts Options) (plan.Plan, error) {
	return power(ctx, deps, opts, func(r *run) (plan.Plan, error) {
		return r.powerOff(ctx, hosts, force)
	})
}

// Start powers stopped hosts of the cluster file on. It does not wait until they work.
func Start(ctx context.Context, deps Deps, hosts []string, opts Options) (plan.Plan, error) {
	opts.NoWait = true
	return power(ctx, deps, opts, func(r *run) (plan.Plan, error) {
		return r.powerOn(ctx, hosts)
	})
}

// power works with the directory of a cluster that has been made.
func power(ctx context.Context, deps Deps, opts Options, work func(*run) (plan.Plan, error)) (plan.Plan, error) {
	deps, opts = deps.withDefaults(), opts.withDefaults()
	dir, err := state.Open(deps.StateDir, deps.Spec.Cluster, deps.Now)
	if err != nil {
		return plan.Plan{}, err
	}
	p, err := work(newRun(deps, opts, dir))
	if cause := context.Cause(ctx); err != nil && cause != nil && !errors.Is(err, cause) {
		err = fmt.Errorf("interrupted: %w", cause)
	}
	return p, errors.Join(err, dir.Close())
}

func (r *run) powerOff(ctx context.Context, hosts []string, force bool) (plan.Plan, error) {
	p, seen, err := r.powerPlan(ctx, hosts, plan.Stop)
	if err != nil || len(p.Changes()) == 0 {
		return p, err
	}
	q, err := r.quorum(ctx, seen, p)
	if !force {
		if err == nil {
			err = q.check()
		}
		if err != nil {
			return p, err
		}
	}
	for i, a := range p.Actions {
		if a.Kind == plan.Stop {
			p.Actions[i].Voter = slices.Contains(q.leaving, a.Host)
			p.Actions[i].Reason = r.consequence(q, p.Actions[i].Voter)
		}
	}
	if err := r.agree(ctx, p, "hosts would be stopped"); err != nil {
		return p, err
	}
	r.each(ctx, PhaseStop, p.Changes(), r.stop)
	return p, r.outcome()
}

func (r *run) powerOn(ctx context.Context, hosts []string) (plan.Plan, error) {
	p, _, err := r.powerPlan(ctx, hosts, plan.Start)
	if err != nil {
		return p, err
	}
	r.each(ctx, PhaseStart, p.Changes(), r.start)
	return p, r.outcome()
}

// consequence says what a stop leads to.
func (r *run) consequence(q quorum, voter bool) string {
	text := fmt.Sprintf("its units move when its lease (%s) ends", r.deps.Spec.Lease)
	switch {
	case voter && q.total > 0:
		text += fmt.Sprintf("; a voter: %d of %d remain", q.remaining, q.total)
	case voter:
		text += "; a voter"
	}
	return text
}

// powerPlan finds the hosts' newest instances. Those that are as they shall be are kept.
func (r *run) powerPlan(ctx context.Context, hosts []string, kind plan.Kind) (plan.Plan, sight, error) {
	p := plan.Plan{Cluster: r.deps.Spec.Cluster, ClusterID: r.cluster(), Actions: []plan.Action{}, Warnings: []string{}, Voters: []string{}}
	r.report(Event{Phase: PhaseObserve, Message: "asking the providers what there is"})
	at := places(r.deps.Spec)
	seen, err := r.observe(ctx, at)
	if err != nil {
		return p, nil, err
	}
	for _, host := range hosts {
		instance, ok := newest(seen[at[host]], host)
		if !ok {
			return p, nil, fmt.Errorf("host %s has not been made yet: run `muster up`; nothing was changed", host)
		}
		a := plan.Action{
			Kind: kind, Host: host, Provider: at[host], Generation: instance.Generation, ID: instance.Identity.ID(), Reason: "asked for",
			Instance: instance,
		}
		if stopped := instance.State == providers.StateStopped; stopped == (kind == plan.Stop) {
			a.Kind, a.Reason = plan.Keep, "is "+string(instance.State)+" already"
			r.report(Event{Host: host, Provider: a.Provider, Phase: PhasePlan, Message: a.Reason, Done: true})
		}
		p.Actions = append(p.Actions, a)
		r.total[host] = true
	}
	return p, seen, nil
}

// newest is the instance of a host that has the highest generation.
func newest(instances []providers.Instance, host string) (providers.Instance, bool) {
	for _, i := range slices.Backward(instances) { // sorted by host and generation
		if i.Host == host {
			return i, true
		}
	}
	return providers.Instance{}, false
}

// stop powers an instance off.
func (r *run) stop(ctx context.Context, a plan.Action) error {
	r.report(Event{Host: a.Host, Provider: a.Provider, Phase: PhaseStop, Message: "stopping: " + a.Reason})
	p, err := r.provider(a.Provider)
	if err == nil {
		err = r.ask("stop", refOf(a), func() error { return providers.Stop(ctx, p, a.Instance) })
	}
	if err != nil {
		return fmt.Errorf("cannot stop: %w", err)
	}
	r.report(Event{Host: a.Host, Provider: a.Provider, Phase: PhaseStop, Message: "powers off", Done: true})
	return nil
}

// quorum asks the cluster what a stop does to its voters. Of one that has not formed there is nothing to ask.
func (r *run) quorum(ctx context.Context, seen sight, p plan.Plan) (quorum, error) {
	v := r.view()
	if !v.Formed && v.Bootstrap == nil {
		return quorum{}, nil
	}
	off := make(map[string]bool)
	for _, instances := range seen {
		for _, i := range instances {
			off[i.Identity.ID()] = i.State == providers.StateStopped
		}
	}
	for _, a := range p.Of(plan.Stop) {
		off[a.ID] = true
	}
	members := r.whereabouts(seen)
	status, err := askStatus(ctx, r.deps, r.dir.Reader, members)
	if err == nil {
		return quorumOf(status, off, p), nil
	}
	q := quorumOf(lastSeen(members), off, p)
	if len(q.leaving) == 0 {
		return q, nil
	}
	return q, fmt.Errorf("%w: the voters cannot be asked: %w", ErrNoQuorum, err)
}

// lastSeen is the status of members that do not answer.
func lastSeen(members roster.Roster) FleetStatus {
	var s FleetStatus
	for _, h := range members {
		s.Hosts = append(s.Hosts, FleetHost{Host: h})
	}
	return s
}

// quorum is what a stop leaves of the voters.
type quorum struct {
	leaving          []string // names of voters that stop and are not lost
	remaining, total int      // total is 0 when it is not known
}

// quorumOf counts the voters that work when the hosts that are off, by host ID, do not.
func quorumOf(status FleetStatus, off map[string]bool, p plan.Plan) quorum {
	q := quorum{total: status.Voters.Total}
	for _, h := range status.Hosts {
		switch stops := slices.ContainsFunc(p.Of(plan.Stop), func(a plan.Action) bool { return a.ID == h.Host.ID }); {
		case !h.Host.Voter:
		case stops && h.State != stateLost:
			q.leaving = append(q.leaving, h.Host.Name)
		case h.State == stateReady && !off[h.Host.ID]:
			q.remaining++
		}
	}
	q.remaining = min(q.remaining, status.Voters.Healthy)
	return q
}

// check refuses to take a majority away.
func (q quorum) check() error {
	if need := q.total/2 + 1; len(q.leaving) > 0 && q.remaining < need {
		return fmt.Errorf("%w: %d of %d would remain without %s, %d are needed", ErrNoQuorum, q.remaining, q.total,
			strings.Join(q.leaving, ", "), need)
	}
	return nil
}
