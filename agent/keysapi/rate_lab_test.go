//go:build lab

package keysapi

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"regexp"
	"runtime"
	"testing"

	"github.com/musterhq/muster/agent/keys"
	"github.com/musterhq/muster/agent/keys/keystest"
)

var rate = regexp.MustCompile(`(?m)^\s+50%\s.*$|^Requests/sec:.*$`)

// TestLabRate has wrk, on the other core, ask for a cached key, and a handler that only writes the same bytes. It measures; what
// is promised is with BenchmarkGet.
func TestLabRate(t *testing.T) {
	if _, err := exec.LookPath("wrk"); err != nil {
		t.Fatal("there is no wrk: install Debian's wrk")
	}
	store := startStore(t, keystest.Start(t, "").Client)
	if _, err := store.Do(t.Context(), keys.Write{Key: "/database", Value: "10.0.0.7:5432"}); err != nil {
		t.Fatal(err)
	}
	bare := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"action":"get","node":{"key":"/database","value":"10.0.0.7:5432","modifiedIndex":2,"createdIndex":2}}`)
	})
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for name, handler := range map[string]http.Handler{"bare": bare, "keys": New(Config{Keys: store}).Handler()} {
		server := httptest.NewServer(handler)
		for _, connections := range []string{"1", "16"} {
			cmd := exec.CommandContext(t.Context(), "wrk", "-t1", "-c", connections, "-d3", "--latency", server.URL+"/v2/keys/database")
			out, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%s, %s connections: %q", name, connections, rate.FindAllString(string(out), -1))
		}
		server.Close()
	}
}
