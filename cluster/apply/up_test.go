package apply

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/cluster/plan"
	"github.com/musterhq/muster/cluster/spec"
	"github.com/musterhq/muster/cluster/state"
	"github.com/musterhq/muster/providers"
	"github.com/musterhq/muster/providers/fake"
)

func TestProviderThatCannotBeListedStopsEverything(t *testing.T) {
	w := newWorld(t, 3, fake.Faults{}, true)
	w.down["b"] = providers.ErrAuth
	_, err := w.up(Options{NoWait: true})
	if !errors.Is(err, providers.ErrAuth) || !strings.Contains(err.Error(), "provider b") {
		t.Errorf("error %v", err)
	}
	w.down["b"] = nil
	w.mustUp(Options{NoWait: true})
	before := w.calls()
	w.down["b"] = providers.ErrAuth
	if _, err := Down(t.Context(), w.deps(nil), Options{Confirm: agree}); !errors.Is(err, providers.ErrAuth) {
		t.Errorf("error %v", err)
	}
	if n := w.calls() - before; n > 0 {
		t.Errorf("%d calls on half a view", n)
	}
}

func TestNothingIsDestroyedUnconfirmed(t *testing.T) {
	w := newWorld(t, 3, fake.Faults{}, true)
	w.mustUp(Options{NoWait: true})
	w.mustUp(Options{NoWait: true})
	w.spec = clusterFile(2, 0)
	before := w.calls()
	refuse := func(context.Context, plan.Plan) (bool, error) { return false, nil }
	for _, o := range []Options{{NoWait: true}, {NoWait: true, Confirm: refuse}} {
		if _, err := Up(t.Context(), w.deps(nil), o); !errors.Is(err, ErrNotConfirmed) {
			t.Errorf("up: %v", err)
		}
		if _, err := Down(t.Context(), w.deps(nil), o); !errors.Is(err, ErrNotConfirmed) {
			t.Errorf("down: %v", err)
		}
	}
	if n := w.calls() - before; n > 0 {
		t.Errorf("%d calls", n)
	}
}

func TestOneWriter(t *testing.T) {
	w := newWorld(t, 1, fake.Faults{}, true)
	dir, err := state.Create(w.state, "demo", time.Now)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = dir.Close() }()
	var locked *state.LockedError
	if _, err := w.up(Options{NoWait: true}); !errors.As(err, &locked) {
		t.Errorf("up: %v", err)
	}
	if _, err := Down(t.Context(), w.deps(nil), Options{}); !errors.As(err, &locked) {
		t.Errorf("down: %v", err)
	}
}

func TestDownWithoutCluster(t *testing.T) {
	w := newWorld(t, 1, fake.Faults{}, true)
	if _, err := Down(t.Context(), w.deps(nil), Options{}); !errors.Is(err, state.ErrNoCluster) {
		t.Errorf("down: %v", err)
	}
}

// One host's failure does not stop the others.
func TestPartialFailure(t *testing.T) {
	w := newWorld(t, 5, fake.Faults{Quota: 2}, true)
	_, err := w.up(Options{NoWait: true})
	var partial *PartialError
	if !errors.As(err, &partial) || len(partial.Failed) != 1 || partial.Total != 5 {
		t.Fatalf("error %v", err)
	}
	failed := partial.Failed[0]
	if failed.Phase != PhaseCreate || !errors.Is(err, providers.ErrQuota) || failed.Provider != "a" {
		t.Errorf("failed: %+v", failed)
	}
	if n := len(w.servers()); n != 4 {
		t.Errorf("%d servers", n)
	}
}

func TestTotalFailureIsNotPartial(t *testing.T) {
	w := newWorld(t, 2, fake.Faults{}, true)
	deps := w.deps(nil)
	for name, p := range deps.Providers {
		deps.Providers[name] = providers.Faults(p, providers.FaultEvery(1, providers.Fault{}))
		deps.Providers[name] = providers.Decorate(p, func(ctx context.Context, c providers.Call, next func(context.Context) error) error {
			if c.Op == providers.OpCreate {
				return providers.ErrQuota
			}
			return next(ctx)
		})
	}
	_, err := Up(t.Context(), deps, Options{NoWait: true})
	var partial *PartialError
	if err == nil || errors.As(err, &partial) || !errors.Is(err, providers.ErrQuota) {
		t.Errorf("error %v", err)
	}
}

