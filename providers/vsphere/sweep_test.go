package vsphere

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/musterhq/muster/providers"
)

const testCluster = "6f1c3b6e-0f43-4a53-9f36-25c3d5a0a001"

func request(host string, settings *Settings) providers.CreateRequest {
	return providers.CreateRequest{
		Identity: providers.Identity{Cluster: testCluster, Host: host, Generation: 1},
		UserData: []byte("#cloud-config\n"), Settings: settings,
	}
}

// patient repeats what may go better the next time.
func patient(p providers.Provider) providers.Provider {
	policy := providers.RetryPolicy{Initial: 5 * time.Millisecond, Max: 20 * time.Millisecond, Elapsed: 30 * time.Second}
	return providers.Retry(p, policy, slog.New(slog.DiscardHandler))
}

// wantHosts checks that these hosts are listed and that there are no other machines of muster's.
func (s *vcsim) wantHosts(p *Provider, want ...string) {
	s.t.Helper()
	list, err := p.List(s.t.Context(), testCluster)
	if err != nil {
		s.t.Fatal(err)
	}
	var got []string
	for _, i := range list {
		got = append(got, i.Host)
	}
	if !slices.Equal(got, want) {
		s.t.Errorf("listed %v, want %v", got, want)
	}
	count := 0
	for _, o := range s.registry().All("VirtualMachine") {
		if strings.HasPrefix(o.Entity().Name, vmPrefix(testCluster)) {
			count++
		}
	}
	if count != len(want) {
		s.t.Errorf("%d machines, want %d", count, len(want))
	}
}

// down destroys what is listed and cleans up.
func (s *vcsim) down(p *Provider) {
	s.t.Helper()
	list, err := patient(p).List(s.t.Context(), testCluster)
	for _, i := range list {
		err = errors.Join(err, patient(p).Destroy(s.t.Context(), i))
	}
	if err = errors.Join(err, providers.Cleanup(s.t.Context(), patient(p), testCluster)); err != nil {
		s.t.Errorf("down: %v", err)
	}
}

// crash is a process that ends at its nth call that counts: before it is made, or before its answer arrives.
type crash struct {
	crashWay
	counts func(name string) bool
	at     int

	mu    sync.Mutex
	calls int
	dead  bool
	names []string
}

var errCrash = errors.New("the process has ended")

func (c *crash) wrap(inner http.RoundTripper) http.RoundTripper {
	return roundTrip(func(req *http.Request) (*http.Response, error) {
		name := callName(req)
		c.mu.Lock()
		if c.counts(name) && !c.dead {
			c.calls++
			c.names = append(c.names, name)
		}
		now := c.counts(name) && c.calls == c.at && !c.dead
		if now && !c.after {
			c.dead = true
		}
		dead := c.dead
		if now {
			c.dead = true
		}
		c.mu.Unlock()
		if dead {
			return nil, errCrash
		}
		res, err := inner.RoundTrip(req)
		if now && err == nil {
			_ = res.Body.Close()
			return nil, errCrash
		}
		return res, err
	})
}

// changes tells the calls that change something from those that read.
func changes(name string) bool {
	if strings.HasPrefix(name, "POST /rest/com/vmware/content") {
		return false // searches
	}
	return strings.HasSuffix(name, "_Task") || strings.HasPrefix(name, "POST") || slices.Contains([]string{
		"CreateFolder", "ImportVApp", "HttpNfcLeaseComplete", "MarkAsTemplate",
	}, name)
}

// shapes are the ways in which hosts are made.
func shapes(t *testing.T) map[string]struct {
	esxi bool
	set  func(*vcsim, *Settings)
} {
	file, _ := tinyOVA(t)
	type shape = struct {
		esxi bool
		set  func(*vcsim, *Settings)
	}
	return map[string]shape{
		"clone":        {false, func(sim *vcsim, s *Settings) { s.Template = sim.template() }},
		"apart":        {false, func(sim *vcsim, s *Settings) { s.Template, s.AntiAffinity = sim.template(), affinityRequired }},
		"ova":          {false, func(_ *vcsim, s *Settings) { s.OVA = file }},
		"library":      {false, func(sim *vcsim, s *Settings) { sim.library(); s.Library = "images/tiny" }},
		"esxi":         {true, func(sim *vcsim, s *Settings) { s.Template, s.Disk = sim.template(), 20<<30 }},
		"esxi and ova": {true, func(_ *vcsim, s *Settings) { s.OVA = file }},
	}
}

