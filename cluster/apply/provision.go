package apply

import (
	"context"
	"fmt"
	"sync"

	"github.com/musterhq/muster/cluster/join"
	"github.com/musterhq/muster/cluster/plan"
	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/state"
	"github.com/musterhq/muster/providers"
)

// made collects instances that providers answered with, by host ID.
type made struct {
	mu        sync.Mutex
	instances map[string]providers.Instance
}

func (m *made) put(i providers.Instance) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.instances[i.Identity.ID()] = i
}

// provision makes, replaces and starts instances, all at the same time. endpoints are the voters that new hosts join
// through; none before a cluster has formed.
func (r *run) provision(ctx context.Context, p plan.Plan, endpoints []string) map[string]providers.Instance {
	m := &made{instances: make(map[string]providers.Instance)}
	r.each(ctx, PhaseCreate, p.Of(plan.Create, plan.Replace, plan.Start), func(ctx context.Context, a plan.Action) error {
		switch a.Kind {
		case plan.Start:
			return r.start(ctx, a)
		case plan.Replace:
			if err := r.end(ctx, a); err != nil {
				return err
			}
		}
		return r.create(ctx, a, endpoints, m)
	})
	return m.instances
}

// create makes an instance, or asks for it again with what the journal has.
func (r *run) create(ctx context.Context, a plan.Action, endpoints []string, m *made) error {
	r.report(Event{Host: a.Host, Provider: a.Provider, Phase: PhaseCreate, Message: "creating: " + a.Reason})
	machine, err := r.intend(a, endpoints)
	if err != nil {
		return fmt.Errorf("cannot create: %w", err)
	}
	if r.fleet != nil {
		if err := r.promise(ctx, a, machine); err != nil {
			return fmt.Errorf("cannot create: %w", err)
		}
	}
	instance, err := r.askCreate(ctx, machine)
	if err != nil {
		return fmt.Errorf("cannot create: %w", err)
	}
	m.put(instance)
	r.report(Event{Host: a.Host, Provider: a.Provider, Phase: PhaseCreate, Message: "created", Done: r.opts.NoWait})
	return nil
}

// intend announces a create, unless it is announced already.
func (r *run) intend(a plan.Action, endpoints []string) (state.Machine, error) {
	ref := refOf(a)
	if m := r.machine(ref); m.UserData != nil {
		return m, nil
	}
	secret := r.token(ref)
	data, err := r.userData(a, secret, endpoints)
	if err != nil {
		return state.Machine{}, err
	}
	err = r.record(state.Entry{
		Kind: state.KindIntent, Op: state.OpCreate, Host: &ref, Provider: a.Provider, Voter: a.Voter,
		Waits: len(endpoints) == 0, Token: state.Private(secret), UserData: data,
	})
	return r.machine(ref), err
}

// token is the join token of a host that is to be made, the same one all through the run: what was checked is what is sent.
func (r *run) token(ref state.Ref) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.tokens[ref] == "" {
		r.tokens[ref], _ = join.NewToken()
	}
	return r.tokens[ref]
}

// promise lets the host join the running cluster.
func (r *run) promise(ctx context.Context, a plan.Action, m state.Machine) error {
	host := roster.Host{
		ID: a.ID, Name: a.Host, Generation: a.Generation, Provider: a.Provider, Voter: a.Voter, Labels: a.Labels,
	}
	return r.fleet.AddToken(ctx, join.HashToken(string(m.Token)), host, r.opts.TokenTTL)
}

// askCreate asks the provider for a machine that is announced, and notes the answer.
func (r *run) askCreate(ctx context.Context, m state.Machine) (providers.Instance, error) {
	p, err := r.provider(m.Provider)
	if err != nil {
		return providers.Instance{}, err
	}
	var instance providers.Instance
	err = r.ask("create", m.Ref, func() (err error) {
		instance, err = p.Create(ctx, providers.CreateRequest{
			Identity: r.identity(m.Ref), UserData: m.UserData, Settings: r.settings(m.Name, m.Provider),
		})
		return err
	})
	if err != nil {
		return providers.Instance{}, err
	}
	return instance, r.record(state.Entry{Kind: state.KindDone, Op: state.OpCreate, Host: &m.Ref})
}

// start powers a stopped instance on.
func (r *run) start(ctx context.Context, a plan.Action) error {
	r.report(Event{Host: a.Host, Provider: a.Provider, Phase: PhaseStart, Message: "starting: " + a.Reason})
	ref := refOf(a)
	p, err := r.provider(a.Provider)
	if err == nil {
		err = r.record(state.Entry{Kind: state.KindIntent, Op: state.OpStart, Host: &ref, Provider: a.Provider})
	}
	if err == nil {
		err = r.ask("start", ref, func() error { return providers.Start(ctx, p, a.Instance) })
	}
	if err == nil {
		err = r.record(state.Entry{Kind: state.KindDone, Op: state.OpStart, Host: &ref})
	}
	if err != nil {
		return &HostError{Host: a.Host, Provider: a.Provider, Phase: PhaseStart, Err: fmt.Errorf("cannot start: %w", err)}
	}
	r.report(Event{Host: a.Host, Provider: a.Provider, Phase: PhaseStart, Message: "started", Done: r.opts.NoWait})
	return nil
}
