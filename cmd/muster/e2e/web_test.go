package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/musterhq/muster/agent/api"
)

// TestWeb has the servers of examples/web announce themselves, move when their host is lost, and be stopped, while requests go
// through both balancers: none fails.
func TestWeb(t *testing.T) {
	for program, in := range map[string]string{"curl": "curl", "nginx": "nginx-light"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("there is no %s here (Debian: %s)", program, in)
		}
	}
	c := example(t, "web")
	c.must("up", "--yes")
	s := c.eventually(time.Minute, whole(3, 3, 11))
	web := webOf(s)
	if web.nginx == web.lb {
		t.Fatalf("both balancers are at %s", web.lb)
	}
	for _, at := range []string{web.nginx, web.lb} {
		c.balances(at, web.servers)
	}
	c.must("kv", "put", "/database", "10.0.0.7:3306")
	c.eventually(30*time.Second, func(api.Status) error {
		return says("http://"+web.blog+":8090/", "blog with its database at 10.0.0.7:3306")
	})

	load := c.visitors("http://"+web.nginx+":8000/", "http://"+web.lb+":8000/")
	victim := bare(s)
	c.signal(syscall.SIGKILL, c.hostProcesses(victim, false))
	s = c.eventually(time.Minute, func(s api.Status) error {
		for _, u := range s.Units {
			if u.Host == victim || u.State != api.UnitRunning {
				return fmt.Errorf("%s is %s on %q", u.Name, u.State, u.Host)
			}
		}
		return nil
	})
	moved := webOf(s)
	for _, at := range []string{web.nginx, web.lb} {
		c.balances(at, moved.servers)
	}
	c.must("stop", "api@2")
	three := slices.DeleteFunc(moved.servers, func(server string) bool { return strings.HasSuffix(server, ":8082") })
	for _, at := range []string{web.nginx, web.lb} {
		c.balances(at, three)
	}
	load()
}

// web is where everything of the example is.
type web struct {
	nginx, lb, blog string   // addresses
	servers         []string // addresses and ports, sorted
}

func webOf(s api.Status) (w web) {
	at := map[string]string{}
	for _, h := range s.Hosts {
		at[h.Name] = h.Address
	}
	for _, u := range s.Units {
		switch number, isAPI := strings.CutPrefix(strings.TrimSuffix(u.Name, ".service"), "api@"); {
		case isAPI:
			w.servers = append(w.servers, at[u.Host]+":808"+number)
		case u.Name == "nginx.service":
			w.nginx = at[u.Host]
		case u.Name == "lb.service":
			w.lb = at[u.Host]
		case u.Name == "blog.service":
			w.blog = at[u.Host]
		}
	}
	slices.Sort(w.servers)
	return w
}

// bare is a host with API servers and without a balancer.
func bare(s api.Status) string {
	balancing := append(hostsOf(s, "nginx"), hostsOf(s, "lb")...)
	for _, host := range hostsOf(s, "api@") {
		if !slices.Contains(balancing, host) {
			return host
		}
	}
	return ""
}

// balances waits until a balancer has just these servers.
func (c *cluster) balances(address string, servers []string) {
	c.t.Helper()
	want, err := json.Marshal(servers)
	if err != nil {
		c.t.Fatal(err)
	}
	c.eventually(time.Minute, func(api.Status) error { return says("http://"+address+":8000/backends", string(want)) })
}

// says asks for a page with a text in it.
func says(url, want string) error {
	status, body, err := page(context.Background(), url)
	if err == nil && (status != http.StatusOK || !strings.Contains(body, want)) {
		err = fmt.Errorf("%s has %d %s; want %s", url, status, body, want)
	}
	return err
}

func page(ctx context.Context, url string) (status int, body string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(data), err
}

// visitors ask for pages one after the other until they are ended, and fail the test if one does not come.
func (c *cluster) visitors(urls ...string) (end func()) {
	ctx, cancel := context.WithCancel(c.t.Context())
	var all sync.WaitGroup
	var served atomic.Int64
	for _, url := range urls {
		all.Go(func() {
			for ctx.Err() == nil {
				status, body, err := page(ctx, url)
				switch {
				case errors.Is(err, context.Canceled):
				case err != nil || status != http.StatusOK:
					c.t.Errorf("%s: %d %q, %v", url, status, body, err)
				default:
					served.Add(1)
				}
			}
		})
	}
	return func() {
		cancel()
		all.Wait()
		c.t.Logf("%d pages were served", served.Load())
	}
}
