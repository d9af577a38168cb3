package apply

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/musterhq/muster/cluster/plan"
	"github.com/musterhq/muster/cluster/spec"
	"github.com/musterhq/muster/cluster/state"
	"github.com/musterhq/muster/providers"
)

// deliveryDir is where a Delivery keeps copies, below the cluster's directory.
const deliveryDir = "musterd"

// deliver opens the delivery, once, if hosts that were asked for have not joined or new ones are to be made, and begins to
// push. The run's end closes it.
func (r *run) deliver(ctx context.Context, p plan.Plan) error {
	if r.deps.Delivery == nil || r.undeliver != nil || len(r.unfinished()) == 0 && len(p.Of(plan.Create, plan.Replace)) == 0 {
		return nil
	}
	err := r.guarded("open delivery", func() error {
		return r.deps.Delivery.Open(ctx, filepath.Join(r.dir.Path(), deliveryDir), r.unfinished())
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var pushing sync.WaitGroup
	if r.opts.NoWait {
		r.report(Event{Phase: PhasePlan, Message: "warning: new hosts get musterd while `muster up` runs: run it again without --no-wait"})
	} else {
		pushing.Go(func() { r.pushAll(ctx) })
	}
	r.undeliver = func() error {
		cancel()
		pushing.Wait()
		return r.guarded("close delivery", func() error { return r.deps.Delivery.Close(r.unfinished()) })
	}
	return nil
}

// unfinished is the user-data of all hosts that were asked for and have not joined.
func (r *run) unfinished() [][]byte {
	var all [][]byte
	for _, m := range r.view().Sorted() {
		if !m.Joined && m.UserData != nil {
			all = append(all, m.UserData)
		}
	}
	return all
}

// pushAll brings musterd to every host that awaits it, as soon as its instance has an address, until ctx ends.
func (r *run) pushAll(ctx context.Context) {
	deps := r.deps
	deps.Spec.Providers = nil
	for _, p := range r.deps.Spec.Providers {
		if r.deps.Musterd[p.Name].Pushed {
			deps.Spec.Providers = append(deps.Spec.Providers, spec.Provider{Name: p.Name})
		}
	}
	if len(deps.Spec.Providers) == 0 {
		return
	}
	var g errgroup.Group
	g.SetLimit(atOnce)
	defer func() { _ = g.Wait() }()
	begun := make(map[string]bool)
	rest := pauses{100 * time.Millisecond, 3 * time.Second}
	for rest.rest(ctx) == nil {
		seen, err := look(ctx, deps, r.cluster(), func(_ string, fn func() error) error { return fn() })
		if err != nil {
			r.deps.Log.Warn("cannot look for hosts that await musterd", "error", err)
			continue
		}
		for provider, instances := range seen {
			for _, i := range instances {
				if !begun[i.ID] && r.awaits(i) && g.TryGo(func() error { r.push(ctx, provider, i); return nil }) {
					begun[i.ID] = true
				}
			}
		}
	}
}

// awaits reports whether musterd is to be brought to an instance.
func (r *run) awaits(i providers.Instance) bool {
	m := r.machine(state.Ref{Name: i.Host, Generation: i.Generation})
	return i.State == providers.StateRunning && len(i.Addresses) > 0 && m.UserData != nil && !m.Joined && !m.Destroying
}

func (r *run) push(ctx context.Context, provider string, i providers.Instance) {
	r.report(Event{Host: i.Host, Provider: provider, Phase: PhaseDeliver, Message: "bringing musterd to it"})
	switch err := r.deps.Delivery.Push(ctx, provider, i); {
	case err == nil:
		r.report(Event{Host: i.Host, Provider: provider, Phase: PhaseDeliver, Message: "has musterd"})
	case ctx.Err() == nil:
		r.fail(i.Host, provider, PhaseDeliver, err)
	case !errors.Is(err, context.Canceled):
		r.deps.Log.Info("musterd was not brought", "host", i.Host, "error", err)
	}
}
