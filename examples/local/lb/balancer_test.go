package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/musterhq/muster/agent/api"
)

func TestBackends(t *testing.T) {
	s := api.Status{
		Hosts: []api.HostStatus{{Name: "node-1", Address: "127.70.0.1"}, {Name: "node-2", Address: "127.70.0.2"}},
		Units: []api.UnitStatus{
			{Name: "api@1.service", Host: "node-2", State: api.UnitRunning},
			{Name: "api@2.service", Host: "node-1", State: api.UnitRunning},
			{Name: "api@3.service", Host: "node-1", State: api.UnitStarting},
			{Name: "api@x.service", Host: "node-1", State: api.UnitRunning},
			{Name: "api@4.service", Host: "", State: api.UnitPending},
			{Name: "lb@1.service", Host: "node-1", State: api.UnitRunning},
		},
	}
	want := []string{"127.70.0.1:8082", "127.70.0.2:8081"}
	if got := backends(s, "api@*.service", 8080); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// named starts a server that answers with its name.
func named(t *testing.T, name string) string {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, name, r.URL.RequestURI())
	}))
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

func TestTurnsAndFailures(t *testing.T) {
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	b := newBalancer(slog.New(slog.DiscardHandler))
	front := httptest.NewServer(b)
	defer front.Close()
	if status, _ := fetch(t, front.URL+"/"); status != http.StatusBadGateway {
		t.Errorf("without servers: status %d", status)
	}
	b.use([]string{named(t, "one"), gone.Addr().String(), named(t, "two")})
	seen := map[string]int{}
	for range 12 {
		status, body := fetch(t, front.URL+"/a?b=c")
		if status != http.StatusOK {
			t.Fatalf("status %d: %s", status, body)
		}
		seen[body]++
	}
	if len(seen) != 2 || seen["one/a?b=c"] < 3 || seen["two/a?b=c"] < 3 {
		t.Errorf("who answered how often: %v", seen)
	}
}

func fetch(t *testing.T, url string) (int, string) {
	t.Helper()
	answer, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(body)
}

// fakeAgent serves a status on a socket as the agent does, and each new one to those who watch.
type fakeAgent struct {
	socket   string
	statuses chan api.Status // for the one who watches
	deaf     atomic.Bool     // refuses to be watched
	now      atomic.Pointer[api.Status]
}

func newFakeAgent(t *testing.T) *fakeAgent {
	t.Helper()
	dir, err := os.MkdirTemp("", "lb") // a short path: that of a socket has at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	f := &fakeAgent{socket: filepath.Join(dir, "muster.sock"), statuses: make(chan api.Status)}
	f.now.Store(&api.Status{})
	listener, err := net.Listen("unix", f.socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: f}}
	server.Start()
	t.Cleanup(server.Close)
	return f
}

func (f *fakeAgent) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path != "/v1/status":
		http.NotFound(w, r)
	case !r.URL.Query().Has("watch"):
		_ = json.NewEncoder(w).Encode(f.now.Load())
	case f.deaf.Load():
		http.Error(w, `{"error":"not now"}`, http.StatusBadRequest)
	default:
		f.events(w, r)
	}
}

func (f *fakeAgent) events(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	for {
		select {
		case s := <-f.statuses:
			data, _ := json.Marshal(s)
			fmt.Fprintf(w, "data: %s\n\n", data)
			w.(http.Flusher).Flush()
		case <-r.Context().Done():
			return
		}
	}
}

// running is a status with api@1, api@2, ... on one host, each for a port of its own.
func running(states ...string) api.Status {
	s := api.Status{Hosts: []api.HostStatus{{Name: "node-1", Address: "127.0.0.1"}}}
	for i, state := range states {
		s.Units = append(s.Units, api.UnitStatus{Name: fmt.Sprintf("api@%d.service", i+1), Host: "node-1", State: state})
	}
	return s
}

// consecutive starts servers on ports that follow each other, and returns the port before the first.
func consecutive(t *testing.T, n int) int {
	t.Helper()
	for range 100 {
		first, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		base := first.Addr().(*net.TCPAddr).Port - 1
		listeners := []net.Listener{first}
		for i := 2; i <= n; i++ {
			if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", base+i)); err == nil {
				listeners = append(listeners, l)
			}
		}
		if len(listeners) < n {
			for _, l := range listeners {
				l.Close()
			}
			continue
		}
		for i, l := range listeners {
			server := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(
				func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, i+1) },
			)}}
			server.Start()
			t.Cleanup(server.Close)
		}
		return base
	}
	t.Fatal("no ports in a row are free")
	return 0
}

// TestBalancer runs the whole program in front of two servers, told by a fake agent where they are.
func TestBalancer(t *testing.T) {
	f := newFakeAgent(t)
	base := consecutive(t, 2)
	address := freeAddress(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, []string{"--listen", address, "--socket", f.socket, "--port-base", strconv.Itoa(base)}, t.Output())
	}()
	url := "http://" + address

	f.statuses <- running(api.UnitRunning, api.UnitRunning)
	awaitBackends(t, url, base+1, base+2)
	answers := map[string]bool{}
	for range 4 {
		_, body := fetch(t, url+"/")
		answers[body] = true
	}
	if len(answers) != 2 {
		t.Errorf("answers came from %v", answers)
	}
	f.statuses <- running(api.UnitFailed, api.UnitRunning)
	awaitBackends(t, url, base+2)

	cancel()
	if err := <-ended; err != nil {
		t.Errorf("ended with %v", err)
	}
}

// TestAsksWhenItCannotWatch has an agent that refuses to be watched.
func TestAsksWhenItCannotWatch(t *testing.T) {
	f := newFakeAgent(t)
	f.deaf.Store(true)
	s := running(api.UnitRunning)
	f.now.Store(&s)
	client := api.NewSocketClient(f.socket)
	defer client.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var got api.Status
	follow(ctx, slog.New(slog.DiscardHandler), client, func(s api.Status) {
		got = s
		cancel()
	})
	if len(got.Units) != 1 {
		t.Errorf("got %+v", got)
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// awaitBackends waits until the balancer lists the servers on these ports.
func awaitBackends(t *testing.T, url string, ports ...int) {
	t.Helper()
	want := []string{}
	for _, p := range ports {
		want = append(want, fmt.Sprintf("127.0.0.1:%d", p))
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for range 2000 {
		var got []string
		if answer, err := http.Get(url + "/backends"); err == nil {
			_ = json.NewDecoder(answer.Body).Decode(&got)
			answer.Body.Close()
			if slices.Equal(got, want) {
				return
			}
		}
		<-tick.C
	}
	t.Fatalf("the balancer never lists %v", want)
}