// long is true where there is time for every call and every fault: `make lab-vsphere`.
var long = os.Getenv("MUSTER_LONG") != ""

// crashWay is how a process ends at a call and what happens then: the next one makes the hosts, or gives up.
type crashWay struct{ after, resume bool }

var crashWays = []crashWay{{false, true}, {true, true}, {false, false}, {true, false}}

// TestCrashes ends a process at each of its calls, before it is made and when its answer is on the way; the next process goes
// on, or gives up. In the short run it takes the calls that change something, and the four ways take turns.
func TestCrashes(t *testing.T) {
	for name, shape := range shapes(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sim := newVCSim(t, shape.esxi)
			settings := NewSettings()
			shape.set(sim, settings)
			sim.sweep(t, settings)
		})
	}
}

// sweep makes two hosts, so that rules have two members, and crashes at each call until they get through.
func (s *vcsim) sweep(t *testing.T, settings *Settings) {
	counts, points := changes, 0
	if long {
		counts = func(string) bool { return true }
	}
	foreign := s.plant(map[string]string{providers.TagCluster: testCluster, providers.TagHost: "web-1"})
	for crashed := true; crashed; points++ {
		crashed = false
		for i, way := range crashWays {
			if long || i == points%len(crashWays) {
				crashed = s.crashOnce(t, &crash{counts: counts, at: points + 1, crashWay: way}, settings) || crashed
			}
		}
	}
	t.Logf("%d calls, each of them crashed at", points-1)
	if points < 5 || !foreign() {
		t.Errorf("%d crash points; the foreign machine is untouched: %v", points-1, foreign())
	}
}

// crashOnce makes hosts until the crash, and then goes on or gives up. It tells whether there was a crash.
func (s *vcsim) crashOnce(t *testing.T, c *crash, settings *Settings) (died bool) {
	t.Helper()
	first := s.open(c.wrap)
	for _, host := range []string{"web-1", "web-2"} {
		if _, err := first.Create(t.Context(), request(host, settings)); err != nil && !c.dead {
			t.Fatal(err)
		}
	}
	where := fmt.Sprintf("crash at %d %+v: %v", c.at, c.crashWay, last(c.names))
	s.quiet()
	next := s.open(nil)
	if c.resume {
		for _, host := range []string{"web-1", "web-2"} {
			made, err := patient(next).Create(t.Context(), request(host, settings))
			if err != nil || made.State != providers.StateRunning {
				t.Errorf("%s: %s is %s, %v", where, host, made.State, err)
			}
		}
		s.wantHosts(next, "web-1", "web-2")
	}
	s.down(next)
	if left := s.leftovers(testCluster); len(left) > 0 {
		t.Fatalf("%s: left behind: %v", where, left)
	}
	return c.dead
}

func last(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return names[len(names)-1]
}

// quiet waits until the server has nothing to do: what a process began goes on when the process ends.
func (s *vcsim) quiet() {
	s.t.Helper()
	s.admin(func(ctx context.Context, c *client) error {
		for {
			manager, err := c.lookOne(ctx, *c.ServiceContent.TaskManager, "recentTask")
			if err != nil {
				return err
			}
			busy, err := s.busy(ctx, c, manager)
			if err != nil || !busy {
				return err
			}
			if err := providers.Pause(ctx, time.Millisecond); err != nil {
				return err
			}
		}
	})
}

// TestDownOfUnlisted does what is done for a host that was asked for and never listed: it is asked for once more, and
// then destroyed.
func TestDownOfUnlisted(t *testing.T) {
	sim := newVCSim(t, false)
	settings := sim.settings()
	c := &crash{counts: changes, at: 2, crashWay: crashWay{after: true}}
	id := providers.Identity{Cluster: uuid.NewString(), Host: "web-1", Generation: 1}
	req := request("web-1", settings)
	req.Identity = id
	if _, err := sim.open(c.wrap).Create(t.Context(), req); err == nil {
		t.Fatal("no crash")
	}
	next := sim.open(nil)
	made, err := patient(next).Create(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(next.Destroy(t.Context(), made), next.Cleanup(t.Context(), id.Cluster)); err != nil {
		t.Fatal(err)
	}
	if left := sim.leftovers(id.Cluster); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
