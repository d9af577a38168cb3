//go:build lab

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/musterhq/muster/agent/api"
)

// The fleet of TestRolloutOfHosts.
const (
	rolloutHosts  = 10
	rolloutVoters = 3
	rolloutMax    = 2 // hosts that may reboot at once
	rolloutLeast  = rolloutHosts * 80 / 100
)

// TestRolloutOfHosts has ten hosts of the local provider take a release, two at a time, each with a reboot that ends everything on it.
// On each is a server of examples/web, which fits nowhere else. Meanwhile clients ask through the balancer, which is on none of
// the hosts: every request is answered, four fifths of the servers are well and announced at any time, and the whole takes at
// most 1.3 times the ideal: half of what all take one after the other, each alone.
func TestRolloutOfHosts(t *testing.T) {
	r := newReleases(t)
	brought := musterdOf(t, "1.0.0")
	if err := os.Symlink(filepath.Join(binDir, "example-api"), filepath.Join(filepath.Dir(brought), "example-api")); err != nil {
		t.Fatal(err)
	}
	c := newCluster(t, rolloutFile(r, brought), rolloutUnits(t))
	c.must("up", "--yes")
	s := c.eventually(3*time.Minute, whole(rolloutHosts, rolloutVoters, 2*rolloutHosts))
	c.updates(2*time.Minute, allRun("1.0.0", rolloutHosts))
	first, second := musterdOf(t, "1.0.1"), musterdOf(t, "1.0.2")
	watch := c.watchServers(s)

	r.add("dir", "1.0.1", first)
	host := c.takesAlone(s.Hosts[len(s.Hosts)-1].Name, "1.0.1")
	voter := c.takesAlone(s.Hosts[0].Name, "1.0.1") // voters have low numbers

	r.add("dir", "1.0.2", second)
	began := time.Now()
	c.must("update", "now")
	c.updates(15*time.Minute, allRun("1.0.2", rolloutHosts))
	total := time.Since(began)
	ideal := ((rolloutHosts-rolloutVoters)*host + rolloutVoters*voter) / rolloutMax
	watch.end(t)
	t.Logf("a host alone takes %.1f s and a voter %.1f s, so that %d hosts ideally take %.1f s; they took %.1f s, %.2f times that",
		host.Seconds(), voter.Seconds(), rolloutHosts, ideal.Seconds(), total.Seconds(), total.Seconds()/ideal.Seconds())
	if total > ideal*13/10 {
		t.Errorf("the rollout took %v, more than 1.3 times the ideal %v\n%s", total, ideal, c.must("update", "history").stdout)
	}
	c.eventually(time.Minute, whole(rolloutHosts, rolloutVoters, 2*rolloutHosts))
}

// takesAlone has one host take a release and returns how long that takes.
func (c *cluster) takesAlone(name, version string) time.Duration {
	c.t.Helper()
	began := time.Now()
	c.must("update", "now", name)
	c.updates(5*time.Minute, func(u api.Update) error {
		for _, h := range u.Hosts {
			if h.Host == name && (h.Version != version || h.Phase != "idle") {
				return fmt.Errorf("%s runs %s and is %s", h.Host, h.Version, h.Phase)
			}
		}
		return nil
	})
	return time.Since(began)
}

// rolloutFile is a cluster whose hosts look for releases when they are told to. A host drains for two seconds: what could move
// has moved by then.
func rolloutFile(r *releases, musterd string) string {
	return fmt.Sprintf(`version: 1
cluster: rollout
voters: %[6]d
lease: 20s
providers:
  cloud-a: {driver: local, musterd: %[1]s}
  cloud-b: {driver: local, musterd: %[1]s}
hosts:
  node:
    count: %[2]d
    spread: [cloud-a, cloud-b]
units:
  - file: units/api@.service
    instances: 1..%[2]d
  - file: units/announce@.service
    instances: 1..%[2]d
update:
  source: [%[3]s]
  root: %[4]s
  channel: alpha
  max: %[5]d
  interval: 1h
  drain: 2s
  health: {within: 2m}
`, musterd, rolloutHosts, r.url, r.root(), rolloutMax, rolloutVoters)
}

// rolloutUnits are those of examples/web, with ports for more than nine servers, one on each host.
func rolloutUnits(t testing.TB) map[string]string {
	units := map[string]string{}
	for _, name := range []string{"api@.service", "announce@.service"} {
		content, err := os.ReadFile(filepath.Join(repoRoot(), "examples", "web", "units", name))
		if err != nil {
			t.Fatal(err)
		}
		units[name] = strings.ReplaceAll(string(content), ":808%i", ":300%i")
	}
	units["api@.service"] += "\n[X-Fleet]\nConflicts=api@*.service\n"
	return units
}

