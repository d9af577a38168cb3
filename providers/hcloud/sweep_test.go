package hcloud

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/providers"
	"github.com/musterhq/muster/providers/hcloud/hcloudtest"
)

// hidden is how long lists hide what is new, in the tests in which they do.
const hidden = 25 * time.Millisecond

// whole is what there is of one host with everySetting.
var whole = map[string]int{"server": 1, "primary IP": 2, "firewall": 1, "placement group": 1}

// TestCrashOfCreate ends a create before and after each of its calls, with lists that are right and with ones that are late,
// goes on or gives up in another process, and counts what there is then.
func TestCrashOfCreate(t *testing.T) {
	calls := callsOf(t, func(p *Provider) error {
		_, err := p.Create(t.Context(), testRequest("web-1", everySetting()))
		return err
	})
	t.Logf("a create with every setting makes %d calls", calls)
	for _, hide := range []time.Duration{0, hidden} {
		for n := 1; n <= calls; n++ {
			for _, after := range []bool{false, true} {
				for _, goOn := range []bool{true, false} {
					t.Run(fmt.Sprintf("hide=%t/call=%d/after=%t/resume=%t", hide > 0, n, after, goOn), func(t *testing.T) {
						t.Parallel()
						crashOfCreate(t, hide, n, after, goOn)
					})
				}
			}
		}
	}
}

// callsOf counts the calls of something that a provider does in a project of its own.
func callsOf(t *testing.T, do func(*Provider) error) int {
	t.Helper()
	cloud := hcloudtest.New(t)
	if err := do(testProvider(t, cloud)); err != nil {
		t.Fatal(err)
	}
	return cloud.Total()
}

func crashOfCreate(t *testing.T, hide time.Duration, n int, after, goOn bool) {
	cloud := hcloudtest.New(t)
	cloud.Hide = hide
	req := testRequest("web-1", everySetting())
	if !crash(t, cloud, req, func(call hcloudtest.Call) bool { return call.Number == n }, after) {
		t.Fatal("there is no such call")
	}
	if goOn {
		made, err := retrying(testProvider(t, cloud)).Create(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		wantWhole(t, cloud, made)
		again, err := retrying(testProvider(t, cloud)).Create(t.Context(), req)
		if err != nil || again.ID != made.ID {
			t.Fatalf("created %s and then %s: %v", made.ID, again.ID, err)
		}
		wantWhole(t, cloud, made)
	}
	tearDown(t, cloud, req)
}

// wantWhole checks that there is one host, whole, and nothing else.
func wantWhole(t *testing.T, cloud *hcloudtest.Cloud, made providers.Instance) {
	t.Helper()
	got := map[string]int{}
	for each := range whole {
		got[each] = cloud.Count(each)
	}
	all := strings.Join(cloud.Everything(), "\n")
	if !maps.Equal(got, whole) || !strings.Contains(all, made.ID) {
		t.Fatalf("there is %v, want %v of %s:\n%s", got, whole, made.ID, all)
	}
}

// tearDown does what `muster down` does, in a process of its own: it asks once more for what may have been made and is not
// listed, and ends everything. Then nothing is left.
func tearDown(t *testing.T, cloud *hcloudtest.Cloud, asked ...providers.CreateRequest) {
	t.Helper()
	p := retrying(testProvider(t, cloud))
	list, err := p.List(t.Context(), testCluster)
	if err != nil {
		t.Fatal(err)
	}
	listed := map[providers.Identity]bool{}
	for _, instance := range list {
		listed[instance.Identity] = true
	}
	for _, req := range asked {
		if !listed[req.Identity] {
			made, err := p.Create(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, made)
		}
	}
	for _, instance := range list {
		if err := p.Destroy(t.Context(), instance); err != nil {
			t.Fatal(err)
		}
	}
	if err := providers.Pause(t.Context(), cloud.Hide); err != nil { // members leave, and are waited for
		t.Fatal(err)
	}
	if err := providers.Cleanup(t.Context(), p, testCluster); err != nil {
		t.Fatal(err)
	}
	if all := cloud.Everything(); len(all) > 0 {
		t.Errorf("left behind:\n%s", strings.Join(all, "\n"))
	}
}

// TestCrashOfDestroy ends a destroy, and then a clean-up, before and after each of its calls.
func TestCrashOfDestroy(t *testing.T) {
	end := func(ctx context.Context, p *Provider, made providers.Instance) error {
		if err := p.Destroy(ctx, made); err != nil {
			return err
		}
		return providers.Cleanup(ctx, retrying(p), testCluster)
	}
	// What is waited for takes more calls or fewer; there are some behind the last that is counted.
	for n := 1; n <= 16; n++ {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("call=%d/after=%t", n, after), func(t *testing.T) {
				t.Parallel()
				cloud := hcloudtest.New(t)
				p := testProvider(t, cloud)
				made, err := p.Create(t.Context(), testRequest("web-1", everySetting()))
				if err != nil {
					t.Fatal(err)
				}
				ctx, kill := context.WithCancel(t.Context())
				defer kill()
				cloud.Reset()
				cloud.SetFault(func(call hcloudtest.Call) hcloudtest.Fault {
					if call.Number != n {
						return hcloudtest.Fault{}
					}
					kill()
					return hcloudtest.Fault{Drop: true, Unsent: !after}
				})
				err = end(ctx, p, made)
				cloud.SetFault(nil)
				if err == nil && ctx.Err() != nil && n < 8 {
					t.Error("the crash was not noticed")
				}
				tearDown(t, cloud)
			})
		}
	}
}

