package openstack

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/providers"
	"github.com/musterhq/muster/providers/openstack/openstacktest"
)

// everySetting makes one of every kind of resource that a server of Nova may have.
func everySetting() *Settings {
	return testSettings(func(s *Settings) {
		s.Networks, s.FloatingIP = []string{openstacktest.Network, openstacktest.Second}, openstacktest.Public
		s.ServerGroup, s.BootVolume = "soft-anti-affinity", &Volume{Size: 20}
	})
}

// everyNodeSetting makes one of every kind of resource that a node of Ironic may have.
func everyNodeSetting() *Settings {
	return nodeSettings(func(s *Settings) {
		s.Networks, s.FloatingIP = []string{openstacktest.Network, openstacktest.Second}, openstacktest.Public
		s.ResourceClass = "baremetal.small"
	})
}

// hasty is a provider that waits less for others, for tests that make it wait often.
func hasty(c *Config) { c.Settle, c.Baremetal = hastySettle, true }

const hastySettle = testSettle / 5

// sort is a kind of host, and what there is of one.
type sort struct {
	settings *Settings
	whole    map[string]int
}

var sorts = map[string]sort{
	"server": {everySetting(), map[string]int{
		"server": 1, "port": 2, "floating IP": 1, "security group": 1, "affinity group": 1, "volume": 1, "allocation": 0, "interface": 0,
	}},
	"node": {everyNodeSetting(), map[string]int{
		"server": 0, "port": 2, "floating IP": 1, "security group": 0, "affinity group": 0, "volume": 0, "allocation": 1, "interface": 2,
	}},
}

// sweep chooses the cases that are tried: all where there is time (MUSTER_LONG, which `make lab-openstack` sets), or else
// every eleventh.
type sweep struct{ seen int }

var long = os.Getenv("MUSTER_LONG") != ""

func (s *sweep) tries() bool {
	s.seen++
	return long || s.seen%11 == 0
}

// TestCrashOfCreate ends a create before and after each of its calls, goes on or gives up in another process, and counts
// what there is then; also where lists do not show new servers for a while.
func TestCrashOfCreate(t *testing.T) {
	var cases sweep
	for _, name := range sorted(sorts) {
		kind := sorts[name]
		calls := callsOf(t, func(p *Provider) error {
			_, err := p.Create(t.Context(), testRequest("web-1", kind.settings))
			return err
		})
		for _, hide := range []time.Duration{0, hastySettle / 2} {
			for n := 1; n <= calls; n++ {
				for _, after := range []bool{false, true} {
					for _, goOn := range []bool{true, false} {
						if !cases.tries() {
							continue
						}
						t.Run(fmt.Sprintf("%s/hide=%t/call=%d/after=%t/resume=%t", name, hide > 0, n, after, goOn), func(t *testing.T) {
							t.Parallel()
							crashOfCreate(t, kind, hide, n, after, goOn)
						})
					}
				}
			}
		}
	}
}

// callsOf counts the calls of something that a provider does in a cloud of its own.
func callsOf(t *testing.T, do func(*Provider) error) int {
	t.Helper()
	cloud := openstacktest.New(t)
	if err := do(testProvider(t, cloud, withNodes)); err != nil {
		t.Fatal(err)
	}
	return total(cloud.Calls())
}

func total(calls map[string]int) (n int) {
	for count := range maps.Values(calls) {
		n += count
	}
	return n
}

