package keysapi

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/agent/keys"
	"github.com/musterhq/muster/agent/keys/keystest"
)

func call(t *testing.T, base, method, path, body string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, base+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b)
}

var times = regexp.MustCompile(`"expiration":"[^"]*"`)

// TestAnswers holds what no genuine server can be asked, version 1 above all, and a few of version 2 for runs without one.
// Indices are as they are in a new cluster.
func TestAnswers(t *testing.T) {
	base, _ := startServer(t)
	steps := []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"PUT", "/v2/keys/a/b", "value=x", 201, `{"action":"set","node":{"key":"/a/b","value":"x","modifiedIndex":2,"createdIndex":2}}`},
		{"GET", "/v2/keys/a", "", 200, `{"action":"get","node":{"key":"/a","dir":true,"nodes":[{"key":"/a/b","value":"x","modifiedIndex":2,"createdIndex":2}],"modifiedIndex":2,"createdIndex":2}}`},
		{"GET", "/v2/keys/none", "", 404, `{"errorCode":100,"message":"Key not found","cause":"/none","index":2}`},
		{"GET", "/v2/keys/a?wait=true&waitIndex=2&recursive=true", "", 200, `{"action":"set","node":{"key":"/a/b","value":"x","modifiedIndex":2,"createdIndex":2}}`},
		{"GET", "/v1/keys/a/b", "", 200, `{"action":"get","key":"/a/b","value":"x","index":2}`},
		{"GET", "/v1/keys/a", "", 200, `[{"action":"get","key":"/a/b","value":"x","index":2}]`},
		{"GET", "/v1/keys/", "", 200, `[{"action":"get","key":"/a","dir":true,"index":2}]`},
		{"POST", "/v1/keys/foo/bar", "value=XXX", 200, `{"action":"set","key":"/foo/bar","value":"XXX","newKey":true,"index":3}`},
		{"PUT", "/v1/keys/foo/bar", "value=YYY", 200, `{"action":"set","key":"/foo/bar","prevValue":"XXX","value":"YYY","index":4}`},
		{"PUT", "/v1/keys/foo/bar", "value=Z&prevValue=YYY", 200, `{"action":"testAndSet","key":"/foo/bar","prevValue":"YYY","value":"Z","index":5}`},
		{"PUT", "/v1/keys/foo/bar", "value=Z&prevValue=YYY", 412, `{"errorCode":101,"message":"Compare failed","cause":"[YYY != Z]","index":5}`},
		{"PUT", "/v1/keys/foo/bar", "value=Z&prevValue=", 412, `{"errorCode":105,"message":"Key already exists","cause":"/foo/bar","index":5}`},
		{"PUT", "/v1/keys/foo/new", "value=N&prevValue=", 200, `{"action":"testAndSet","key":"/foo/new","value":"N","newKey":true,"index":6}`},
		{"PUT", "/v1/keys/foo/bar", "", 400, `{"errorCode":200,"message":"Value is Required in POST form","cause":"Set","index":0}`},
		{"PUT", "/v1/keys/foo/bar", "value=x&ttl=y", 400, `{"errorCode":202,"message":"The given TTL in POST form is not a number","cause":"invalid value for \"ttl\"","index":0}`},
		{"PUT", "/v1/keys/foo/ttl", "value=x&ttl=100", 200, `{"action":"set","key":"/foo/ttl","value":"x","newKey":true,TIME,"ttl":100,"index":7}`},
		{"POST", "/v1/watch/foo", "index=4", 200, `{"action":"set","key":"/foo/bar","prevValue":"XXX","value":"YYY","index":4}`},
		{"GET", "/v1/watch/foo?index=x", "", 400, `{"errorCode":203,"message":"The given index in POST form is not a number","cause":"invalid value for \"index\"","index":0}`},
		{"DELETE", "/v1/keys/foo/bar", "", 200, `{"action":"delete","key":"/foo/bar","prevValue":"Z","index":8}`},
		{"DELETE", "/v1/keys/foo", "", 403, `{"errorCode":102,"message":"Not a file","cause":"/foo","index":8}`},
		{"GET", "/v1/machines", "", 200, base},
		{"GET", "/v1/leader", "", 200, base},
		{"GET", "/v2/members", "", 200, `{"members":[{"id":"1f","name":"ours","peerURLs":[],"clientURLs":["` + base + `"]}]}`},
		{"GET", "/health", "", 200, `{"health":"true"}`},
		{"PATCH", "/v1/keys/foo", "", 405, "Method Not Allowed"},
	}
	for _, step := range steps {
		resp, body := call(t, base, step.method, step.path, step.body)
		body = times.ReplaceAllString(strings.TrimSuffix(body, "\n"), "TIME")
		if resp.StatusCode != step.status || body != step.want {
			t.Errorf("%s %s %s:\n got %d %s\nwant %d %s", step.method, step.path, step.body, resp.StatusCode, body, step.status, step.want)
		}
	}
}