// A cluster whose voters cannot all be made does not form; the next run, which can make them, forms it.
func TestFormsWhenTheMissingVoterComes(t *testing.T) {
	w := newCluster(t, 3)
	refuse := true
	deps := func() Deps {
		d := w.deps(nil)
		d.Providers["b"] = providers.Decorate(d.Providers["b"], func(ctx context.Context, c providers.Call, next func(context.Context) error) error {
			if c.Op == providers.OpCreate && refuse {
				return providers.ErrQuota
			}
			return next(ctx)
		})
		return d
	}
	_, err := Up(t.Context(), deps(), Options{})
	var partial *PartialError
	if err == nil || errors.As(err, &partial) || !strings.Contains(err.Error(), "without its voters node-2") || !errors.Is(err, providers.ErrQuota) {
		t.Fatalf("error %v", err)
	}
	if w.fleet.first != nil {
		t.Error("hosts were told a membership without a voter")
	}
	refuse = false
	if _, err := Up(t.Context(), deps(), Options{}); err != nil {
		t.Fatal(err)
	}
	w.assertFormed()
	w.assertOneMembership()
}

func TestHostThatNeverBoots(t *testing.T) {
	w := newCluster(t, 4)
	w.hosts.dead["node-4"] = true
	_, err := w.up(Options{Timeout: 300 * time.Millisecond})
	var partial *PartialError
	var late *NotReadyError
	if !errors.As(err, &partial) || !errors.As(err, &late) || partial.Failed[0].Host != "node-4" || len(partial.Failed) != 1 {
		t.Fatalf("error %v", err)
	}
	if !strings.Contains(err.Error(), "not ready after 300ms") || !strings.Contains(err.Error(), "log") {
		t.Errorf("error does not help: %v", err)
	}
	if len(w.fleet.units) != 2 {
		t.Error("units were not submitted")
	}
	w.hosts.dead["node-4"] = false
	w.harm("node-4", providers.StateFailed)
	if _, err := w.up(Options{}); err != nil {
		t.Fatal(err)
	}
	w.assertFormed()
	w.assertNoSecretsLeft()
}

// A later host that never boots is reported, and the next run goes on waiting for it.
func TestLaterHostIsLate(t *testing.T) {
	w := formed(t, 3)
	w.hosts.dead["node-4"] = true
	w.spec = clusterFile(4, 0)
	w.spec.Units = units
	_, err := w.up(Options{Timeout: 200 * time.Millisecond})
	var partial *PartialError
	if !errors.As(err, &partial) || !strings.Contains(err.Error(), "it has not joined") {
		t.Fatalf("error %v", err)
	}
	w.hosts.dead["node-4"] = false
	w.harm("node-4", providers.StateFailed)
	if _, err := w.up(Options{}); err != nil {
		t.Fatal(err)
	}
	w.assertFormed()
}

// A host whose voter does not answer yet is waited for: who starts another meanwhile would lose the majority.
func TestWaitsForVoters(t *testing.T) {
	w := formed(t, 3)
	for id := range w.fleet.members {
		w.fleet.slowVote[id] = 1_000_000
		_, err := w.up(Options{Timeout: 200 * time.Millisecond})
		var late *NotReadyError
		if !errors.As(err, &late) || late.Last != stateVoterWaits {
			t.Fatalf("error %v", err)
		}
		w.fleet.slowVote[id] = 3
		if _, err := w.up(Options{}); err != nil {
			t.Fatal(err)
		}
		if w.fleet.slowVote[id] > 0 {
			t.Errorf("the voter of %s was not waited for", id)
		}
	}
}

