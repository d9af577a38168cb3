package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/musterhq/muster/agent/lock"
	"github.com/musterhq/muster/agent/pause"
	"github.com/musterhq/muster/agent/release"
	"github.com/musterhq/muster/agent/update"
	"github.com/musterhq/muster/cluster/store"
)

// updateHost is update.Host over whichever agent is at work.
type updateHost struct {
	*updater
	checks []string

	claim  *lock.Claim // of the agent's store
	ticket int64
}

// Boot implements update.Host.
func (h *updateHost) Boot() string { return h.host.bootID }

var errNoAgent = errors.New("this host has not joined its cluster again")

// at is the agent at work.
func (h *updateHost) at() (*agent, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.agent == nil {
		return nil, errNoAgent
	}
	return h.agent, nil
}

// May implements update.Host: what operators ordered, as the store has it now, and no host begins that is not well.
func (h *updateHost) May(ctx context.Context, version string) (update.Permission, error) {
	a, err := h.at()
	if err != nil {
		return update.Permission{}, err
	}
	item, err := a.store.Get(ctx, store.UpdateKey(store.UpdateGroup))
	if err != nil {
		return update.Permission{}, err
	}
	if item.ModRevision == 0 {
		return update.Permission{Reason: "the cluster has no settings of updates"}, nil
	}
	r, err := store.Unmarshal[store.UpdateRecord](item.Value)
	if err != nil {
		return update.Permission{}, err
	}
	own, _ := a.members.own()
	h.mu.Lock()
	engine, booted := h.engine, h.state.Booted
	h.mu.Unlock()
	p := admit(r, release.Candidate{ID: a.self.ID, Labels: own.Labels, Version: booted}, engine, version, time.Now())
	if !p.May {
		return p, nil
	}
	if err := h.Probe(ctx); err != nil {
		return update.Permission{Resumed: r.Resumed, Reason: "the host is not well before it: " + err.Error()}, nil
	}
	return p, nil
}

