package apply

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/cluster/plan"
	"github.com/musterhq/muster/providers"
	"github.com/musterhq/muster/providers/fake"
)

// A cluster works before its clouds list its hosts. Running `up` again in between makes no others.
func TestHiddenMembersAreNotReplaced(t *testing.T) {
	w := newWorld(t, 3, fake.Faults{LateListing: 400 * time.Millisecond}, true).withHosts()
	for range 2 {
		if _, err := w.up(Options{}); err != nil {
			t.Fatal(err)
		}
		w.assertFormed()
	}
	if diff := cmp.Diff([]string{"node-1/1@a", "node-2/1@b", "node-3/1@a"}, w.servers()); diff != "" {
		t.Error(diff)
	}
	_ = providers.Pause(t.Context(), w.hidden())
	w.mustUp(Options{})
	w.assertNoSecretsLeft()
	w.assertSecondRunChangesNothing()
}

// What no list shows is ended all the same, although nothing waits for the lists.
func TestDownEndsWhatNoListShows(t *testing.T) {
	for _, verb := range []string{"down", "up with fewer hosts"} {
		t.Run(verb, func(t *testing.T) {
			w := newWorld(t, 3, fake.Faults{LateListing: time.Hour}, true)
			w.mustUp(Options{NoWait: true})
			deps := w.deps(nil)
			for name, p := range deps.Providers {
				deps.Providers[name] = providers.Decorate(p, func(ctx context.Context, c providers.Call, next func(context.Context) error) error {
					if c.Op == providers.OpCleanup {
						return nil // would wait for the lists
					}
					return next(ctx)
				})
			}
			if verb == "down" {
				if _, err := Down(t.Context(), deps, Options{Confirm: agree}); err != nil {
					t.Fatal(err)
				}
				w.assertNothing()
				return
			}
			deps.Spec = clusterFile(1, 0)
			result, err := Up(t.Context(), deps, Options{NoWait: true, Confirm: agree})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{"node-1/1@a"}, w.servers()); diff != "" {
				t.Errorf("%s\n%+v", diff, result.Plan.Of(plan.Destroy))
			}
		})
	}
}

// What was asked for long ago and never listed was never made: nobody asks for it again to end it.
func TestOldRequestsAreForgotten(t *testing.T) {
	w := newWorld(t, 2, fake.Faults{}, true)
	b := crashAt(w, "before create node-2")
	w.state = b.kept
	servers := w.servers()
	w.now = func() time.Time { return time.Now().Add(2 * maxHidden) }
	before := w.calls()
	w.mustDown()
	w.assertNothing()
	if n := w.calls() - before; n > len(servers) {
		t.Errorf("%d calls to end %v", n, servers)
	}
}
