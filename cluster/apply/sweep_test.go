package apply

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/musterhq/muster/providers"
	"github.com/musterhq/muster/providers/fake"
)

// faultModes are the clouds in which every crash point is tried.
var faultModes = []struct {
	name   string
	faults fake.Faults
	tokens bool
}{
	{"nothing goes wrong", fake.Faults{}, true},
	{"look before and after", fake.Faults{}, false},
	{"lost answers", fake.Faults{LoseAnswerEvery: 2}, true},
	{"lost answers, look before and after", fake.Faults{LoseAnswerEvery: 2}, false},
	{"late listing", fake.Faults{LateListing: 40 * time.Millisecond}, true},
	{"late listing, look before and after", fake.Faults{LateListing: 20 * time.Millisecond}, false},
	{"throttled", fake.Faults{ThrottleEvery: 3, UnavailableEvery: 7}, true},
	{"quota of just what is wanted", fake.Faults{Quota: 2}, true},
	{"half-tagged", fake.Faults{TwoStepTags: true, TagFailureEvery: 2}, true},
	{"half-tagged, look before and after", fake.Faults{TwoStepTags: true, TagFailureEvery: 2, LoseAnswerEvery: 3}, false},
}

// history is what a sweep begins with and then wants.
type history struct {
	name string
	from int // hosts of the first cluster file, 0 for none
	to   int
	harm bool // one instance fails and one is stopped in between
}

var histories = []history{
	{"from nothing", 0, 3, false},
	{"grow and mend", 3, 4, true},
	{"shrink", 4, 2, false},
}

// TestCrashSweep ends `up` at every crash point, in every kind of cloud. Then another run makes exactly the hosts that
// are wanted and one more changes nothing, or `down` leaves nothing behind.
func TestCrashSweep(t *testing.T) {
	for _, mode := range faultModes {
		for _, h := range histories {
			if mode.faults.Quota > 0 && h.from > 0 {
				continue // the quota is for the hosts of the first history
			}
			t.Run(mode.name+"/"+h.name, func(t *testing.T) {
				t.Parallel()
				points := sweep(t, func(t *testing.T) *world {
					w := newWorld(t, h.to, mode.faults, mode.tokens)
					w.prepare(h)
					return w
				})
				if points < 20 {
					t.Errorf("only %d crash points", points)
				}
			})
		}
	}
}

// prepare makes the cluster that the sweep begins with.
func (w *world) prepare(h history) {
	w.t.Helper()
	if h.from == 0 {
		return
	}
	w.spec = clusterFile(h.from, 0)
	w.settleProvisioning()
	if h.harm {
		w.harm("node-1", providers.StateFailed)
		w.harm("node-2", providers.StateStopped)
	}
	w.spec = clusterFile(h.to, 0)
}

// settleProvisioning makes the hosts and waits until the clouds hide nothing any more.
func (w *world) settleProvisioning() {
	w.t.Helper()
	w.mustUp(Options{NoWait: true})
	_ = providers.Pause(w.t.Context(), w.hidden())
	w.mustUp(Options{NoWait: true})
}

// hidden is the time for which the clouds' lists hide new servers.
func (w *world) hidden() time.Duration { return w.faults.LateListing }

// harm changes the state of a host's newest server behind muster's back.
func (w *world) harm(host string, to providers.State) {
	w.t.Helper()
	for _, p := range w.clouds {
		servers, err := p.Servers(w.t.Context())
		if err != nil {
			w.t.Fatal(err)
		}
		for _, s := range servers {
			if s.Tags[providers.TagHost] == host {
				if err := p.SetState(w.t.Context(), s.ID, to); err != nil {
					w.t.Fatal(err)
				}
				return
			}
		}
	}
	w.t.Fatalf("no server of %s", host)
}

// sweep crashes at every point, once to go on and once to take everything down. It returns how many points there are.
func sweep(t *testing.T, prepare func(*testing.T) *world) int {
	for n := 1; ; n++ {
		for _, down := range []bool{false, true} {
			w := prepare(t)
			b := newBomb(n, w)
			_, err := Up(t.Context(), w.deps(b), Options{NoWait: true, Confirm: agree, CrashPoint: b.point})
			if !b.dead {
				return n - 1 // everything is done before the nth point
			}
			if b.err != nil {
				t.Fatal(b.err)
			}
			if err != nil && !errors.Is(err, errCrashed) && !providers.Retryable(err) {
				t.Logf("point %d, %s: %v", n, b.where, err)
			}
			w.state = b.kept
			if down {
				w.mustDown()
				w.assertNothing()
			} else {
				w.assertResumes(fmt.Sprintf("point %d, %s", n, b.where))
			}
			if t.Failed() {
				t.Fatalf("at point %d, %s\n%s", n, b.where, w.events)
			}
		}
	}
}

// assertResumes goes on after a crash and checks S3: exactly the hosts that are wanted, and then no change.
func (w *world) assertResumes(where string) {
	w.t.Helper()
	w.mustUp(Options{NoWait: true})
	w.assertExactlyWanted()
	if err := providers.Pause(w.t.Context(), w.hidden()); err != nil {
		w.t.Fatal(err)
	}
	before := w.calls()
	result := w.mustUp(Options{NoWait: true})
	if n := w.calls() - before; n > 0 || len(result.Plan.Changes()) > 0 {
		w.t.Errorf("%s: the second run made %d calls that change something: %+v", where, n, result.Plan.Changes())
	}
	w.assertExactlyWanted()
}
