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
	"path/filepath"
	"slices"
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

// TestFollowsTheAgent serves a status on a socket as the agent does.
func TestFollowsTheAgent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "muster.sock")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: http.HandlerFunc(
		func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			data, _ := json.Marshal(api.Status{Cluster: "demo"})
			fmt.Fprintf(w, "data: %s\n\n", data)
		})}}
	server.Start()
	defer server.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	client := api.NewSocketClient(path)
	defer client.Close()
	follow(ctx, slog.New(slog.DiscardHandler), client, func(s api.Status) {
		if s.Cluster == "demo" {
			cancel()
		}
	})
	if ctx.Err() != context.Canceled {
		t.Error("the agent's status did not arrive")
	}
}
