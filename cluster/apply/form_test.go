package apply

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/cluster/plan"
	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/spec"
	"github.com/musterhq/muster/cluster/state"
	"github.com/musterhq/muster/providers"
	"github.com/musterhq/muster/providers/fake"
)

var units = []spec.Unit{
	{Name: "web@.service", Content: []byte("[Service]\n"), Desired: "inactive"},
	{Name: "web@1.service", Content: []byte("[Service]\n"), Desired: "launched"},
}

// newCluster is a world with hosts that boot, not formed yet.
func newCluster(t *testing.T, hosts int) *world {
	t.Helper()
	w := newWorld(t, hosts, fake.Faults{}, true).withHosts()
	w.spec.Units = units
	return w
}

func (w *world) assertFormed() {
	w.t.Helper()
	w.assertExactlyWanted()
	status, err := w.fleet.Status(w.t.Context())
	if err != nil {
		w.t.Fatalf("the cluster has not formed: %v\n%s", err, w.events)
	}
	var names []string
	for _, h := range status.Hosts {
		if h.State != stateReady {
			w.t.Errorf("%s is %s", h.Host.Name, h.State)
		}
		names = append(names, h.Host.Name+"@"+h.Host.Provider)
	}
	slices.Sort(names)
	if diff := cmp.Diff(w.wanted(), names); diff != "" {
		w.t.Errorf("members:\n%s", diff)
	}
	if len(w.hosts.refused) > 0 {
		w.t.Errorf("refused: %v", w.hosts.refused)
	}
	if len(w.fleet.units) != len(w.spec.Units) {
		w.t.Errorf("units: %v", w.fleet.units)
	}
}

// assertOneMembership checks that all first members were told the same.
func (w *world) assertOneMembership() {
	w.t.Helper()
	w.hosts.mu.Lock()
	defer w.hosts.mu.Unlock()
	tokens := make(map[string]int)
	for id, reply := range w.hosts.replies {
		if diff := cmp.Diff(w.fleet.first, reply.Roster); diff != "" {
			w.t.Errorf("%s was told another roster:\n%s", id, diff)
		}
		self, _ := reply.Roster.ByID(id)
		if (reply.Voter != nil) != self.Voter {
			w.t.Errorf("%s was told the wrong role", self.Name)
		}
		if reply.Voter != nil {
			tokens[fmt.Sprint(reply.Voter.ClusterToken, reply.Voter.InitialCluster)]++
		}
	}
	if len(tokens) != 1 {
		w.t.Errorf("%d different first memberships", len(tokens))
	}
}

// secrets are the join tokens of every host that booted.
func (w *world) secrets() []string {
	w.t.Helper()
	var tokens []string
	for _, data := range w.hosts.data {
		cfg, err := configOf([]byte(data))
		if err != nil {
			w.t.Fatal(err)
		}
		tokens = append(tokens, cfg.Token)
	}
	return tokens
}

func TestFormsFromNothing(t *testing.T) {
	w := newCluster(t, 5)
	result, err := w.up(Options{})
	if err != nil {
		t.Fatalf("%v\n%s", err, w.events)
	}
	w.assertFormed()
	w.assertOneMembership()
	if len(result.Members) != 5 || result.UnitsChanged != 2 || len(w.fleet.first.Voters()) != 3 {
		t.Errorf("result %+v, first voters %v", result, w.fleet.first.Voters())
	}
	for _, h := range w.fleet.first {
		if h.Labels["role"] != "web" || h.Ports != roster.DefaultPorts() {
			t.Errorf("member %+v", h)
		}
	}
	w.assertNoSecretsLeft()
	w.assertSecondRunChangesNothing()
	w.mustDown()
	w.assertNothing()
}

// assertNoSecretsLeft checks that a settled state directory and what was reported hold no join token.
func (w *world) assertNoSecretsLeft() {
	w.t.Helper()
	files, err := filepath.Glob(filepath.Join(w.state, "demo", "*"))
	if err != nil {
		w.t.Fatal(err)
	}
	shown := w.events.String()
	for _, name := range files {
		content, err := os.ReadFile(name)
		if err != nil {
			w.t.Fatal(err)
		}
		shown += string(content)
	}
	for _, secret := range w.secrets() {
		if strings.Contains(shown, secret) {
			w.t.Error("a join token is left in the state directory or was reported")
		}
	}
	if strings.Contains(shown, "user_data") {
		w.t.Error("user-data is left in the journal")
	}
	if _, err := os.Stat(filepath.Join(w.state, "demo", "tokens.json")); err == nil {
		w.t.Error("the operator's tokens are left")
	}
}

