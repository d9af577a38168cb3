package apply

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/cluster/plan"
	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/state"
	"github.com/musterhq/muster/providers"
	"github.com/musterhq/muster/providers/fake"
)

// stop is a process that stops hosts, to which the operator agrees.
func (w *world) stop(force bool, hosts ...string) error {
	w.t.Helper()
	_, err := Stop(w.t.Context(), w.deps(nil), hosts, force, Options{Confirm: agree})
	return err
}

// stopped are the hosts that are powered off.
func (w *world) stopped() []string {
	w.t.Helper()
	var hosts []string
	for _, p := range w.clouds {
		list, err := p.List(w.t.Context(), w.cluster())
		if err != nil {
			w.t.Fatal(err)
		}
		for _, i := range list {
			if i.State == providers.StateStopped {
				hosts = append(hosts, i.Host)
			}
		}
	}
	slices.Sort(hosts)
	return hosts
}

func (w *world) assertStopped(want ...string) {
	w.t.Helper()
	if got := w.stopped(); !slices.Equal(got, want) {
		w.t.Fatalf("stopped are %v, want %v", got, want)
	}
}

// TestStoppedHostIsStartedAgain stops one voter of three, and lets Start and Up bring it back.
func TestStoppedHostIsStartedAgain(t *testing.T) {
	w := formed(t, 3)
	for _, back := range []func() error{
		func() error {
			_, err := Start(t.Context(), w.deps(nil), []string{"node-2"}, Options{})
			return err
		},
		func() error {
			_, err := w.up(Options{})
			return err
		},
	} {
		if err := w.stop(false, "node-2"); err != nil {
			t.Fatal(err)
		}
		w.assertStopped("node-2")
		if err := back(); err != nil {
			t.Fatal(err)
		}
		w.assertStopped()
		w.assertFormed()
	}
	w.assertSecondRunChangesNothing()
}

// TestStopKeepsQuorum refuses what would leave one voter of three, whoever is stopped already, and does it by force.
func TestStopKeepsQuorum(t *testing.T) {
	w := formed(t, 3)
	err := w.stop(false, "node-1", "node-3")
	if !errors.Is(err, ErrNoQuorum) || !strings.Contains(err.Error(), "1 of 3 would remain without node-1, node-3, 2 are needed") {
		t.Fatalf("%v", err)
	}
	w.assertStopped()
	if err := w.stop(false, "node-1"); err != nil {
		t.Fatal(err)
	}
	// Its lease has not ended: the cluster believes that it works.
	w.fleet.joinFirst(providers.Identity{Cluster: w.cluster(), Host: "node-1", Generation: 1}.ID(), nil)
	if err := w.stop(false, "node-2"); !errors.Is(err, ErrNoQuorum) {
		t.Fatalf("%v", err)
	}
	w.assertStopped("node-1")
	if err := w.stop(true, "node-1", "node-2", "node-3"); err != nil {
		t.Fatal(err)
	}
	w.assertStopped("node-1", "node-2", "node-3")
	if _, err := w.up(Options{}); err != nil {
		t.Fatal(err)
	}
	w.assertFormed()
}

// TestStopWhenNobodyAnswers refuses voters, as last seen, and no others.
func TestStopWhenNobodyAnswers(t *testing.T) {
	w := formed(t, 4)
	w.fleet.deaf = true
	members := w.fleet.members
	var voter, other string
	for _, h := range members {
		if h.Voter {
			voter = h.Name
		} else {
			other = h.Name
		}
	}
	if err := w.stop(false, voter); !errors.Is(err, ErrNoQuorum) || !strings.Contains(err.Error(), errDeaf.Error()) {
		t.Fatalf("%v", err)
	}
	if err := w.stop(false, other); err != nil {
		t.Fatal(err)
	}
	w.assertStopped(other)
}

func TestNothingIsStoppedUnconfirmed(t *testing.T) {
	w := formed(t, 3)
	refuse := func(context.Context, plan.Plan) (bool, error) { return false, nil }
	for _, o := range []Options{{}, {Confirm: refuse}} {
		if _, err := Stop(t.Context(), w.deps(nil), []string{"node-1"}, false, o); !errors.Is(err, ErrNotConfirmed) {
			t.Errorf("%v", err)
		}
	}
	w.assertStopped()
}

