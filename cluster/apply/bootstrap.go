package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/musterhq/muster/cluster/plan"
	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/state"
	"github.com/musterhq/muster/providers"
)

// fix decides the first membership and writes it down, before anyone is told. Every voter must have an address; other
// hosts that have none yet are left out and replaced by a later run.
func (r *run) fix(ctx context.Context, p plan.Plan, answered map[string]providers.Instance) (state.Bootstrap, error) {
	placed := r.awaitAddresses(ctx, p, answered)
	if err := context.Cause(ctx); err != nil {
		return state.Bootstrap{}, err
	}
	b := state.Bootstrap{ClusterToken: uuid.NewString(), InitialCluster: make(map[string]string)}
	var missing []string
	for _, a := range p.Of(plan.Create, plan.Replace, plan.Start, plan.Keep) {
		instance, ok := placed[a.ID]
		switch {
		case ok:
			h := member(a, instance)
			b.Roster = append(b.Roster, h)
			if h.Voter {
				b.InitialCluster[h.ID] = h.PeerURL()
			}
		case a.Voter:
			missing = append(missing, a.Host)
		}
	}
	if len(missing) > 0 {
		return state.Bootstrap{}, errNoVoters(missing)
	}
	slices.SortFunc(b.Roster, func(a, b roster.Host) int { return strings.Compare(a.Name, b.Name) })
	return b, r.record(state.Entry{Kind: state.KindBootstrap, Bootstrap: &b})
}

func errNoVoters(missing []string) error {
	return fmt.Errorf("cannot form the cluster without its voters %s; run `muster up` again when they can be made",
		strings.Join(missing, ", "))
}

// failedVoters are the hosts that are to vote and could not be made.
func (r *run) failedVoters(p plan.Plan) []string {
	return slices.DeleteFunc(slices.Clone(p.Voters), func(host string) bool { return !r.hasFailed(host) })
}

// member is what a host will be in the roster.
func member(a plan.Action, i providers.Instance) roster.Host {
	ports := roster.Ports{API: i.Ports.API, Client: i.Ports.Client, Peer: i.Ports.Peer}
	return roster.Host{
		ID: a.ID, Name: a.Host, Generation: a.Generation, Provider: a.Provider, Address: i.Addresses[0].Unmap().String(),
		Ports: ports.OrDefault(), Voter: a.Voter, Labels: a.Labels,
	}
}

// awaitAddresses returns the instances that can be reached, by host ID, when all have an address, have failed, or the
// time is up.
func (r *run) awaitAddresses(ctx context.Context, p plan.Plan, answered map[string]providers.Instance) map[string]providers.Instance {
	limited, cancel := context.WithTimeoutCause(ctx, r.opts.Timeout, errTimeout)
	defer cancel()
	w := placing{run: r, open: make(map[string]plan.Action), placed: make(map[string]providers.Instance)}
	for _, a := range p.Of(plan.Create, plan.Replace, plan.Start, plan.Keep) {
		if r.hasFailed(a.Host) {
			continue
		}
		w.open[a.ID] = a
		if i, ok := answered[a.ID]; ok {
			w.sort(a, i)
		} else if a.Kind == plan.Keep {
			w.sort(a, a.Instance)
		}
	}
	rest := pauses{100 * time.Millisecond, 3 * time.Second}
	for len(w.open) > 0 && rest.rest(limited) == nil {
		seen, err := look(limited, r.deps, r.cluster(), r.guarded)
		if err != nil {
			r.deps.Log.Warn("cannot look for addresses", "error", err)
			continue
		}
		for _, a := range w.open {
			if i, _, ok := seen.find(refOf(a)); ok {
				w.sort(a, i)
			}
		}
	}
	if context.Cause(ctx) == nil {
		for _, a := range w.open {
			r.fail(a.Host, a.Provider, PhaseBoot, r.notReady(a.Host, a.Provider, "it has no address yet"))
		}
	}
	return w.placed
}

// placing is the wait for addresses.
type placing struct {
	run    *run
	open   map[string]plan.Action        // hosts without an address, by host ID
	placed map[string]providers.Instance // with one
}

// sort tells from an instance whether its host is still to be waited for.
func (w placing) sort(a plan.Action, i providers.Instance) {
	switch {
	case i.State == providers.StateFailed:
		delete(w.open, a.ID)
		w.run.fail(a.Host, a.Provider, PhaseBoot, errors.New("its instance failed at the provider"))
	case len(i.Addresses) > 0:
		delete(w.open, a.ID)
		w.placed[a.ID] = i
	}
}