// TestStreamGoesOn holds what a genuine server does not do: a stream that begins in the past goes on into the future.
func TestStreamGoesOn(t *testing.T) {
	base, _ := startServer(t)
	for _, value := range []string{"1", "2"} {
		call(t, base, "PUT", "/v2/keys/s", "value="+value)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/v2/keys/s?wait=true&stream=true&waitIndex=2", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	call(t, base, "PUT", "/v2/keys/s", "value=3")
	for _, want := range []string{`"1"`, `"2"`, `"3"`} {
		line := make([]byte, 512)
		n := 0
		for !strings.HasSuffix(string(line[:n]), "\n") {
			if _, err := resp.Body.Read(line[n : n+1]); err != nil {
				t.Fatal(err)
			}
			n++
		}
		if !strings.Contains(string(line[:n]), `"value":`+want) {
			t.Errorf("got %s, want %s", line[:n], want)
		}
	}
}

// TestAway takes the store away: what is known is read on, and marked; what needs the store is refused.
func TestAway(t *testing.T) {
	etcd := keystest.Start(t, "")
	store := startStoreOf(t, keys.Config{Client: etcd.Client, Timeout: time.Second})
	server := httptest.NewServer(New(Config{Keys: store}).Handler())
	defer server.Close()
	call(t, server.URL, "PUT", "/v2/keys/a", "value=known")
	etcd.Stop()
	resp, body := call(t, server.URL, "PUT", "/v2/keys/a", "value=x")
	if resp.StatusCode != 500 || !strings.HasPrefix(body, `{"errorCode":300,"message":"Raft Internal Error","cause":"`) {
		t.Errorf("a write was answered with %d %s", resp.StatusCode, body)
	}
	if resp, body := call(t, server.URL, "GET", "/health", ""); resp.StatusCode != 503 || body != `{"health":"false"}` {
		t.Errorf("health: %d %s", resp.StatusCode, body)
	}
	for resp.Header.Get("X-Muster-Stale") == "" {
		resp, body = call(t, server.URL, "GET", "/v2/keys/a", "")
		if resp.StatusCode != 200 || !strings.Contains(body, "known") {
			t.Fatalf("a read was answered with %d %s", resp.StatusCode, body)
		}
	}
}

// seen is a Mount over everything that keeps which keys it was asked for.
type seen struct{ keys []string }

func (s *seen) Get(_ context.Context, r keys.Read) (keys.Event, error) {
	s.keys = append(s.keys, r.Key)
	return keys.Event{}, &keys.Error{Code: keys.CodeKeyNotFound}
}

func (s *seen) Do(_ context.Context, w keys.Write) (keys.Event, error) {
	s.keys = append(s.keys, w.Key)
	return keys.Event{Action: keys.ActionSet, Node: &keys.Node{Key: w.Key, Value: w.Value}}, nil
}

func (s *seen) check(t *testing.T) {
	for _, key := range s.keys {
		if !strings.HasPrefix(key, "/") || path.Clean(key) != key {
			t.Errorf("the store was asked for %q", key)
		}
	}
}

// TestMount has somebody else serve a subtree: it is in no listing, nothing of it reaches the store, and it cannot be waited
// for.
func TestMount(t *testing.T) {
	store := startStore(t, keystest.Start(t, "").Client)
	mount := &seen{}
	server := httptest.NewServer(New(Config{Keys: store, Mounts: map[string]Mount{"/coreos.com/lock": mount}}).Handler())
	defer server.Close()
	for _, step := range []struct {
		method, path string
		status       int
	}{
		{"PUT", "/v2/keys/coreos.com/lock/semaphore?prevExist=false&value=x", 201},
		{"GET", "/v2/keys/coreos.com/lock/groups/web+1/semaphore", 404},
		{"GET", "/v2/keys/coreos.com/lock", 404},
		{"GET", "/v2/keys/coreos.com/lock/semaphore?wait=true", 400},
		{"PUT", "/v2/keys/coreos.com/locksmith?value=x", 201},
	} {
		if resp, body := call(t, server.URL, step.method, step.path, ""); resp.StatusCode != step.status {
			t.Errorf("%s %s: %d %s", step.method, step.path, resp.StatusCode, body)
		}
	}
	want := []string{"/coreos.com/lock/semaphore", "/coreos.com/lock/groups/web+1/semaphore", "/coreos.com/lock"}
	if !slices.Equal(mount.keys, want) {
		t.Errorf("the mount was asked for %q", mount.keys)
	}
	if _, body := call(t, server.URL, "GET", "/v2/keys/coreos.com", ""); strings.Contains(body, `"/coreos.com/lock"`) {
		t.Errorf("a listing shows %s", body)
	}
}

// FuzzRequest sends any path, query and form: the server answers, and only ever asks for clean paths, which all lie in the
// applications' keys.
func FuzzRequest(f *testing.F) {
	for _, s := range []string{
		"/v2/keys/a?prevIndex=1&ttl=5", "/v2/keys/../../muster/hosts", "/v2/keys/%2e%2e/%2e%2e/x", "//v2//keys", "/v1/keys/a",
		"/v2/keys/a?prevExist=false&refresh=true&dir=true&prevValue=x", "/v2/keys/a%2Fb%00?recursive=true", "/v1/keys/%ff/%22?ttl=1&prevValue=", "/v1/leader",
		"/v2/stats/store", "/v2/keys?quorum=true&sorted=1&noValueOnSuccess=true&waitIndex=-1", "/v1/watch/a?index=3", "/v2/members/x", "/v2/keys?wait=true&stream=1", "/version",
	} {
		for method := range uint8(5) {
			f.Add(method, s, "value=x&ttl=1")
		}
	}
	methods := []string{"GET", "PUT", "POST", "DELETE", "PATCH"}
	f.Fuzz(func(t *testing.T, method uint8, target, form string) {
		u, err := url.ParseRequestURI(target)
		if err != nil || u.Path == "" {
			return
		}
		mount := &seen{}
		s := New(Config{Keys: keys.New(keys.Config{Timeout: 1}), Mounts: map[string]Mount{"/": mount}})
		r := &http.Request{
			Method: methods[int(method)%len(methods)], URL: u, Host: "h", Header: http.Header{},
			Body: io.NopCloser(strings.NewReader(form)),
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w := &recorder{header: http.Header{}}
		s.Handler().ServeHTTP(w, r.WithContext(t.Context()))
		if w.status != 0 && (w.status < 200 || w.status > 599) {
			t.Errorf("status %d", w.status)
		}
		if w.header.Get("Content-Type") == "application/json" && w.body.Len() > 0 && !json.Valid(w.body.Bytes()) {
			t.Errorf("%s %q is answered with %q", r.Method, target, &w.body)
		}
		mount.check(t)
	})
}

// recorder keeps what is answered.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) Write(b []byte) (int, error) { return r.body.Write(b) }
func (r *recorder) WriteHeader(status int)      { r.status = status }
