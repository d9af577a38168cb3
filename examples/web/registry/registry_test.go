package registry

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
)

// TestFollow has the keys change, fail, and forget what was.
func TestFollow(t *testing.T) {
	const at = `{"action":"get","node":{"key":"/services/api","dir":true,"nodes":[%s]}}`
	answers := make(chan http.HandlerFunc)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case answer := <-answers:
			answer(w, r)
		case <-r.Context().Done():
		}
	}))
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	seen, done := make(chan []string, 10), make(chan struct{})
	go func() {
		defer close(done)
		d := Directory{Keys: "http://" + nobody(t) + "," + server.URL, Key: "/services/api"}
		d.Follow(ctx, slog.New(slog.DiscardHandler), func(servers []string) { seen <- servers })
	}()
	list := func(nodes string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Has("wait") || r.URL.Path != "/v2/keys/services/api" {
				t.Errorf("asked for %s", r.URL)
			}
			w.Header().Set("X-Etcd-Index", "41")
			fmt.Fprintf(w, at, nodes)
		}
	}
	wait := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if q := r.URL.Query(); q.Get("wait") != "true" || q.Get("recursive") != "true" || q.Get("waitIndex") != "42" {
				t.Errorf("asked for %s", r.URL)
			}
			w.WriteHeader(status)
		}
	}
	for _, tt := range []struct {
		answers []http.HandlerFunc
		want    []string
	}{
		{[]http.HandlerFunc{func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Etcd-Index", "41")
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `{"errorCode":100,"message":"Key not found","cause":"/services","index":41}`)
		}}, []string{}},
		{
			[]http.HandlerFunc{wait(200), list(`{"key":"/b","value":"10.0.0.2:80"},{"key":"/a","value":"10.0.0.1:80"},{"key":"/c","value":"10.0.0.1:80"}`)},
			[]string{"10.0.0.1:80", "10.0.0.2:80"},
		},
		{[]http.HandlerFunc{wait(400), list(`{"key":"/a","value":"x; } evil"},{"key":"/b","value":"10.0.0.2:80"}`)}, []string{"10.0.0.2:80"}},
		{[]http.HandlerFunc{wait(200), func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, list(``)}, []string{}},
	} {
		for _, a := range tt.answers {
			answers <- a
		}
		if got := <-seen; !slices.Equal(got, tt.want) {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
	cancel()
	<-done
}

// nobody is an address at which nobody listens.
func nobody(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}
