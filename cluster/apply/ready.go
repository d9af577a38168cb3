package apply

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/musterhq/muster/cluster/plan"
	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/state"
	"github.com/musterhq/muster/providers"
)

// awaitReady waits until every host that the plan wants works, as far as it did not fail before. Hosts that do not in
// time are noted.
func (r *run) awaitReady(ctx context.Context, p plan.Plan) error {
	limited, cancel := context.WithTimeoutCause(ctx, r.opts.Timeout, errTimeout)
	defer cancel()
	open := make(map[string]plan.Action)
	for _, a := range p.Of(plan.Create, plan.Replace, plan.Start, plan.Keep, plan.Relabel, plan.Appoint, plan.Retire) {
		if !r.hasFailed(a.Host) {
			open[a.ID] = a
		}
	}
	last := make(map[string]string) // by host ID: what was last said of it
	rest := pauses{30 * time.Millisecond, 300 * time.Millisecond}
	for {
		if status, err := r.fleet.Status(limited); err == nil {
			if err := r.noteMembers(status); err != nil {
				return err
			}
			r.settleReady(status, open, last)
		} else {
			r.deps.Log.Debug("cannot ask for the hosts' state", "error", err)
		}
		maps.DeleteFunc(open, func(_ string, a plan.Action) bool { return r.hasFailed(a.Host) })
		if len(open) == 0 {
			return nil
		}
		if rest.rest(limited) != nil {
			break
		}
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	for id, a := range open {
		said, ok := last[id]
		if !ok {
			said = "it has not joined"
		}
		r.fail(a.Host, a.Provider, PhaseReady, r.notReady(a.Host, a.Provider, said))
	}
	return nil
}

// settleReady takes the hosts that work out of open.
func (r *run) settleReady(status FleetStatus, open map[string]plan.Action, last map[string]string) {
	for _, h := range status.Hosts {
		a, ok := open[h.Host.ID]
		if !ok {
			continue
		}
		switch state := h.state(); {
		case state == stateReady:
			delete(open, h.Host.ID)
			r.report(Event{Host: a.Host, Provider: a.Provider, Phase: PhaseReady, Message: "ready", Done: true})
		case last[h.Host.ID] != state:
			r.report(Event{Host: a.Host, Provider: a.Provider, Phase: PhaseReady, Message: "is " + state})
			last[h.Host.ID] = state
		}
	}
}

// noteMembers remembers who the members are, and in the journal those that have joined. First members are in the roster
// before they know of it; that one works shows that it does.
func (r *run) noteMembers(status FleetStatus) error {
	v := r.view()
	var joined []state.Entry
	for _, h := range status.Hosts {
		ref := refOfHost(h.Host)
		m, ok := v.Machines[ref]
		if ok && !m.Joined && (h.State == stateReady || !inBootstrap(v, h.Host.ID)) {
			joined = append(joined, state.Entry{Kind: state.KindJoined, Host: &ref})
		}
	}
	if err := r.record(joined...); err != nil {
		return err
	}
	members := slices.SortedFunc(slices.Values(status.roster()), func(a, b roster.Host) int {
		return strings.Compare(a.Name+" "+a.ID, b.Name+" "+b.ID)
	})
	known, err := r.dir.Roster()
	if err == nil && slices.EqualFunc(known, members, sameHost) {
		return nil
	}
	return r.saveRoster(members)
}

// sameHost reports whether two entries say the same. No labels and empty labels are the same.
func sameHost(a, b roster.Host) bool {
	same := maps.Equal(a.Labels, b.Labels)
	a.Labels, b.Labels = nil, nil
	return same && reflect.DeepEqual(a, b)
}

// logLocator is implemented by providers that know where a host's own log can be read.
type logLocator interface {
	LogPath(instance providers.Instance) string
}

// notReady says that a host took too long, and where to look.
func (r *run) notReady(host, provider, last string) error {
	e := &NotReadyError{After: r.opts.Timeout, Last: last}
	p, ok := r.deps.Providers[provider]
	if !ok {
		return e
	}
	if m, ok := r.view().Latest(host); ok {
		if locator, ok := providers.As[logLocator](p); ok {
			e.Log = locator.LogPath(providers.Instance{Identity: r.identity(m.Ref)})
		}
	}
	return e
}

// relabel gives members the labels that they shall have.
func (r *run) relabel(ctx context.Context, p plan.Plan) {
	r.each(ctx, PhaseRelabel, p.Of(plan.Relabel), func(ctx context.Context, a plan.Action) error {
		if r.hasFailed(a.Host) {
			return nil
		}
		host, err := hostNamed(r.deps.Spec, a.Host)
		if err != nil {
			return err
		}
		if err := r.fleet.Relabel(ctx, a.ID, host.Labels); err != nil {
			return fmt.Errorf("cannot change its labels: %w", err)
		}
		r.report(Event{Host: a.Host, Provider: a.Provider, Phase: PhaseRelabel, Message: "has its new labels", Done: true})
		return nil
	})
}

// submit gives the cluster the units of the cluster file.
func (r *run) submit(ctx context.Context) (changed int, err error) {
	for _, u := range r.deps.Spec.Units {
		did, err := r.fleet.PutUnit(ctx, u.Name, string(u.Content), u.Desired)
		if err != nil {
			return changed, fmt.Errorf("cannot submit unit %s: %w", u.Name, err)
		}
		if did {
			changed++
			r.report(Event{Phase: PhaseUnits, Message: fmt.Sprintf("unit %s submitted", u.Name)})
		}
	}
	return changed, nil
}

// settle shortens the journal and forgets tokens, when nothing is open any more. What was just made must be listed for
// that: until then the journal alone knows of it.
func (r *run) settle(ctx context.Context) error {
	if slices.ContainsFunc(r.view().Sorted(), func(m state.Machine) bool { return !m.Listed }) {
		if _, err := r.observe(ctx, places(r.deps.Spec)); err != nil {
			r.deps.Log.Warn("cannot see what was made", "error", err)
		}
	}
	if !r.view().Settled() {
		return nil
	}
	return errors.Join(
		r.guarded("tokens", func() error { return r.dir.Tokens().Clear() }),
		r.guarded("compact", func() error {
			_, err := r.dir.Journal().Compact()
			return err
		}))
}