func (w *world) assertSecondRunChangesNothing() {
	w.t.Helper()
	calls, changes := w.calls(), len(w.fleet.log())
	result, err := w.up(Options{Confirm: func(context.Context, plan.Plan) (bool, error) {
		w.t.Error("the second run asks for confirmation")
		return false, nil
	}})
	if err != nil {
		w.t.Fatal(err)
	}
	if n := w.calls() - calls; n > 0 || len(result.Plan.Changes()) > 0 || result.UnitsChanged > 0 {
		w.t.Errorf("the second run made %d calls: %+v", n, result.Plan.Changes())
	}
	if more := w.fleet.log()[changes:]; len(more) > 0 {
		w.t.Errorf("the second run changed the cluster: %v", more)
	}
}

// TestCrashWhileForming ends a run that makes and forms a cluster at every crash point. The next one brings it to its
// end: nobody is told two memberships, and no host is made twice.
func TestCrashWhileForming(t *testing.T) {
	whole := newCluster(t, 4)
	counter := newBomb(-1, whole)
	if _, err := Up(t.Context(), whole.deps(counter), Options{CrashPoint: counter.point}); err != nil {
		t.Fatal(err)
	}
	points := int(counter.points.Load())
	if points < 60 {
		t.Errorf("only %d crash points", points)
	}
	for n := 1; n <= points; n++ {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			w := newCluster(t, 4)
			b := newBomb(n, w)
			_, _ = Up(t.Context(), w.deps(b), Options{CrashPoint: b.point, Timeout: 200 * time.Millisecond})
			if b.err != nil {
				t.Fatal(b.err)
			}
			if b.dead {
				w.state = b.kept
			}
			if n%5 == 0 {
				w.mustDown()
				w.assertNothing()
				return
			}
			if _, err := w.up(Options{Timeout: 20 * time.Second}); err != nil {
				t.Fatalf("point %d, %s: %v\n%s", n, b.where, err, w.events)
			}
			w.assertFormed()
			w.assertOneMembership()
			w.assertNoSecretsLeft()
			w.assertSecondRunChangesNothing()
			if t.Failed() {
				t.Logf("point %d, %s\n%s", n, b.where, w.events)
			}
		})
	}
}

func formed(t *testing.T, hosts int) *world {
	t.Helper()
	w := newCluster(t, hosts)
	if _, err := w.up(Options{}); err != nil {
		t.Fatalf("%v\n%s", err, w.events)
	}
	w.assertFormed()
	return w
}

func TestGrows(t *testing.T) {
	w := formed(t, 3)
	w.spec = clusterFile(5, 0)
	w.spec.Units = units
	before := len(w.fleet.log())
	if _, err := w.up(Options{}); err != nil {
		t.Fatal(err)
	}
	w.assertFormed()
	calls := w.fleet.log()[before:]
	slices.Sort(calls)
	if diff := cmp.Diff([]string{"token node-4", "token node-5"}, calls); diff != "" {
		t.Error(diff)
	}
	for id, data := range w.hosts.data {
		cfg, err := configOf([]byte(data))
		if err != nil {
			t.Fatal(err)
		}
		if _, first := w.fleet.first.ByID(id); first == (len(cfg.Endpoints) > 0) {
			t.Errorf("%s has endpoints %v", cfg.Host, cfg.Endpoints)
		}
		if len(cfg.Endpoints) > 0 && len(cfg.Endpoints) != 3 {
			t.Errorf("%s knows %v, want the three voters", cfg.Host, cfg.Endpoints)
		}
	}
	w.assertNoSecretsLeft()
	w.assertSecondRunChangesNothing()
}

func TestShrinks(t *testing.T) {
	w := formed(t, 4)
	w.spec = clusterFile(2, 0)
	w.spec.Units = units
	before := len(w.fleet.log())
	result, err := w.up(Options{})
	if err != nil {
		t.Fatal(err)
	}
	w.assertFormed()
	calls := w.fleet.log()[before:]
	if diff := cmp.Diff([]string{"seat node-2 false", "remove node-3", "remove node-4"}, calls); diff != "" {
		t.Error(diff)
	}
	for _, a := range result.Plan.Destroys() {
		if a.Host == "node-3" && !strings.Contains(a.Reason, "a voter leaves") {
			t.Errorf("reason %q does not say that a voter leaves", a.Reason)
		}
	}
	w.assertSecondRunChangesNothing()
	w.spec = clusterFile(1, 0)
	w.spec.Units = units
	if _, err := w.up(Options{}); err != nil {
		t.Fatal(err)
	}
	w.assertFormed()
}

