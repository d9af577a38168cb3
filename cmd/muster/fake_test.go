package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/agent/fleetapi"
	"github.com/musterhq/muster/agent/unitfile"
	"github.com/musterhq/muster/cluster/store"
	"github.com/musterhq/muster/cmd/muster/output"
	"github.com/musterhq/muster/providers"
)

// fakeFleet is a cluster that shows the statuses it was given, one after the other, and then nothing more happens.
type fakeFleet struct {
	fleet
	statuses []api.Status
	pace     time.Duration // between them
	breaks   bool          // the connection ends after each of them
	err      error         // instead of any of them
	unit     api.Unit      // the one that is asked for
}

func (f *fakeFleet) Unit(context.Context, string) (api.Unit, error) { return f.unit, nil }

func (f *fakeFleet) WatchStatus(ctx context.Context, yield func(api.Status) bool) error {
	if f.err != nil {
		return f.err
	}
	for len(f.statuses) > 0 {
		s := f.statuses[0]
		f.statuses = f.statuses[1:]
		if !yield(s) {
			return nil
		}
		if f.breaks {
			return io.ErrUnexpectedEOF
		}
		select {
		case <-ctx.Done():
		case <-time.After(f.pace):
		}
	}
	<-ctx.Done()
	return io.ErrUnexpectedEOF
}

// smallFleet is a cluster of one host in memory, which does at once what it is told. Units whose name begins with "bad"
// fail, those with "nowhere" find no host.
type smallFleet struct {
	fleet    // nil: what no test asks for
	mu       sync.Mutex
	units    map[string]api.Unit
	orders   map[string]string // by host ID
	rollouts []api.Rollout
	updates  []api.Update
	turned   []string // the verbs of rollouts that it was told, with their units
}

// newSmallFleet makes a cluster that has units: NAME, or NAME STATE for one that is not inactive.
func newSmallFleet(units ...string) *smallFleet {
	f := &smallFleet{units: map[string]api.Unit{}}
	for _, unit := range units {
		name, desired, _ := strings.Cut(unit, " ")
		desired = cmp.Or(desired, string(store.DesiredInactive))
		f.units[name] = api.Unit{Name: name, Content: "[Service]\n# " + name + "\n", Desired: desired}
	}
	return f
}

func (f *smallFleet) Status(context.Context) (api.Status, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := api.Status{Cluster: "demo", Voters: api.VotersStatus{Total: 1, Healthy: 1, Leader: "node-1"}}
	s.Rollouts = slices.Clone(f.rollouts)
	s.Hosts = []api.HostStatus{{Name: "node-1", Provider: "a", Address: "127.0.0.9", State: api.HostReady, Voter: true, ID: "1"}}
	s.Hosts[0].Order = map[string]string{"cordon": api.OrderCordoned, "drain": api.OrderDrained}[f.orders["1"]]
	for _, name := range slices.Sorted(maps.Keys(f.units)) {
		if u := f.units[name]; !unitfile.IsTemplate(name) || u.Desired != string(store.DesiredInactive) {
			s.Units = append(s.Units, stateOf(f.units[name]))
		}
	}
	return s, nil
}

func stateOf(u api.Unit) api.UnitStatus {
	s := api.UnitStatus{Name: u.Name, Desired: u.Desired, Host: "node-1"}
	switch {
	case u.Desired == string(store.DesiredInactive):
		s.Host, s.State = "", api.UnitInactive
	case strings.HasPrefix(u.Name, "nowhere"):
		s.Host, s.State, s.Reason = "", api.UnitPending, "no host has label role=db"
	case u.Desired == string(store.DesiredLoaded):
		s.State = api.UnitStopped
	case strings.HasPrefix(u.Name, "bad"):
		s.State, s.Reason = api.UnitFailed, "exit status 3"
	default:
		s.State = api.UnitRunning
	}
	return s
}

func (f *smallFleet) WatchStatus(ctx context.Context, yield func(api.Status) bool) error {
	for {
		s, _ := f.Status(ctx)
		if !yield(s) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func (f *smallFleet) Units(context.Context) ([]api.Unit, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []api.Unit
	for _, name := range slices.Sorted(maps.Keys(f.units)) {
		list = append(list, api.Unit{Name: name, Desired: f.units[name].Desired})
	}
	return list, nil
}

func (f *smallFleet) Unit(_ context.Context, name string) (api.Unit, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.known(name)
}

func (f *smallFleet) known(name string) (api.Unit, error) {
	u, ok := f.units[name]
	if !ok {
		return u, api.Errorf(http.StatusNotFound, "`muster units list` shows them", "there is no unit %s", name)
	}
	return u, nil
}

func (f *smallFleet) PutUnit(_ context.Context, u api.Unit) (api.Outcome, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	old, exists := f.units[u.Name]
	if u.Content == "" {
		u.Content = old.Content
		if template, ok := unitfile.Template(u.Name); ok && !exists {
			u.Content = f.units[template].Content
		}
	}
	if u.Content == "" {
		_, err := f.known(u.Name)
		return api.Unchanged, err
	}
	if u.Desired == "" {
		u.Desired = old.Desired
	}
	if u.Desired == "" {
		u.Desired = string(store.DesiredInactive)
	}
	f.units[u.Name] = u
	switch {
	case !exists:
		return api.Created, nil
	case old == u:
		return api.Unchanged, nil
	default:
		return api.Changed, nil
	}
}

func (f *smallFleet) DeleteUnit(_ context.Context, name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, err := f.known(name)
	delete(f.units, name)
	return err
}

func (f *smallFleet) ChangeRollout(_ context.Context, unit, verb string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, r := range f.rollouts {
		if r.Unit == unit {
			f.turned = append(f.turned, verb+" "+unit)
			if f.rollouts[i].Paused = verb == api.RolloutPause; verb == api.RolloutUndo {
				f.rollouts[i].Phase = "undone"
			}
			return nil
		}
	}
	return api.Errorf(http.StatusNotFound, "", "%s has no rollout", unit)
}

func (f *smallFleet) Why(_ context.Context, name string) (api.Why, error) {
	u, err := f.Unit(context.Background(), name)
	s := stateOf(u)
	return api.Why{Unit: name, Host: s.Host, State: s.State, Reason: s.Reason, Hosts: []api.HostReason{{Host: "node-1", Reason: "no label role"}}}, err
}

func (f *smallFleet) Logs(_ context.Context, name string, o api.LogOptions, w io.Writer) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, err := f.known(name); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "%s says hello, lines=%d follow=%t host=%s\n", name, o.Lines, o.Follow, o.Host)
	return err
}

