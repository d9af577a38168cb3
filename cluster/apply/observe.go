package apply

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/musterhq/muster/cluster/plan"
	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/spec"
	"github.com/musterhq/muster/cluster/state"
	"github.com/musterhq/muster/providers"
)

// sight is what every provider lists, by its name.
type sight map[string][]providers.Instance

// look lists every provider of the cluster file at the same time. One that cannot be listed is an error: nothing is
// decided on half a view.
func look(ctx context.Context, deps Deps, cluster string, call func(name string, fn func() error) error) (sight, error) {
	lists := make([][]providers.Instance, len(deps.Spec.Providers))
	g, ctx := errgroup.WithContext(ctx)
	for i, configured := range deps.Spec.Providers {
		p, ok := deps.Providers[configured.Name]
		if !ok {
			return nil, fmt.Errorf("cannot see what provider %s has: it was not opened", configured.Name)
		}
		g.Go(func() error {
			err := call("list "+configured.Name, func() (err error) {
				lists[i], err = p.List(ctx, cluster)
				return err
			})
			if err != nil {
				return fmt.Errorf("cannot see what provider %s has: %w", configured.Name, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	seen := make(sight, len(lists))
	for i, configured := range deps.Spec.Providers {
		seen[configured.Name] = lists[i]
	}
	return seen, nil
}

// places has the provider of every host of a cluster file, by the host's name.
func places(s spec.Spec) map[string]string {
	at := make(map[string]string)
	for _, h := range s.Hosts() {
		at[h.Name] = h.Provider
	}
	return at
}

// find looks for an instance by its identity.
func (s sight) find(ref state.Ref) (instance providers.Instance, provider string, ok bool) {
	for name, instances := range s {
		i := slices.IndexFunc(instances, func(i providers.Instance) bool {
			return i.Host == ref.Name && i.Generation == ref.Generation
		})
		if i >= 0 {
			return instances[i], name, true
		}
	}
	return providers.Instance{}, "", false
}

// observe looks, and brings the journal up to what was seen. places has the provider of every host that is wanted.
func (r *run) observe(ctx context.Context, places map[string]string) (sight, error) {
	seen, err := look(ctx, r.deps, r.cluster(), r.guarded)
	if err != nil {
		return nil, fmt.Errorf("%w; nothing was changed", err)
	}
	if err := r.record(news(r.view(), seen, places, r.deps.Now())...); err != nil {
		return nil, err
	}
	return seen, nil
}

// news is what the lists tell that the journal does not know: what was asked for is there, what was there is gone, and
// what was asked for so long ago that no list hides it any more was never made.
func news(v state.View, seen sight, places map[string]string, now time.Time) []state.Entry {
	entries := strangers(v, seen)
	for _, m := range v.Sorted() {
		_, _, there := seen.find(m.Ref)
		_, looked := seen[m.Provider]
		switch {
		case there && !m.Listed:
			entries = append(entries, state.Entry{Kind: state.KindListed, Host: &m.Ref})
		case there || !looked:
		case m.Listed:
			entries = append(entries, state.Entry{Kind: state.KindGone, Host: &m.Ref})
		case now.Sub(m.Asked) > maxHidden && (m.Created || places[m.Name] != m.Provider):
			entries = append(entries, state.Entry{Kind: state.KindGone, Host: &m.Ref})
		}
	}
	return entries
}

// strangers are instances of the cluster that the journal does not know, as after the loss of the state directory.
func strangers(v state.View, seen sight) []state.Entry {
	var entries []state.Entry
	for _, provider := range slices.Sorted(maps.Keys(seen)) {
		for _, i := range seen[provider] {
			ref := state.Ref{Name: i.Host, Generation: i.Generation}
			if _, known := v.Machines[ref]; !known {
				entries = append(entries, state.Entry{Kind: state.KindListed, Host: &ref, Provider: provider})
			}
		}
	}
	return entries
}

// observed is the planner's view. members is nil before a cluster has formed.
func observed(cluster string, v state.View, seen sight, deps Deps, members roster.Roster) plan.Observed {
	o := plan.Observed{
		ClusterID: cluster, Instances: seen, Roster: members, Generations: v.Generations,
		Roles: make(map[string]bool), Condemned: make(map[string]string), CannotStart: make(map[string]bool),
	}
	for _, m := range v.Sorted() {
		id := providers.Identity{Cluster: cluster, Host: m.Name, Generation: m.Generation}.ID()
		if _, looked := seen[m.Provider]; !m.Listed || !looked { // a provider that was not asked is for the planner to refuse
			o.Pending = append(o.Pending, plan.Pending{Host: m.Name, Generation: m.Generation, Provider: m.Provider})
		}
		if members != nil && !m.Joined {
			o.Roles[id] = m.Voter
		}
		if reason := condemnation(v, m, id); reason != "" {
			o.Condemned[id] = reason
		}
	}
	for name, p := range deps.Providers {
		_, can := providers.As[providers.Starter](p)
		o.CannotStart[name] = !can
	}
	return o
}

// condemnation says why a machine can never be a member, or "".
func condemnation(v state.View, m state.Machine, id string) string {
	switch {
	case m.Destroying:
		return "was being destroyed"
	case !v.Formed && v.Bootstrap == nil && m.Admitted:
		return "was told of a first membership that can never work"
	case v.Formed && m.Waits && !m.Joined && !inBootstrap(v, id):
		return "waits for a first membership, which works without it"
	}
	return ""
}

func inBootstrap(v state.View, id string) bool {
	if v.Bootstrap == nil {
		return false
	}
	_, ok := v.Bootstrap.Roster.ByID(id)
	return ok
}
