package apply

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/musterhq/muster/cluster/plan"
	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/state"
	"github.com/musterhq/muster/providers"
)

// Result is what a run of Up came to, as far as it got.
type Result struct {
	Plan         plan.Plan     // what was to be done
	Members      roster.Roster // as far as known when it ended
	UnitsChanged int           // submitted units that were new or different
}

// Up makes what the cluster file says true. It may be called again after any failure or crash. When some hosts are as
// they should be and others are not, the error is a PartialError.
func Up(ctx context.Context, deps Deps, opts Options) (Result, error) {
	deps, opts = deps.withDefaults(), opts.withDefaults()
	opts.CrashPoint("before state directory")
	dir, err := state.Create(deps.StateDir, deps.Spec.Cluster, deps.Now)
	if err != nil {
		return Result{}, err
	}
	r := newRun(deps, opts, dir)
	opts.CrashPoint("after state directory")
	result, err := r.up(ctx)
	if r.undeliver != nil {
		err = errors.Join(err, r.undeliver())
	}
	if cause := context.Cause(ctx); err != nil && cause != nil && !errors.Is(err, cause) {
		err = fmt.Errorf("interrupted: %w", cause)
	}
	return result, errors.Join(err, dir.Close())
}

func newRun(deps Deps, opts Options, dir *state.Dir) *run {
	return &run{
		deps: deps, opts: opts, dir: dir,
		failed: make(map[string]*HostError), total: make(map[string]bool), tokens: make(map[state.Ref]string),
	}
}

func (r *run) up(ctx context.Context) (Result, error) {
	err := r.guarded("keys", func() (err error) {
		r.keys, err = r.dir.Keys(r.deps.Now())
		return err
	})
	if err != nil {
		return Result{}, err
	}
	r.report(Event{Phase: PhaseObserve, Message: "asking the providers what there is"})
	seen, err := r.observe(ctx, places(r.deps.Spec))
	if err != nil {
		return Result{}, err
	}
	if v := r.view(); v.Bootstrap != nil && !v.Formed {
		if err := r.deliver(ctx, plan.Plan{}); err != nil {
			return Result{}, err
		}
		if err := r.resume(ctx, *v.Bootstrap, seen); err != nil {
			return Result{}, r.because(err)
		}
		if r.opts.NoWait {
			return Result{}, r.outcome()
		}
		if seen, err = r.observe(ctx, places(r.deps.Spec)); err != nil {
			return Result{}, err
		}
	}
	if r.view().Formed {
		return r.later(ctx, seen)
	}
	return r.first(ctx, seen)
}

// plan plans and, when something would be ended, asks. endpoints are where new hosts will join.
func (r *run) plan(ctx context.Context, seen sight, members roster.Roster, endpoints []string) (plan.Plan, error) {
	p, err := plan.Make(r.deps.Spec, observed(r.cluster(), r.view(), seen, r.deps, members))
	if err != nil {
		return plan.Plan{}, err
	}
	for _, a := range p.Actions {
		r.total[a.Host] = true
	}
	r.report(Event{Phase: PhasePlan, Message: summary(p)})
	for _, w := range p.Warnings {
		r.report(Event{Phase: PhasePlan, Message: "warning: " + w})
	}
	if err := r.preflight(ctx, p, endpoints); err != nil {
		return p, err
	}
	return p, r.confirm(ctx, p)
}

// preflight finds out, of the providers above all, whether the hosts to come can be made, before anything is changed.
func (r *run) preflight(ctx context.Context, p plan.Plan, endpoints []string) error {
	if err := r.checkUserData(p, endpoints); err != nil {
		return err
	}
	settings := make(map[string][]any)
	for _, a := range p.Of(plan.Create, plan.Replace) {
		settings[a.Provider] = append(settings[a.Provider], r.settings(a.Host, a.Provider))
	}
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		err := r.guarded("check "+name, func() error {
			return providers.Check(ctx, r.deps.Providers[name], settings[name])
		})
		if err != nil {
			return fmt.Errorf("cannot make hosts at provider %s: %w; nothing was changed", name, err)
		}
	}
	if err := r.deliver(ctx, p); err != nil {
		return fmt.Errorf("%w; nothing was changed", err)
	}
	return nil
}

func (r *run) confirm(ctx context.Context, p plan.Plan) error {
	if len(p.Destroys()) == 0 {
		return nil
	}
	return r.agree(ctx, p, "instances would be destroyed")
}

