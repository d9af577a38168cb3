package apply

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/musterhq/muster/cluster/plan"
	"github.com/musterhq/muster/cluster/spec"
	"github.com/musterhq/muster/cluster/state"
	"github.com/musterhq/muster/providers"
)

// run is one run of Up or Down.
type run struct {
	deps  Deps
	opts  Options
	dir   *state.Dir
	keys  state.Keys
	fleet Fleet // nil before there is a cluster to speak to

	undeliver func() error // closes the delivery; nil while it is not open

	reporting sync.Mutex // one Report at a time

	mu     sync.Mutex
	failed map[string]*HostError // first failure of each host
	total  map[string]bool       // hosts of the plan
	tokens map[state.Ref]string  // of hosts to be made
}

// atOnce bounds how many hosts are worked on at the same time.
const atOnce = 64

// crash marks a place where tests end the process.
func (r *run) crash(format string, args ...any) { r.opts.CrashPoint(fmt.Sprintf(format, args...)) }

// guarded runs one write or call between two crash points.
func (r *run) guarded(name string, fn func() error) error {
	r.crash("before %s", name)
	err := fn()
	r.crash("after %s", name)
	return err
}

// record writes entries to the journal.
func (r *run) record(entries ...state.Entry) error {
	if len(entries) == 0 {
		return nil
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = strings.TrimSpace(string(e.Kind) + " " + string(e.Op))
		if e.Host != nil {
			names[i] += " " + e.Host.String()
		}
	}
	return r.guarded("journal "+strings.Join(names, ", "), func() error { return r.dir.Journal().Append(entries...) })
}

// ask makes one call to a provider about one host.
func (r *run) ask(op string, ref state.Ref, fn func() error) error {
	return r.guarded(fmt.Sprintf("%s %s", op, ref), fn)
}

func (r *run) view() state.View { return r.dir.Journal().View() }

// machine is what the journal says of a machine; the zero Machine when it does not know it.
func (r *run) machine(ref state.Ref) state.Machine {
	m, _ := r.dir.Journal().Machine(ref)
	return m
}

func (r *run) cluster() string { return r.dir.Cluster().ID }

func (r *run) identity(ref state.Ref) providers.Identity {
	return providers.Identity{Cluster: r.cluster(), Host: ref.Name, Generation: ref.Generation}
}

func refOf(a plan.Action) state.Ref { return state.Ref{Name: a.Host, Generation: a.Generation} }

// settings finds the settings for a host of the cluster file; for one that is not in it any more, those of another host
// at the same provider.
func (r *run) settings(host, provider string) any {
	hosts := r.deps.Spec.Hosts()
	at := func(h spec.Host) bool { return h.Provider == provider }
	i := slices.IndexFunc(hosts, func(h spec.Host) bool { return at(h) && h.Name == host })
	if i < 0 {
		i = slices.IndexFunc(hosts, at)
	}
	if i < 0 {
		return nil
	}
	return hosts[i].Settings
}

func (r *run) provider(name string) (providers.Provider, error) {
	p, ok := r.deps.Providers[name]
	if !ok {
		return nil, fmt.Errorf("provider %s is not in the cluster file; leave it there until its hosts are gone", name)
	}
	return p, nil
}

// each works on every action at the same time. Failures are kept by host.
func (r *run) each(ctx context.Context, phase Phase, actions []plan.Action, fn func(context.Context, plan.Action) error) {
	var g errgroup.Group
	g.SetLimit(atOnce)
	for _, a := range actions {
		g.Go(func() error {
			if err := fn(ctx, a); err != nil {
				r.fail(a.Host, a.Provider, phase, err)
			}
			return nil
		})
	}
	_ = g.Wait()
}

// fail notes and reports what went wrong with a host.
func (r *run) fail(host, provider string, phase Phase, err error) {
	var known *HostError
	if errors.As(err, &known) {
		phase, err = known.Phase, known.Err
	}
	failure := &HostError{Host: host, Provider: provider, Phase: phase, Err: err}
	r.mu.Lock()
	key := host + "\x00" + provider
	if host != "" {
		key = host
	}
	if r.failed[key] == nil {
		r.failed[key] = failure
	}
	r.mu.Unlock()
	r.deps.Log.Info("host failed", "host", host, "provider", provider, "phase", phase, "error", err)
	r.report(Event{Host: host, Provider: provider, Phase: phase, Err: err})
}

// forgive forgets failures that led to another way.
func (r *run) forgive() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.failed)
}

// hasFailed reports whether something went wrong with a host.
func (r *run) hasFailed(host string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed[host] != nil
}

// failures are the hosts that failed, by name.
func (r *run) failures() []*HostError {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.SortedFunc(maps.Values(r.failed), func(a, b *HostError) int {
		return cmp.Or(strings.Compare(a.Host, b.Host), strings.Compare(a.Provider, b.Provider))
	})
}

// outcome is nil when no host failed, a PartialError when some did, and every host's error when all did.
func (r *run) outcome() error {
	failed := r.failures()
	if n := len(failed); n > 0 && n < len(r.total) {
		return &PartialError{Failed: failed, Total: len(r.total)}
	}
	return r.because(nil)
}

// because adds the hosts' errors to what they led to.
func (r *run) because(err error) error {
	errs := []error{err}
	for _, f := range r.failures() {
		if !errors.Is(err, f) {
			errs = append(errs, f)
		}
	}
	return errors.Join(errs...)
}

// pauses grow from first to last by half each time.
type pauses struct{ next, last time.Duration }

func (p *pauses) rest(ctx context.Context) error {
	d := p.next
	p.next = min(p.last, d+d/2)
	return providers.Pause(ctx, d)
}