func crashOfCreate(t *testing.T, kind sort, hide time.Duration, n int, after, goOn bool) {
	cloud := openstacktest.New(t)
	cloud.Hide = hide
	req := testRequest("web-1", kind.settings)
	if !crash(t, cloud, req, func(call openstacktest.Call) bool { return call.Number == n }, after) {
		t.Fatal("there is no such call")
	}
	p := testProvider(t, cloud, hasty)
	if goOn {
		made, err := p.Create(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		wantWhole(t, cloud, kind, made)
		again, err := testProvider(t, cloud, hasty).Create(t.Context(), req)
		if err != nil || again.ID != made.ID {
			t.Fatalf("created %s and then %s: %v", made.ID, again.ID, err)
		}
		wantWhole(t, cloud, kind, made)
	}
	tearDown(t, cloud, p)
}

// wantWhole checks that there is one host, whole, and nothing else.
func wantWhole(t *testing.T, cloud *openstacktest.Cloud, kind sort, made providers.Instance) {
	t.Helper()
	got := map[string]int{}
	for each := range kind.whole {
		got[each] = cloud.Count(each)
	}
	all := strings.Join(cloud.Everything(), "\n")
	if !maps.Equal(got, kind.whole) || !kind.settings.direct() && !strings.Contains(all, made.ID) {
		t.Fatalf("there is %v, want %v of %s:\n%s", got, kind.whole, made.ID, all)
	}
}

// tearDown does what `muster down` does, and checks that nothing is left then or later.
func tearDown(t *testing.T, cloud *openstacktest.Cloud, p *Provider) {
	t.Helper()
	list, err := p.List(t.Context(), testCluster)
	if err != nil {
		t.Fatal(err)
	}
	for _, instance := range list {
		if err := p.Destroy(t.Context(), instance); err != nil {
			t.Fatal(err)
		}
	}
	quick := providers.RetryPolicy{Initial: time.Millisecond, Max: 10 * time.Millisecond, Elapsed: 10 * time.Second}
	if err := providers.Cleanup(t.Context(), providers.Retry(p, quick, slog.New(slog.DiscardHandler)), testCluster); err != nil {
		t.Fatal(err)
	}
	if err := providers.Pause(t.Context(), cloud.Hide); err != nil {
		t.Fatal(err)
	}
	if all := cloud.Everything(); len(all) > 0 {
		t.Errorf("left behind:\n%s", strings.Join(all, "\n"))
	}
}

// TestCrashOfDestroy ends a destroy, and then a clean-up, before and after each of its calls.
func TestCrashOfDestroy(t *testing.T) {
	var cases sweep
	for _, name := range sorted(sorts) {
		for n := 1; n <= 24; n++ {
			for _, after := range []bool{false, true} {
				if !cases.tries() {
					continue
				}
				t.Run(fmt.Sprintf("%s/call=%d/after=%t", name, n, after), func(t *testing.T) {
					t.Parallel()
					crashOfDestroy(t, sorts[name], n, after)
				})
			}
		}
	}
}

func crashOfDestroy(t *testing.T, kind sort, n int, after bool) {
	cloud := openstacktest.New(t)
	cloud.KeepVolumes = n%2 == 0
	p := testProvider(t, cloud, hasty)
	made, err := p.Create(t.Context(), testRequest("web-1", kind.settings))
	if err != nil {
		t.Fatal(err)
	}
	ctx, kill := context.WithCancel(t.Context())
	defer kill()
	cloud.Reset()
	cloud.SetFault(func(call openstacktest.Call) openstacktest.Fault {
		if call.Number != n {
			return openstacktest.Fault{}
		}
		kill()
		return openstacktest.Fault{Drop: true, Unsent: !after}
	})
	if err := p.Destroy(ctx, made); err == nil {
		_ = p.Cleanup(ctx, testCluster)
	}
	cloud.SetFault(nil)
	tearDown(t, cloud, testProvider(t, cloud, hasty))
}

// TestFaults lets every call of a host's life fail once in each way, under the retries that every provider has.
func TestFaults(t *testing.T) {
	var cases sweep
	for _, name := range sorted(sorts) {
		t.Run(name, func(t *testing.T) { faultsOf(t, sorts[name], &cases) })
	}
}

// faults are what may befall a call.
var faults = map[string]openstacktest.Fault{
	"error":     {Status: http.StatusInternalServerError},
	"throttled": {Status: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {"1"}}},
	"refused":   {Drop: true, Unsent: true},
	"lost":      {Drop: true},
}

func faultsOf(t *testing.T, kind sort, cases *sweep) {
	life := func(t *testing.T, p providers.Provider, cloud *openstacktest.Cloud) error {
		made, err := p.Create(t.Context(), testRequest("web-1", kind.settings))
		if err != nil {
			return fmt.Errorf("create: %w", err)
		}
		if cloud != nil {
			wantWhole(t, cloud, kind, made)
		}
		list, err := p.List(t.Context(), testCluster)
		if err != nil || len(list) != 1 || list[0].ID != made.ID {
			return fmt.Errorf("listed %v: %w", list, err)
		}
		if err := p.Destroy(t.Context(), made); err != nil {
			return fmt.Errorf("destroy: %w", err)
		}
		return providers.Cleanup(t.Context(), p, testCluster)
	}
	calls := callsOf(t, func(p *Provider) error { return life(t, p, nil) })
	for _, name := range sorted(faults) {
		for n := 1; n <= calls; n++ {
			if !cases.tries() {
				continue
			}
			t.Run(fmt.Sprintf("%s/call=%d", name, n), func(t *testing.T) {
				t.Parallel()
				cloud := openstacktest.New(t)
				cloud.SetFault(func(call openstacktest.Call) openstacktest.Fault {
					if call.Number != n {
						return openstacktest.Fault{}
					}
					return faults[name]
				})
				quick := providers.RetryPolicy{Initial: time.Millisecond, Max: 10 * time.Millisecond, Elapsed: 10 * time.Second}
				p := providers.Retry(testProvider(t, cloud, hasty), quick, slog.New(slog.DiscardHandler))
				if err := life(t, p, cloud); err != nil {
					t.Fatal(err)
				}
				if all := cloud.Everything(); len(all) > 0 {
					t.Errorf("left behind:\n%s", strings.Join(all, "\n"))
				}
			})
		}
	}
}

// TestTwoProcesses creates one host from many processes at once, some of which have a different idea of how slow the cloud
// is, and checks that there never is a second server.
func TestTwoProcesses(t *testing.T) {
	cloud := openstacktest.New(t)
	cloud.Hide = testSettle / 2
	type result struct {
		made providers.Instance
		err  error
	}
	results := make(chan result)
	const processes = 6
	for range processes {
		p := testProvider(t, cloud)
		go func() {
			made, err := p.Create(t.Context(), testRequest("web-1", testSettings()))
			results <- result{made, err}
		}()
	}
	ids := map[string]bool{}
	for range processes {
		r := <-results
		if r.err != nil {
			t.Error(r.err)
		}
		ids[r.made.ID] = true
	}
	if calls := cloud.Calls()["POST /compute/v2.1/servers"]; len(ids) != 1 || calls != 1 {
		t.Errorf("%d servers asked for, %d answered", calls, len(ids))
	}
}