// A voter's instance is ended only when the other voters have gone on without it.
func TestVoterLeavesBeforeItsInstanceEnds(t *testing.T) {
	w := formed(t, 3)
	w.spec = clusterFile(2, 0)
	w.spec.Units = units
	deps := w.deps(nil)
	for name, p := range deps.Providers {
		deps.Providers[name] = providers.Decorate(p, func(ctx context.Context, c providers.Call, next func(context.Context) error) error {
			if c.Op == providers.OpDestroy {
				w.fleet.mu.Lock()
				if looks := w.fleet.slowQuit[c.Identity.ID()]; looks > 0 {
					t.Errorf("%s ends while the voters still count it", c)
				}
				w.fleet.mu.Unlock()
			}
			return next(ctx)
		})
	}
	if _, err := Up(t.Context(), deps, Options{Confirm: agree}); err != nil {
		t.Fatal(err)
	}
	w.assertFormed()
}

func TestReplacesFailedVoter(t *testing.T) {
	w := formed(t, 3)
	w.harm("node-2", providers.StateFailed)
	w.fleet.gone(providers.Identity{Cluster: w.cluster(), Host: "node-2", Generation: 1}.ID())
	before := len(w.fleet.log())
	if _, err := w.up(Options{}); err != nil {
		t.Fatal(err)
	}
	w.assertFormed()
	if diff := cmp.Diff([]string{"remove node-2", "token node-2"}, w.fleet.log()[before:]); diff != "" {
		t.Error(diff)
	}
	if got := w.servers(); !slices.Contains(got, "node-2/2@b") {
		t.Errorf("there are %v", got)
	}
	w.assertSecondRunChangesNothing()
}

func (w *world) cluster() string {
	w.t.Helper()
	r, err := state.OpenReader(w.state, "demo")
	if err != nil {
		w.t.Fatal(err)
	}
	return r.Cluster().ID
}

func TestRelabels(t *testing.T) {
	w := formed(t, 3)
	w.spec.Groups[0].Labels = map[string]string{"role": "db"}
	before := len(w.fleet.log())
	if _, err := w.up(Options{}); err != nil {
		t.Fatal(err)
	}
	calls := w.fleet.log()[before:]
	slices.Sort(calls)
	if diff := cmp.Diff([]string{"relabel node-1", "relabel node-2", "relabel node-3"}, calls); diff != "" {
		t.Error(diff)
	}
	w.assertSecondRunChangesNothing()
}

// TestKeepsRunLabels: what was set while hosts ran stays, and only what the cluster file says otherwise is changed.
func TestKeepsRunLabels(t *testing.T) {
	w := formed(t, 3)
	id := func(host string) string {
		return providers.Identity{Cluster: w.cluster(), Host: host, Generation: 1}.ID()
	}
	w.fleet.patch(id("node-1"), map[string]*string{"disk": new("ssd")})
	w.fleet.patch(id("node-2"), map[string]*string{"disk": new("ssd"), "role": new("db")})
	before := len(w.fleet.log())
	if _, err := w.up(Options{}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"relabel node-2"}, w.fleet.log()[before:]); diff != "" {
		t.Error(diff)
	}
	for _, host := range []string{"node-1", "node-2"} {
		h := w.fleet.member(id(host))
		if diff := cmp.Diff(map[string]string{"role": "web", "disk": "ssd"}, h.Labels); diff != "" || !slices.Equal(h.RunLabels, []string{"disk"}) {
			t.Errorf("%s: %v %s", host, h.RunLabels, diff)
		}
	}
	w.assertSecondRunChangesNothing()
}

// All hosts of a cluster were powered off: it cannot be asked before they are started.
func TestWakesSleepingCluster(t *testing.T) {
	w := formed(t, 3)
	for _, host := range []string{"node-1", "node-2", "node-3"} {
		w.harm(host, providers.StateStopped)
		w.fleet.gone(providers.Identity{Cluster: w.cluster(), Host: host, Generation: 1}.ID())
	}
	if _, err := w.up(Options{}); err != nil {
		t.Fatal(err)
	}
	w.assertFormed()
	w.assertSecondRunChangesNothing()
}

func TestUnreachableClusterIsLeftAlone(t *testing.T) {
	w := formed(t, 3)
	w.fleet.deaf = true
	w.spec = clusterFile(5, 0)
	before := w.calls()
	_, err := w.up(Options{Timeout: 50 * time.Millisecond})
	if !errors.Is(err, ErrUnreachable) {
		t.Errorf("error %v", err)
	}
	if n := w.calls() - before; n > 0 {
		t.Errorf("%d calls were made on half a view", n)
	}
}