// servers watches those of a rollout: through a balancer, as a client, and one by one.
type servers struct {
	cancel context.CancelFunc
	all    sync.WaitGroup

	answered, failed atomic.Int64
	failure          atomic.Pointer[string] // the first

	samples   int
	well      int // the fewest that were well at once
	announced int // the fewest that the balancer knew
}

// How often clients ask, and servers are counted.
const (
	askEvery    = 20 * time.Millisecond
	sampleEvery = 100 * time.Millisecond
	askClients  = 2
)

// watchServers starts a balancer and watches until all servers are there, and then on until it is ended.
func (c *cluster) watchServers(s api.Status) *servers {
	c.t.Helper()
	w := &servers{well: rolloutHosts, announced: rolloutHosts}
	lb, at := c.balancer(s)
	c.eventually(time.Minute, func(api.Status) error {
		if n := announced(c.t.Context(), lb); n != rolloutHosts {
			return fmt.Errorf("%d servers are announced", n)
		}
		return nil
	})
	ctx, cancel := context.WithCancel(c.t.Context())
	w.cancel = cancel
	for range askClients {
		w.all.Go(func() { w.ask(ctx, lb) })
	}
	w.all.Go(func() { w.count(ctx, lb, at) })
	c.t.Cleanup(func() { cancel(); w.all.Wait() })
	return w
}

// balancer runs example-lb on none of the hosts. It returns its URL and those of the servers.
func (c *cluster) balancer(s api.Status) (url string, at []string) {
	c.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		c.t.Fatal(err)
	}
	_ = l.Close()
	address := map[string]string{}
	var keys []string
	for _, h := range s.Hosts {
		address[h.Name] = h.Address
		keys = append(keys, "http://"+h.Address+":4001")
	}
	for _, u := range s.Units {
		if number, is := strings.CutPrefix(strings.TrimSuffix(u.Name, ".service"), "api@"); is {
			at = append(at, "http://"+address[u.Host]+":300"+number+"/healthz")
		}
	}
	cmd := exec.Command(filepath.Join(binDir, "example-lb"),
		"--listen", l.Addr().String(), "--dir", "/services/api", "--keys", strings.Join(keys, ","))
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return "http://" + l.Addr().String(), at
}

func (w *servers) ask(ctx context.Context, lb string) {
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		status, body, err := page(ctx, lb+"/")
		switch {
		case ctx.Err() != nil:
			return
		case err != nil || status != http.StatusOK:
			why := fmt.Sprintf("%s: %d %q, %v", time.Now().Format(time.TimeOnly), status, body, err)
			w.failed.Add(1)
			w.failure.CompareAndSwap(nil, &why)
		default:
			w.answered.Add(1)
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// announced is how many servers the balancer knows, -1 if it does not say.
func announced(ctx context.Context, lb string) int {
	_, body, err := page(ctx, lb+"/backends")
	var list []string
	if err != nil || json.Unmarshal([]byte(body), &list) != nil {
		return -1
	}
	return len(list)
}

// count looks how many servers are well and announced, again and again.
func (w *servers) count(ctx context.Context, lb string, at []string) {
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		var well atomic.Int64
		var asking sync.WaitGroup
		for _, url := range at {
			asking.Go(func() {
				if status, _, err := page(ctx, url); err == nil && status == http.StatusOK {
					well.Add(1)
				}
			})
		}
		n := announced(ctx, lb)
		asking.Wait()
		if ctx.Err() != nil {
			return
		}
		w.samples++
		w.well, w.announced = min(w.well, int(well.Load())), min(w.announced, n)
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// end stops watching and tells what was seen.
func (w *servers) end(t testing.TB) {
	t.Helper()
	w.cancel()
	w.all.Wait()
	t.Logf("%d requests were answered and %d failed; of %d servers never fewer than %d were well and %d announced, in %d looks",
		w.answered.Load(), w.failed.Load(), rolloutHosts, w.well, w.announced, w.samples)
	if why := w.failure.Load(); why != nil {
		t.Errorf("%d requests failed, the first: %s", w.failed.Load(), *why)
	}
	if w.well < rolloutLeast || w.announced < rolloutLeast {
		t.Errorf("fewer than %d servers were well or announced", rolloutLeast)
	}
}