// TestStopTellsWhatItLeadsTo asks about what changes alone.
func TestStopTellsWhatItLeadsTo(t *testing.T) {
	w := formed(t, 3)
	w.harm("node-1", providers.StateStopped)
	var asked []plan.Action
	confirm := func(_ context.Context, p plan.Plan) (bool, error) {
		asked = p.Changes()
		return true, nil
	}
	p, err := Stop(t.Context(), w.deps(nil), []string{"node-1", "node-2"}, true, Options{Confirm: confirm})
	if err != nil || len(p.Actions) != 2 || p.Actions[0].Kind != plan.Keep || p.Actions[0].Reason != "is stopped already" {
		t.Errorf("%+v, %v", p, err)
	}
	const want = "its units move when its lease (5s) ends; a voter: 1 of 3 remain"
	if len(asked) != 1 || asked[0].Host != "node-2" || !asked[0].Voter || asked[0].Reason != want {
		t.Errorf("asked about %+v", asked)
	}
	w.assertStopped("node-1", "node-2")
	asked = nil
	if _, err := Stop(t.Context(), w.deps(nil), []string{"node-1", "node-2"}, false, Options{Confirm: confirm}); err != nil || asked != nil {
		t.Errorf("again: asked about %+v, %v", asked, err)
	}
}

// TestStopOfPart stops what can be stopped.
func TestStopOfPart(t *testing.T) {
	w := newWorld(t, 3, fake.Faults{}, true)
	w.mustUp(Options{NoWait: true})
	w.harm("node-2", providers.StateFailed)
	var part *PartialError
	if err := w.stop(false, "node-1", "node-2"); !errors.As(err, &part) || len(part.Failed) != 1 || part.Failed[0].Phase != PhaseStop {
		t.Errorf("%v", err)
	}
	w.assertStopped("node-1")
}

// TestCrashWhileStopping ends a stop at every point, and stops again.
func TestCrashWhileStopping(t *testing.T) {
	for n := 1; ; n++ {
		w := newWorld(t, 2, fake.Faults{}, true)
		w.mustUp(Options{NoWait: true})
		b := newBomb(n, w)
		_, err := Stop(t.Context(), w.deps(b), []string{"node-1"}, false, Options{Confirm: agree, CrashPoint: b.point})
		if !b.dead {
			if n < 4 || err != nil {
				t.Errorf("%d points: %v", n-1, err)
			}
			return
		}
		if err := w.stop(false, "node-1"); err != nil {
			t.Fatalf("after a crash %s: %v", b.where, err)
		}
		w.assertStopped("node-1")
	}
}

// TestStopNeedsHosts has the mistakes that are found before anything is done.
func TestStopNeedsHosts(t *testing.T) {
	w := newWorld(t, 2, fake.Faults{}, true)
	if err := w.stop(false, "node-1"); !errors.Is(err, state.ErrNoCluster) {
		t.Errorf("no cluster: %v", err)
	}
	w.mustUp(Options{NoWait: true})
	w.spec = clusterFile(3, 0)
	if err := w.stop(false, "node-1", "node-3"); err == nil || !strings.Contains(err.Error(), "node-3 has not been made yet") {
		t.Errorf("host to come: %v", err)
	}
	w.assertStopped()
	dir, err := state.Open(w.state, "demo", time.Now)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = dir.Close() }()
	var locked *state.LockedError
	if err := w.stop(false, "node-1"); !errors.As(err, &locked) {
		t.Errorf("beside another: %v", err)
	}
}

// TestQuorumOf names voters by their state, and those that stop with a !.
func TestQuorumOf(t *testing.T) {
	for _, tt := range []struct {
		hosts   string
		healthy int
		off     string
		refused bool
	}{
		{"a=ready b=ready c=ready", 3, "", false},
		{"a!=ready b=ready c=ready", 3, "", false},
		{"a!=ready b!=ready c=ready", 3, "", true},
		{"a!=ready b=ready c=ready", 3, "b", true},
		{"a!=ready b=ready c=lost", 2, "", true},
		{"a=ready b=ready c!=lost", 2, "", false},
		{"a!=lost b=lost c=ready", 1, "", false}, // takes nothing away
		{"a!=ready b=ready c=joining", 3, "", true},
		{"a!=ready b=ready c=ready", 2, "", false},
		{"a!=ready b=ready c=ready", 1, "", true},
		{"a!=ready", 1, "", true},
		{"a!=ready b!=ready c=ready d=ready e=ready", 5, "", false},
	} {
		var s FleetStatus
		var p plan.Plan
		s.Voters.Healthy = tt.healthy
		off := map[string]bool{tt.off: true}
		for field := range strings.FieldsSeq(tt.hosts) {
			name, is, _ := strings.Cut(field, "=")
			name, stops := strings.CutSuffix(name, "!")
			s.Hosts = append(s.Hosts, FleetHost{Host: roster.Host{ID: name, Name: name, Voter: true}, State: is})
			s.Voters.Total++
			if off[name] = off[name] || stops; stops {
				p.Actions = append(p.Actions, plan.Action{Kind: plan.Stop, ID: name, Host: name})
			}
		}
		if err := quorumOf(s, off, p).check(); errors.Is(err, ErrNoQuorum) != tt.refused {
			t.Errorf("%s, %d healthy, %q off: %v", tt.hosts, tt.healthy, tt.off, err)
		}
	}
}
