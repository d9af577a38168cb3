package vsphere

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/vmware/govmomi/simulator"

	"github.com/musterhq/muster/providers"
)

// TestCallsPerHost makes many hosts at once and counts: in the long run 200, of clones that take ten seconds each.
func TestCallsPerHost(t *testing.T) {
	if !long {
		scale(t, 40)
		return
	}
	simulator.TaskDelay.MethodDelay = map[string]int{"CloneVm": 10_000, "LockHandoff": 0}
	defer func() { simulator.TaskDelay.MethodDelay = nil }()
	scale(t, 200)
}

// The calls that one host takes of its own, beside one read of what was made: the search by UUID, the clone and the phase;
// with a rule also the power-on. To destroy it: search, power off, destroy, and one read.
const (
	createCalls      = 3
	createApartCalls = 4
	destroyCalls     = 3
	cleanupCalls     = 3 // folder and rule
)

// scale makes hosts at once and bounds the calls: each host's own, and those that all share, of which there are as many as
// seconds pass, and more at the beginning of a wait, when it may end soon.
func scale(t *testing.T, hosts int) {
	for name, each := range map[string]struct {
		affinity string
		calls    int
	}{"clones": {affinityOff, createCalls}, "apart": {affinityPreferred, createApartCalls}} {
		t.Run(name, func(t *testing.T) {
			sim := newVCSim(t, false)
			calls := &recorder{}
			p := sim.open(calls.wrap)
			settings := sim.settings()
			settings.AntiAffinity = each.affinity
			one := timed(func() { createAll(t, p, settings, "first", 1) })
			calls.reset()
			took := timed(func() { createAll(t, p, settings, "web", hosts) })
			own := calls.total() - calls.calls["RetrievePropertiesEx"] - calls.calls["ReconfigureComputeResource_Task"]
			if own > each.calls*hosts {
				t.Errorf("%d calls that change or search for %d hosts, want at most %d each: %v", own, hosts, each.calls, calls.calls)
			}
			if rules := calls.calls["ReconfigureComputeResource_Task"]; rules > hosts {
				t.Errorf("%d changes of the rule for %d hosts", rules, hosts)
			}
			t.Logf("%d hosts: %d calls (%.2f per host) in %v, one host %v: %v", hosts, calls.total(),
				float64(calls.total())/float64(hosts), took, one, calls.calls)
			wantCallsOfList(t, p, calls, hosts+1)
			calls.reset()
			destroyAll(t, p)
			if own := calls.total() - calls.calls["RetrievePropertiesEx"]; own > destroyCalls*(hosts+1)+cleanupCalls {
				t.Errorf("%d calls to destroy %d hosts: %v", own, hosts+1, calls.calls)
			}
			t.Logf("destroyed with %d calls: %v", calls.total(), calls.calls)
		})
	}
}

func timed(do func()) time.Duration {
	began := time.Now()
	do()
	return time.Since(began).Round(time.Millisecond)
}

func createAll(t *testing.T, p *Provider, settings *Settings, name string, hosts int) {
	t.Helper()
	var group sync.WaitGroup
	for i := range hosts {
		group.Go(func() {
			if _, err := p.Create(t.Context(), request(fmt.Sprintf("%s-%d", name, i), settings)); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
}

// wantCallsOfList lists with one call, however many hosts there are.
func wantCallsOfList(t *testing.T, p *Provider, calls *recorder, hosts int) {
	t.Helper()
	calls.reset()
	list, err := p.List(t.Context(), testCluster)
	if err != nil || len(list) != hosts || calls.total() != 1 {
		t.Errorf("listed %d hosts with %d calls, %v; want %d with one: %v", len(list), calls.total(), err, hosts, calls.calls)
	}
}

func destroyAll(t *testing.T, p *Provider) {
	t.Helper()
	list, err := p.List(t.Context(), testCluster)
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for _, i := range list {
		group.Go(func() {
			if err := p.Destroy(t.Context(), i); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if err := providers.Cleanup(t.Context(), p, testCluster); err != nil {
		t.Error(err)
	}
}

func TestPace(t *testing.T) {
	var age time.Duration
	reads := 0
	for ; age < time.Minute; reads++ {
		age += pace(age)
	}
	if reads > 100 {
		t.Errorf("%d reads in a minute's task, want at most 100", reads)
	}
}