// Resumed implements update.Host. A failure that the cluster bears is resumed by nobody.
func (h *updateHost) Resumed(ctx context.Context, since int64) error {
	for {
		h.mu.Lock()
		resumed, changed := h.record.Resumed > since, h.changed
		if n := len(h.state.Failures); n > 0 && h.agent != nil {
			resumed = resumed || bears(h.record, h.agent.self.ID, h.engine, h.state.Failures[n-1].Version)
		}
		h.mu.Unlock()
		if resumed {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// place is the host's claim to the lock, over the store of the agent at work.
func (h *updateHost) place() (*lock.Claim, error) {
	a, err := h.at()
	if err != nil {
		return nil, err
	}
	if h.claim == nil || h.claim.Store != store.Store(a.store) {
		h.claim = &lock.Claim{Store: a.store, Host: a.self.ID, Boot: h.host.bootID}
	}
	return h.claim, nil
}

// Lock implements update.Host.
func (h *updateHost) Lock(ctx context.Context, reason string) error {
	claim, err := h.place()
	if err != nil {
		return err
	}
	if h.ticket, err = claim.Ask(ctx, store.UpdateGroup, reason); err != nil {
		return err
	}
	return claim.Await(ctx, h.ticket)
}

// Held implements update.Host.
func (h *updateHost) Held(ctx context.Context) (bool, error) {
	claim, err := h.place()
	if err != nil {
		return false, err
	}
	return claim.Holds(ctx, h.ticket)
}

// Unlock implements update.Host.
func (h *updateHost) Unlock(ctx context.Context, reason string) error {
	claim, err := h.place()
	if err != nil {
		return err
	}
	return claim.Release(ctx, reason)
}

// Unwell implements update.Host.
func (h *updateHost) Unwell(ctx context.Context, reason string) error {
	claim, err := h.place()
	if err != nil {
		return err
	}
	return claim.Unwell(ctx, reason)
}

// Report implements update.Host.
func (h *updateHost) Report(s update.State) {
	h.mu.Lock()
	h.state = s
	h.mu.Unlock()
	h.reported.raise()
}

// drainEvery is how often a host that is being drained looks what it has left.
const drainEvery = 250 * time.Millisecond

// Drain implements update.Host. The leader orders it when it has read what Report told.
func (h *updateHost) Drain(ctx context.Context, deadline time.Time) error {
	global := map[string]bool{}
	for time.Now().Before(deadline) {
		left, err := h.left(ctx, global)
		if err == nil && left == 0 {
			return nil
		}
		if err != nil {
			h.log.Warn("cannot see what is left on this host", "err", err)
		}
		if err := pause.For(ctx, drainEvery); err != nil {
			return err
		}
	}
	return nil
}

// left counts what is on this host and moves away by itself.
func (h *updateHost) left(ctx context.Context, global map[string]bool) (int, error) {
	a, err := h.at()
	if err != nil {
		return 0, err
	}
	t := store.NewTables()
	for _, key := range []string{store.OrderKey(a.self.ID), store.ScheduleKey(a.self.ID), store.StatesKey(a.self.ID)} {
		view, err := a.store.Range(ctx, key)
		if err != nil {
			return 0, err
		}
		t.Read(view)
	}
	if t.Orders[a.self.ID].Record.Order != store.OrderDrain {
		return 1, nil // not yet ordered
	}
	names := map[string]bool{}
	for _, u := range t.Schedule[a.self.ID].Record.Units {
		names[u.Name] = true
	}
	for _, u := range t.States[a.self.ID].Record.Units {
		names[u.Name] = true
	}
	for name := range names {
		is, known := global[name]
		if !known {
			item, err := a.store.Get(ctx, store.UnitKey(name))
			if err != nil {
				return 0, err
			}
			record, err := store.Unmarshal[store.UnitRecord](item.Value)
			is = err == nil && record.Global
			global[name] = is
		}
		if is {
			delete(names, name)
		}
	}
	return len(names), nil
}

// checkTime bounds a command of update.health.
const checkTime = time.Minute

// Probe implements update.Host: the agent is a member, a voter votes, units that shall run do, and the operator's checks
// succeed.
func (h *updateHost) Probe(ctx context.Context) error {
	a, err := h.at()
	if err != nil {
		return err
	}
	if !a.managers.presence.alive.Load() {
		return errors.New("the cluster does not know this host to be alive")
	}
	if err := a.votes(ctx); err != nil {
		return err
	}
	if err := a.managers.executor.well(ctx); err != nil {
		return err
	}
	for _, check := range h.checks {
		if err := runCheck(ctx, check); err != nil {
			return err
		}
	}
	return nil
}

func runCheck(ctx context.Context, check string) error {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	out, err := exec.CommandContext(ctx, "/bin/sh", "-c", check).CombinedOutput()
	if err != nil {
		said, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		return fmt.Errorf("the check %q fails: %w %s", check, err, said[:min(len(said), 200)])
	}
	return nil
}

// votes looks whether a host that shall vote does, and is up to date as far as etcd's health tells.
func (a *agent) votes(ctx context.Context) error {
	if a.id.Voter == nil {
		return nil
	}
	if a.council == nil {
		return errors.New("this voter does not vote")
	}
	voters, err := a.council.voters(ctx)
	for _, v := range voters {
		if v.Host == a.self.ID && v.Healthy {
			return nil
		}
	}
	return cmp.Or(err, errors.New("this voter has not caught up"))
}

// well looks whether every unit that shall run here does, or did what it was there for.
func (e *executor) well(ctx context.Context) error {
	states, err := e.states(ctx)
	if err != nil {
		return err
	}
	is := map[string]store.UnitState{}
	for _, s := range states {
		is[s.Name] = s
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.desired == nil {
		return nil
	}
	for _, u := range e.desired.Units {
		s, there := is[u.Name]
		switch {
		case u.Desired != store.DesiredLaunched || s.Sub == store.SubCutOff:
		case !there:
			return fmt.Errorf("%s is not there yet", u.Name)
		case s.Active == "active" && s.Health != store.HealthUnhealthy && s.Health != store.HealthStarting:
		case s.Active == "inactive" && e.begun[u.Name] != "": // it has exited as it should
		default:
			return fmt.Errorf("%s is %s (%s): %s", u.Name, s.Active, cmp.Or(s.Health, s.Sub), s.Reason)
		}
	}
	return nil
}
