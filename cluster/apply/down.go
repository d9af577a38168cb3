package apply

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/musterhq/muster/cluster/plan"
	"github.com/musterhq/muster/cluster/state"
	"github.com/musterhq/muster/providers"
)

// Down ends every instance of the cluster at all providers of the cluster file, removes what the providers keep for the
// cluster as a whole, and, when nothing is left, the state directory. It may be called again after any failure or crash;
// when everything is gone already it returns state.ErrNoCluster.
func Down(ctx context.Context, deps Deps, opts Options) (Result, error) {
	deps, opts = deps.withDefaults(), opts.withDefaults()
	dir, err := state.Open(deps.StateDir, deps.Spec.Cluster, deps.Now)
	if err != nil {
		return Result{}, err
	}
	r := newRun(deps, opts, dir)
	p, err := r.down(ctx)
	if err == nil {
		err = r.guarded("remove", dir.Remove)
	} else {
		err = errors.Join(err, dir.Close())
	}
	if err == nil {
		r.report(Event{Phase: PhaseCleanup, Message: "nothing is left", Done: true})
	}
	return Result{Plan: p}, err
}

func (r *run) down(ctx context.Context) (plan.Plan, error) {
	r.report(Event{Phase: PhaseObserve, Message: "asking the providers what there is"})
	seen, err := r.observe(ctx, nil)
	if err != nil {
		return plan.Plan{}, err
	}
	p, err := demolition(r.deps.Spec.Cluster, r.cluster(), r.view(), seen)
	if err != nil {
		return p, err
	}
	for _, a := range p.Actions {
		r.total[a.Host] = true
	}
	if err := r.confirm(ctx, p); err != nil {
		return p, err
	}
	// What may exist comes last: asking for it once more may need room in the provider's quota.
	for _, listed := range []bool{true, false} {
		r.each(ctx, PhaseDestroy, slices.DeleteFunc(slices.Clone(p.Actions), func(a plan.Action) bool {
			return (a.Instance.ID != "") != listed
		}), r.end)
	}
	if err := r.outcome(); err != nil {
		return p, err
	}
	if err := r.cleanup(ctx); err != nil {
		return p, err
	}
	return p, r.verify(ctx)
}

// demolition plans the end of everything that exists or may exist.
func demolition(name, cluster string, v state.View, seen sight) (plan.Plan, error) {
	const reason = "the cluster ends"
	p := plan.Plan{Cluster: name, ClusterID: cluster, Actions: []plan.Action{}, Warnings: []string{}, Voters: []string{}}
	for _, provider := range slices.Sorted(maps.Keys(seen)) {
		for _, i := range seen[provider] {
			p.Actions = append(p.Actions, plan.Action{
				Kind: plan.Destroy, Host: i.Host, Provider: provider, Generation: i.Generation, ID: i.Identity.ID(), Reason: reason, Instance: i,
			})
		}
	}
	for _, m := range v.Sorted() {
		if _, looked := seen[m.Provider]; !looked {
			return p, fmt.Errorf("cannot end the cluster: host %s is at provider %s, which is not in the cluster file; put it back",
				m.Name, m.Provider)
		}
		if _, _, there := seen.find(m.Ref); there {
			continue
		}
		id := providers.Identity{Cluster: cluster, Host: m.Name, Generation: m.Generation}
		a := plan.Action{
			Kind: plan.Destroy, Host: m.Name, Provider: m.Provider, Generation: m.Generation, ID: id.ID(),
			Reason: reason + "; was asked for and never listed",
		}
		a.Instance.Identity = id
		p.Actions = append(p.Actions, a)
	}
	return p, nil
}

// cleanup removes what the providers keep for the cluster as a whole.
func (r *run) cleanup(ctx context.Context) error {
	var g errgroup.Group
	for _, configured := range r.deps.Spec.Providers {
		g.Go(func() error {
			err := r.guarded("cleanup "+configured.Name, func() error {
				return providers.Cleanup(ctx, r.deps.Providers[configured.Name], r.cluster())
			})
			if err != nil {
				return fmt.Errorf("cannot clean up at provider %s: %w", configured.Name, err)
			}
			r.report(Event{Provider: configured.Name, Phase: PhaseCleanup, Message: "cleaned up"})
			return nil
		})
	}
	return g.Wait()
}

// verify looks once more whether anything is left.
func (r *run) verify(ctx context.Context) error {
	seen, err := look(ctx, r.deps, r.cluster(), r.guarded)
	if err != nil {
		return err
	}
	for _, provider := range slices.Sorted(maps.Keys(seen)) {
		for _, i := range seen[provider] {
			return fmt.Errorf("host %s is still at provider %s; run `muster down` again", i.Host, provider)
		}
	}
	return nil
}