// agree asks whether a plan shall be carried out; would is what happens then.
func (r *run) agree(ctx context.Context, p plan.Plan, would string) error {
	if r.opts.Confirm == nil {
		return fmt.Errorf("%s: %w", would, ErrNotConfirmed)
	}
	ok, err := r.opts.Confirm(ctx, p)
	if err == nil && !ok {
		err = ErrNotConfirmed
	}
	return err
}

// summary counts what a plan does.
func summary(p plan.Plan) string {
	if len(p.Changes()) == 0 {
		return "nothing to change"
	}
	text := "to do:"
	for _, kind := range []plan.Kind{plan.Create, plan.Start, plan.Replace, plan.Destroy, plan.Forget, plan.Relabel, plan.Appoint, plan.Retire} {
		if n := len(p.Of(kind)); n > 0 {
			text += fmt.Sprintf(" %s %d,", kind, n)
		}
	}
	return fmt.Sprintf("%s keep %d", text, len(p.Of(plan.Keep)))
}

// first makes a cluster out of nothing, or out of what an earlier run left of a cluster that never formed.
func (r *run) first(ctx context.Context, seen sight) (Result, error) {
	p, err := r.plan(ctx, seen, nil, nil)
	result := Result{Plan: p}
	if err != nil {
		return result, err
	}
	answered := r.provision(ctx, p, nil)
	r.depart(ctx, p)
	if r.opts.NoWait || len(p.Voters) == 0 {
		return result, r.outcome()
	}
	if missing := r.failedVoters(p); len(missing) > 0 {
		return result, r.because(errNoVoters(missing))
	}
	b, err := r.fix(ctx, p, answered)
	if err != nil {
		return result, r.because(err)
	}
	if err := r.form(ctx, b, nil); err != nil {
		return result, r.because(err)
	}
	return r.finish(ctx, result, plan.Plan{})
}

// later changes a cluster that has formed.
func (r *run) later(ctx context.Context, seen sight) (Result, error) {
	status, err := r.reach(ctx, seen)
	if err != nil {
		return Result{}, r.because(err)
	}
	if err := r.noteMembers(status); err != nil {
		return Result{}, err
	}
	join := endpoints(status)
	p, err := r.plan(ctx, seen, status.roster(), join)
	result := Result{Plan: p, Members: status.roster()}
	if err != nil {
		return result, err
	}
	r.provision(ctx, p, join)
	if r.opts.NoWait {
		r.depart(ctx, p)
		return result, r.outcome()
	}
	stop, err := r.admitRest(ctx, p)
	if err != nil {
		return result, err
	}
	defer stop()
	return r.finish(ctx, result, p)
}

// finish waits for the hosts of the plan and does what needs a running cluster. leaving has the hosts that are to end
// when the others work.
func (r *run) finish(ctx context.Context, result Result, leaving plan.Plan) (Result, error) {
	if err := r.awaitReady(ctx, result.Plan); err != nil {
		return result, r.because(err)
	}
	r.relabel(ctx, result.Plan)
	if err := r.reseat(ctx, result.Plan); err != nil {
		return result, r.because(err)
	}
	r.depart(ctx, leaving)
	var err error
	if result.UnitsChanged, err = r.submit(ctx); err != nil {
		return result, r.because(err)
	}
	if status, err := r.fleet.Status(ctx); err == nil {
		result.Members = status.roster()
		if err := r.noteMembers(status); err != nil {
			return result, err
		}
	}
	if err := r.settle(ctx); err != nil {
		return result, err
	}
	return result, r.outcome()
}

// endpoints are where hosts can join: the voters, those that work first.
func endpoints(status FleetStatus) []string {
	var good, other []string
	for _, h := range status.Hosts {
		switch {
		case !h.Host.Voter:
		case h.State == stateReady:
			good = append(good, h.Host.APIAddress())
		default:
			other = append(other, h.Host.APIAddress())
		}
	}
	return append(good, other...)
}

// whereabouts are the members as far as they can be known without asking them: as last seen, as first fixed, and every
// instance that has an address.
func (r *run) whereabouts(seen sight) roster.Roster {
	members, err := r.dir.Roster()
	if err != nil {
		r.deps.Log.Warn("cannot read the members as last seen", "error", err)
	}
	if b := r.view().Bootstrap; b != nil && len(members) == 0 {
		members = b.Roster
	}
	members = slices.Clone(members)
	for _, provider := range r.deps.Spec.Providers {
		for _, i := range seen[provider.Name] {
			if _, known := members.ByID(i.Identity.ID()); known || len(i.Addresses) == 0 || i.State != providers.StateRunning {
				continue
			}
			a := plan.Action{Host: i.Host, Provider: provider.Name, Generation: i.Generation, ID: i.Identity.ID()}
			members = append(members, member(a, i))
		}
	}
	return members
}