// TestFaults lets every call of a host's life fail once in each way, under the retries that every provider has.
func TestFaults(t *testing.T) {
	life := func(t *testing.T, p providers.Provider, cloud *hcloudtest.Cloud) error {
		made, err := p.Create(t.Context(), testRequest("web-1", everySetting()))
		if err != nil {
			return fmt.Errorf("create: %w", err)
		}
		if cloud != nil {
			wantWhole(t, cloud, made)
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
	calls := callsOf(t, func(p *Provider) error { return life(t, retrying(p), nil) })
	for name, fault := range map[string]hcloudtest.Fault{
		"error":    {Status: http.StatusInternalServerError, Code: "server_error"},
		"proxy":    {Status: http.StatusBadGateway},
		"locked":   {Status: http.StatusLocked, Code: "locked"},
		"conflict": {Status: http.StatusConflict, Code: "conflict"},
		"refused":  {Drop: true, Unsent: true},
		"lost":     {Drop: true},
	} {
		for n := 1; n <= calls; n++ {
			t.Run(fmt.Sprintf("%s/call=%d", name, n), func(t *testing.T) {
				t.Parallel()
				cloud := hcloudtest.New(t)
				cloud.SetFault(func(call hcloudtest.Call) hcloudtest.Fault {
					if call.Number != n {
						return hcloudtest.Fault{}
					}
					return fault
				})
				if err := life(t, retrying(testProvider(t, cloud)), cloud); err != nil {
					t.Fatal(err)
				}
				if all := cloud.Everything(); len(all) > 0 {
					t.Errorf("left behind:\n%s", strings.Join(all, "\n"))
				}
			})
		}
	}
}

// TestHalfLabelled takes labels away and lets creates and clean-ups find what is left.
func TestHalfLabelled(t *testing.T) {
	o := owner{testCluster, "cloud-a"}
	req := testRequest("web-1", everySetting())
	name := o.serverName(req.Identity)
	for lost := range o.serverLabels(req.Identity) {
		for _, goOn := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/resume=%t", lost, goOn), func(t *testing.T) {
				t.Parallel()
				cloud := hcloudtest.New(t)
				made, err := testProvider(t, cloud).Create(t.Context(), req)
				if err != nil {
					t.Fatal(err)
				}
				for _, each := range []string{name, o.group(), o.placement(1)} {
					labels := o.serverLabels(req.Identity)
					if each != name {
						labels = o.labels()
					}
					delete(labels, lost)
					labels["team"] = "billing"
					cloud.Labels(each, labels)
				}
				if list, err := testProvider(t, cloud).List(t.Context(), testCluster); err != nil || len(list) != 0 {
					t.Fatalf("a half-labelled server is listed: %v, %v", list, err)
				}
				if goOn {
					again, err := retrying(testProvider(t, cloud)).Create(t.Context(), req)
					if err != nil || again.ID != made.ID {
						t.Fatalf("created %s and then %s: %v", made.ID, again.ID, err)
					}
					shown, _, _ := cloud.Server(name)
					if id, ours := o.hostOf(shown.Labels); !ours || id != req.Identity || shown.Labels["team"] != "billing" {
						t.Fatalf("the server has the labels %v", shown.Labels)
					}
				}
				tearDown(t, cloud)
			})
		}
	}
}
