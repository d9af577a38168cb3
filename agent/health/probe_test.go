package health

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/agent/unitfile"
)

func probe(t *testing.T, kind, target string, run Exec) string {
	t.Helper()
	return Probe(t.Context(), Target{Unit: "a.service", Check: unitfile.HealthCheck{Kind: kind, Target: target, Timeout: 10 * time.Second}}, run)
}

func TestProbeHTTP(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
	}))
	defer elsewhere.Close()
	mux := http.NewServeMux()
	mux.HandleFunc("/good", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/empty", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("/unchanged", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotModified) })
	mux.HandleFunc("/bad", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "full", http.StatusServiceUnavailable) })
	mux.Handle("/to-good", http.RedirectHandler("/good", http.StatusFound))
	mux.Handle("/to-bad", http.RedirectHandler("/bad", http.StatusFound))
	mux.Handle("/away", http.RedirectHandler(elsewhere.URL, http.StatusFound))
	mux.Handle("/round", http.RedirectHandler("/round", http.StatusFound))
	mux.HandleFunc("/endless", func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			_, _ = w.Write(make([]byte, 1<<16))
		}
	})
	s := httptest.NewServer(mux)
	defer s.Close()
	for path, want := range map[string]string{
		"/good": "", "/empty": "", "/unchanged": "", "/to-good": "", "/away": "", "/endless": "",
		"/bad": "it answers 503 Service Unavailable", "/to-bad": "it answers 503 Service Unavailable",
		"/none": "it answers 404 Not Found", "/round": "redirected too often",
	} {
		if got := probe(t, "http", s.URL+path, nil); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}

func TestProbeTCP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if got := probe(t, "tcp", l.Addr().String(), nil); got != "" {
		t.Errorf("somebody listens: %s", got)
	}
	_ = l.Close()
	for _, kind := range []string{"tcp", "http"} {
		target := l.Addr().String()
		if kind == "http" {
			target = "http://" + target + "/health"
		}
		if got := probe(t, kind, target, nil); !strings.Contains(got, "connection refused") || strings.Contains(got, "/health") {
			t.Errorf("nobody listens: %q", got)
		}
	}
}

func TestProbeExec(t *testing.T) {
	var got []string
	run := func(output string, err error) Exec {
		return func(_ context.Context, t Target, words []string) (string, error) {
			got = append([]string{t.Unit}, words...)
			return output, err
		}
	}
	if reason := probe(t, "exec", "/bin/check 'a b' c", run("all is well\n", nil)); reason != "" {
		t.Error(reason)
	}
	if want := `["a.service" "/bin/check" "a b" "c"]`; fmt.Sprintf("%q", got) != want {
		t.Errorf("ran %q, want %s", got, want)
	}
	for output, want := range map[string]string{
		"": "exit status 3", "disk\nfull \n": "exit status 3: disk full",
		strings.Repeat("é", 500): "exit status 3: " + strings.Repeat("é", maxReason-len("exit status 3: ")) + "...",
	} {
		if reason := probe(t, "exec", "/bin/check", run(output, errors.New("exit status 3"))); reason != want {
			t.Errorf("%q, want %q", reason, want)
		}
	}
}

// TestProbeTakesItsTimeAndNoMore: what does not answer has failed after the timeout.
func TestProbeTakesItsTimeAndNoMore(t *testing.T) {
	hang := func(ctx context.Context, _ Target, _ []string) (string, error) {
		<-ctx.Done()
		return "", ctx.Err()
	}
	target := Target{Check: unitfile.HealthCheck{Kind: "exec", Target: "/bin/check", Timeout: 10 * time.Millisecond}}
	if got, want := Probe(t.Context(), target, hang), "no answer within 10ms"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