// The voters of a first membership that was fixed and not told to anyone are lost: the cluster begins again.
func TestBeginsAgainWhenTheFirstMembershipIsLost(t *testing.T) {
	w := newCluster(t, 3)
	b := crashAt(w, "after journal bootstrap")
	w.state = b.kept
	w.lose("node-2")
	if _, err := w.up(Options{Timeout: 5 * time.Second}); err != nil {
		t.Fatalf("%v\n%s", err, w.events)
	}
	w.assertFormed()
	w.assertOneMembership()
	w.assertSecondRunChangesNothing()
}

// A run that does not wait brings back the members of a first membership that was fixed, and leaves forming to the next.
func TestNoWaitWhileAboutToForm(t *testing.T) {
	w := newCluster(t, 3)
	w.hosts.only = "node-1"
	b := crashAt(w, "after journal admitted")
	w.hosts.only = ""
	w.state = b.kept
	w.harm("node-2", providers.StateStopped)
	w.mustUp(Options{NoWait: true})
	w.assertStopped()
	if diff := cmp.Diff([]string{"node-1/1@a", "node-2/1@b", "node-3/1@a"}, w.servers()); diff != "" {
		t.Errorf("instances after a run without waiting:\n%s", diff)
	}
	w.mustUp(Options{Timeout: 5 * time.Second})
	w.assertFormed()
	w.assertOneMembership()
	w.assertSecondRunChangesNothing()
}

// One host was told a first membership that lost another voter: it is made again, as it could join no other.
func TestReplacesHostsThatWereToldTooMuch(t *testing.T) {
	w := newCluster(t, 3)
	w.hosts.only = "node-1"
	b := crashAt(w, "after journal admitted")
	w.hosts.only = ""
	w.state = b.kept
	w.lose("node-2")
	if _, err := w.up(Options{Timeout: 5 * time.Second}); err != nil {
		t.Fatalf("%v\n%s", err, w.events)
	}
	w.assertFormed()
	if diff := cmp.Diff([]string{"node-1/2@a", "node-2/1@b", "node-3/1@a"}, w.servers()); diff != "" {
		t.Errorf("node-1 was told, node-2 was lost:\n%s", diff)
	}
}

// crashAt ends a run when it comes to a crash point for the first time.
func crashAt(w *world, name string) *bomb {
	w.t.Helper()
	b := newBomb(1, w)
	ctx, end := context.WithCancel(w.t.Context()) // what a dead process would wait for is of no interest
	defer end()
	_, _ = Up(ctx, w.deps(b), Options{Timeout: 10 * time.Second, Confirm: agree, CrashPoint: func(at string) {
		if strings.HasPrefix(at, name) {
			b.point(at)
			end()
		}
	}})
	if !b.dead || b.err != nil {
		w.t.Fatalf("never came to %q: %v", name, b.err)
	}
	return b
}

// An instance whose end was begun is not kept when the cluster file wants its host again: how far the end came is not
// known.
func TestBegunDestroyIsFinished(t *testing.T) {
	w := newCluster(t, 3)
	w.mustUp(Options{NoWait: true})
	w.mustUp(Options{NoWait: true})
	w.spec = clusterFile(2, 0)
	b := crashAt(w, "before destroy node-3")
	w.state = b.kept
	w.spec = clusterFile(3, 0)
	w.mustUp(Options{NoWait: true})
	if diff := cmp.Diff([]string{"node-1/1@a", "node-2/1@b", "node-3/2@a"}, w.servers()); diff != "" {
		t.Error(diff)
	}
}

// lose ends a host's server behind muster's back.
func (w *world) lose(host string) {
	w.t.Helper()
	for name, p := range w.clouds {
		list, err := p.List(w.t.Context(), w.cluster())
		if err != nil {
			w.t.Fatal(err)
		}
		for _, i := range list {
			if i.Host == host {
				if err := w.hosts.at(name, p).Destroy(w.t.Context(), i); err != nil {
					w.t.Fatal(err)
				}
			}
		}
	}
}

