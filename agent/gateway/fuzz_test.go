package gateway

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/agent/keys"
	"github.com/musterhq/muster/agent/keysapi"
)

// noted is a keysapi.Mount over everything that keeps what it was asked for.
type noted struct{ read, written []string }

func (n *noted) Get(_ context.Context, r keys.Read) (keys.Event, error) {
	n.read = append(n.read, r.Key)
	return keys.Event{}, &keys.Error{Code: keys.CodeKeyNotFound}
}

func (n *noted) Do(_ context.Context, w keys.Write) (keys.Event, error) {
	n.written = append(n.written, w.Key)
	return keys.Event{Action: keys.ActionSet, Node: &keys.Node{Key: w.Key, Value: w.Value}}, nil
}

// FuzzContainer has a container send any request of HTTP/1: whatever its path is, read by the guard and again by the API behind
// it, nothing is written but what was granted, and the reboot lock is not named.
func FuzzContainer(f *testing.F) {
	for _, target := range []string{
		"/v2/keys/granted", "/v2/keys/granted/a?ttl=5", "/v1/keys/granted/a", "/v2/keys/granted/../a", "/v2/keys/granted/%2e%2e/a",
		"/v2/keys/granted%2f..%2fa", "//v2/keys/granted", "/v2//keys/granted", "/v2/keys//granted", "/v2/keys/./granted", "/v2/keys",
		"/v2/keys" + lockKey + "/semaphore", "/v2/keys/x/.." + lockKey, "/v1/watch/..%2f..%2fv2/keys/a", "/v1/watch/../keys/a", "/v2/keys/granted;/../a",
		"/v2/keys/granted?value=x&dir=true", "/v2/members", "*", "http://127.0.0.1/v2/keys/granted",
	} {
		for _, method := range []string{"GET", "PUT", "POST", "DELETE"} {
			f.Add(method + " " + target + " HTTP/1.1\r\nHost: 10.88.0.1\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 7\r\n\r\nvalue=x")
		}
	}
	own := grants{"/granted"}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text)))
		if err != nil {
			return
		}
		r.RemoteAddr = "10.88.0.2:1"
		asked := &noted{}
		api := keysapi.New(keysapi.Config{Keys: keys.New(keys.Config{Timeout: 1}), Mounts: map[string]keysapi.Mount{"/": asked}})
		w := recorder{httptest.NewRecorder()}
		policy := Policy{Bridged: true, From: netip.MustParsePrefix("10.88.0.0/16"), Grants: own}
		newGuard(policy, api.Handler()).ServeHTTP(w, r.WithContext(t.Context()))
		for _, key := range asked.written {
			if !own.covers(key) || path.Clean(key) != key {
				t.Errorf("%q was written by %q", key, text)
			}
		}
		for _, key := range append(asked.read, asked.written...) {
			if (grants{lockKey}).covers(key) {
				t.Errorf("the lock was named by %q", text)
			}
		}
		if body, _ := io.ReadAll(w.Result().Body); w.Code == http.StatusForbidden && !strings.HasPrefix(string(body), "{") {
			t.Errorf("%q is refused with %q", text, body)
		}
	})
}

// recorder has a connection that can be bounded in time, as http.ResponseController demands.
type recorder struct{ *httptest.ResponseRecorder }

func (recorder) SetReadDeadline(time.Time) error { return nil }