// Reload reloads units whose names say so.
func (f *smallFleet) Reload(_ context.Context, name, _ string) ([]api.Reloaded, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, err := f.known(name); err != nil {
		return nil, err
	}
	result := api.Reloaded{Unit: name, Host: "node-1"}
	if !strings.HasPrefix(name, "reloads") {
		result.Error = "it has no ExecReload="
	}
	return []api.Reloaded{result}, nil
}

// Fleet is fleet's API, on a machine whose ID is all ones.
func (f *smallFleet) Fleet(_ context.Context, path string, into any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	machine := fleetapi.Machine{ID: strings.Repeat("1", 32), PrimaryIP: "127.0.0.9", Metadata: map[string]string{"role": "db", "disk": "ssd"}}
	var units fleetapi.UnitPage
	var states fleetapi.UnitStatePage
	for _, name := range slices.Sorted(maps.Keys(f.units)) {
		u := fleetapi.Unit{Name: name, DesiredState: f.units[name].Desired, CurrentState: f.units[name].Desired}
		file, _, err := unitfile.Parse(name, []byte(f.units[name].Content))
		if err != nil {
			return err
		}
		for _, o := range file.Options {
			u.Options = append(u.Options, fleetapi.UnitOption{Section: o.Section, Name: o.Name, Value: o.Value})
		}
		rules, _ := file.Requirements(name)
		if u.DesiredState != "inactive" {
			u.MachineID = machine.ID
			states.States = append(states.States, fleetapi.UnitState{
				Name: name, Hash: file.Hash(), MachineID: machine.ID, Load: "loaded", Active: "active", Sub: "running",
			})
		}
		if rules.Global {
			u.CurrentState, u.MachineID = "", ""
		}
		units.Units = append(units.Units, u)
	}
	switch page := into.(type) {
	case *fleetapi.UnitPage:
		*page = units
	case *fleetapi.UnitStatePage:
		*page = states
	case *fleetapi.MachinePage:
		*page = fleetapi.MachinePage{Machines: []fleetapi.Machine{machine}}
	default:
		return fmt.Errorf("nothing is at %s", path)
	}
	return nil
}

// asks runs muster with a cluster in memory in place of a real one.
func asks(t *testing.T, f fleet, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	c := &cli{in: strings.NewReader(""), out: &out, err: &errs, drivers: providers.NewRegistry(), now: time.Now, format: output.Table}
	c.connect = func(context.Context) (fleet, error) { return f, nil }
	status = c.execute(t.Context(), args)
	return status, out.String(), errs.String()
}

// desiredOf is what the cluster wants of each unit.
func desiredOf(f *smallFleet) map[string]string {
	m := map[string]string{}
	for name, u := range f.units {
		m[strings.TrimSuffix(name, path.Ext(name))] = u.Desired
	}
	return m
}

func (f *smallFleet) Rebalance(context.Context, int) (api.Rebalance, error) {
	return api.Rebalance{}, nil
}

func (f *smallFleet) OrderRebalance(context.Context, api.RebalanceOrder) error { return nil }

func (f *smallFleet) Locks(context.Context) ([]api.Lock, error) { return []api.Lock{}, nil }

func (f *smallFleet) OrderLock(context.Context, string, string, api.LockOrder) error { return nil }

// Update tells the next of what there is, and of the last again and again.
func (f *smallFleet) Update(context.Context) (api.Update, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.updates) == 0 {
		return api.Update{}, nil
	}
	u := f.updates[0]
	if len(f.updates) > 1 {
		f.updates = f.updates[1:]
	}
	return u, nil
}

func (f *smallFleet) OrderUpdate(context.Context, string, api.UpdateOrder) error { return nil }

// OrderHost makes a host drained at once.
func (f *smallFleet) OrderHost(_ context.Context, id string, order api.HostOrder) (api.Outcome, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.orders == nil {
		f.orders = map[string]string{}
	}
	if f.orders[id] == order.Order {
		return api.Unchanged, nil
	}
	f.orders[id] = order.Order
	return api.Changed, nil
}