// When enough voters may know the first membership, nothing of theirs is destroyed.
func TestDoesNotBeginAgainWhenTheClusterMayHaveFormed(t *testing.T) {
	w := newCluster(t, 3)
	b := crashAt(w, "before journal formed")
	w.state = b.kept
	w.lose("node-1")
	w.lose("node-2")
	before := w.calls()
	_, err := w.up(Options{Timeout: time.Second})
	if err == nil || !strings.Contains(err.Error(), "may have formed") {
		t.Errorf("error %v", err)
	}
	for _, s := range w.servers() {
		if strings.HasPrefix(s, "node-3/") {
			return
		}
	}
	t.Errorf("the last voter was destroyed, %d calls: %v", w.calls()-before, w.servers())
}

func TestPreviewChangesNothing(t *testing.T) {
	w := newCluster(t, 3)
	p, err := Preview(t.Context(), w.deps(nil))
	if err != nil || len(p.Of(plan.Create)) != 3 {
		t.Fatalf("plan %+v, %v", p, err)
	}
	if _, err := os.Stat(w.state); err == nil {
		t.Error("a plan made the state directory")
	}
	if _, err := w.up(Options{}); err != nil {
		t.Fatal(err)
	}
	journal := filepath.Join(w.state, "demo", "journal.jsonl")
	before, err := os.ReadFile(journal)
	if err != nil {
		t.Fatal(err)
	}
	w.harm("node-1", providers.StateStopped)
	w.spec = clusterFile(4, 0)
	calls := w.calls()
	p, err = Preview(t.Context(), w.deps(nil))
	if err != nil || len(p.Of(plan.Create)) != 1 || len(p.Of(plan.Start)) != 1 {
		t.Errorf("plan %+v, %v", p, err)
	}
	after, err := os.ReadFile(journal)
	if err != nil || string(before) != string(after) || w.calls() != calls {
		t.Errorf("the plan changed something: %v", err)
	}
	w.fleet.deaf = true
	p, err = Preview(t.Context(), w.deps(nil))
	if err != nil || !strings.Contains(strings.Join(p.Warnings, "\n"), "as last seen") {
		t.Errorf("warnings %v, %v", p.Warnings, err)
	}
}

// A provider leaves the cluster file only when it has no hosts.
func TestProviderWithHostsCannotBeDropped(t *testing.T) {
	w := newWorld(t, 2, fake.Faults{}, true)
	w.mustUp(Options{NoWait: true})
	w.mustUp(Options{NoWait: true})
	w.spec.Providers = w.spec.Providers[:1]
	w.spec.Groups[0].Providers = []string{"a"}
	if _, err := w.up(Options{NoWait: true}); err == nil || !strings.Contains(err.Error(), "provider b") {
		t.Errorf("up: %v", err)
	}
	if _, err := Down(t.Context(), w.deps(nil), Options{Confirm: agree}); err == nil || !strings.Contains(err.Error(), "provider b") {
		t.Errorf("down: %v", err)
	}
}

func TestSettingsAreCheckedFirst(t *testing.T) {
	w := newWorld(t, 2, fake.Faults{}, true)
	w.spec.Groups[0].Settings["b"] = &fake.Settings{Image: "missing", Size: "small"}
	_, err := w.up(Options{NoWait: true})
	if !errors.Is(err, providers.ErrNotFound) || !strings.Contains(err.Error(), "provider b") || len(w.servers()) > 0 {
		t.Errorf("error %v, servers %v", err, w.servers())
	}
}

func TestInterrupted(t *testing.T) {
	w := newCluster(t, 3)
	w.hosts.dead["node-1"], w.hosts.dead["node-2"] = true, true
	ctx, cancel := context.WithCancelCause(t.Context())
	errInterrupt := errors.New("interrupt")
	time.AfterFunc(50*time.Millisecond, func() { cancel(errInterrupt) })
	if _, err := Up(ctx, w.deps(nil), Options{}); !errors.Is(err, errInterrupt) {
		t.Errorf("error %v", err)
	}
}

func TestEmptyClusterFile(t *testing.T) {
	w := newWorld(t, 0, fake.Faults{}, true)
	w.spec.Groups = []spec.Group{}
	if _, err := w.up(Options{}); err != nil {
		t.Error(err)
	}
	w.mustDown()
	w.assertNothing()
}
