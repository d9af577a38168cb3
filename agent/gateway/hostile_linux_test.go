package gateway

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/musterhq/muster/agent/keys"
	"github.com/musterhq/muster/agent/keysapi"
	"github.com/musterhq/muster/agent/lock"
	"github.com/musterhq/muster/agent/locksmith"
	"github.com/musterhq/muster/cluster/store"
)

// The addresses of callers: all of 127.0.0.0/8 is Linux's own, and may stand for a bridge and for a network beside it.
const (
	ownAddress       = "127.0.0.1"
	containerAddress = "127.88.0.2"
	otherContainer   = "127.88.0.3"
	networkAddress   = "127.99.0.1"
)

var bridgeNet = netip.MustParsePrefix("127.88.0.0/16")

// realKeys puts the API of versions 1 and 2 behind the gateways of a world, with a reboot lock.
func (w *world) realKeys() *aLock {
	w.Helper()
	tree := keys.New(keys.Config{Client: w.voter})
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.Context()))
	done := make(chan struct{})
	go func() { defer close(done); _ = tree.Run(ctx) }()
	w.Cleanup(func() { cancel(); <-done })
	if err := tree.Sync(ctx); err != nil {
		w.Fatal(err)
	}
	held := &aLock{}
	w.keys = keysapi.New(keysapi.Config{
		Keys: tree, Name: "node-1", ID: "1f", Mounts: map[string]keysapi.Mount{locksmith.Root: &locksmith.Mount{Locks: held}},
	}).Handler()
	return held
}

// aLock is a reboot lock that nobody holds.
type aLock struct{ swapped int }

func (l *aLock) Semaphore(_ context.Context, group string) (string, int64, error) {
	if group != lock.DefaultGroup {
		return "", 0, nil
	}
	return `{"semaphore":1,"max":1,"holders":null}`, 7, nil
}

func (l *aLock) CompareAndSwap(context.Context, string, int64, string) error {
	l.swapped++
	return nil
}

// dial connects from an address.
func dial(from, to string) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 10 * time.Second}
	return d.Dial("tcp", to)
}

// send sends a request as it is written.
func send(t testing.TB, from, to, request string) (status int, body string) {
	t.Helper()
	c, err := dial(from, to)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	written := make(chan struct{})
	go func() {
		defer close(written)
		_, _ = io.WriteString(c, request) // who is refused may be cut off in the middle
	}()
	defer func() {
		_ = c.Close()
		<-written
	}()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("a response with status %d does not end: %s", resp.StatusCode, data)
	}
	return resp.StatusCode, string(data)
}

// answer is what a caller gets: a status, and what is in the body.
type answer struct {
	status int
	has    string
}

// no is a refusal of a key, as clients of version 2 read it.
func no(status, code int, cause string) answer {
	return answer{status, fmt.Sprintf(`{"errorCode":%d,"message":%q,"cause":"muster: %s`, code, (&keys.Error{Code: code}).Message(), cause)}
}

// plain is a refusal of anything else.
func plain(status int, text string) answer {
	return answer{status, fmt.Sprintf(`{"message":"muster: %s`, text)}
}

// asker is who asks, and what it adds to a request.
type asker struct {
	name, from, to string
	host           string
	headers        []string
	denied         string // the reason for which everything is denied
}

// attempt is a request, and what programs of the host, containers, and containers with a grant for /granted get.
type attempt struct {
	name, method, path      string
	headers                 []string
	body                    string
	own, container, granted answer
}

const form = "Content-Type: application/x-www-form-urlencoded"

// attempts are what web pages, containers and strangers might try.
func attempts() []attempt {
	const lockPath = "/v2/keys" + lockKey + "/semaphore"
	get, set, v1 := answer{200, `{"action":"get"`}, answer{0, `{"action":"set"`}, answer{200, `{"action":"set"`}
	only := no(403, keys.CodeUnauthorized, "callers from behind the bridge may only read this key")
	plainly := no(403, keys.CodeUnauthorized, "a key that is changed has to be written plainly")
	locked := no(403, keys.CodeUnauthorized, "the reboot lock is for the host itself")
	keyless := plain(403, "only keys can be changed")
	moved := answer{301, ""}
	large := no(413, keys.CodeForm, "a request may have 1.5 MiB")
	value, tenMiB := "value=x", strings.Repeat("x", 10<<20)
	return []attempt{
		{"a read", "GET", "/v2/keys/a", nil, "", get, get, get},
		{"a read of v1", "GET", "/v1/keys/a", nil, "", get, get, get},
		{"a write", "PUT", "/v2/keys/a", nil, value, set, only, only},
		{"a write of v1", "PUT", "/v1/keys/a", nil, value, v1, only, only},
		{"a deletion", "DELETE", "/v2/keys/gone?recursive=true", nil, "", answer{404, `{"errorCode":100,`}, only, only},
		{"a deletion of all", "DELETE", "/v2/keys/?recursive=true", nil, "", answer{400, `{"errorCode":107,`}, only, only},
		{"a granted write", "PUT", "/v2/keys/granted/a", nil, value, set, only, set},
		{"a granted write of v1", "POST", "/v1/keys/granted/a", nil, value, v1, only, v1},
		{"a granted write in order", "POST", "/v2/keys/granted/queue", nil, value, answer{201, `{"action":"create"`}, only, answer{201, `{"action":"create"`}},
		{"like what is granted", "PUT", "/v2/keys/granted2", nil, value, set, only, only},
		{"up from what is granted", "PUT", "/v2/keys/granted/../a", nil, value, moved, plainly, plainly},
		{"up and encoded", "PUT", "/v2/keys/granted/%2e%2e/a", nil, value, moved, plainly, plainly},
		{"an encoded slash", "PUT", "/v2/keys/granted%2Fa", nil, value, set, plainly, plainly},
		{"up by encoded slashes", "PUT", "/v2/keys/granted%2F..%2Fa", nil, value, moved, plainly, plainly},
		{"two slashes", "PUT", "/v2/keys//granted/a", nil, value, moved, plainly, plainly},
		{"up from the keys", "PUT", "/v2/keys/../../muster/hosts", nil, value, moved, plainly, plainly},
		{"up from the keys, to read", "GET", "/v2/keys/../../muster/cluster", nil, "", moved, moved, moved},
		{"up from the keys, encoded", "GET", "/v2/keys/%2e%2e%2f%2e%2e%2fmuster/cluster", nil, "", moved, moved, moved},
		{"the cluster's records", "GET", "/v2/keys/muster/cluster", nil, "", answer{404, `{"errorCode":100,`}, answer{404, `{"errorCode":100,`}, answer{404, `{"errorCode":100,`}},
		{"a method of its own", "GRANTED", "/v2/keys/a", nil, "", answer{405, "Method Not Allowed"}, only, only},
		{"an absolute URL", "PUT", "http://127.0.0.1/v2/keys/a", nil, value, set, only, only},
		{"the members", "GET", "/v2/members", nil, "", answer{200, `{"members":[{"id":"1f"`}, answer{200, `{"members"`}, answer{200, `{"members"`}},
		{"another member", "POST", "/v2/members", nil, "{}", answer{403, `{"message":"members are the cluster file's affair`}, keyless, keyless},
		{"a member less", "DELETE", "/v2/members/1f", nil, "", answer{404, `{"message":"No such member`}, keyless, keyless},

		{"the reboot lock", "GET", lockPath, nil, "", get, locked, locked},
		{"the reboot lock, encoded", "GET", "/v2/keys/coreos.com%2Fupdateengine/%72ebootlock/semaphore", nil, "", get, locked, locked},
		{"the reboot lock, around", "GET", "/v2/keys/x/.." + lockKey + "/semaphore", nil, "", moved, locked, locked},
		{"the reboot lock in v1", "GET", "/v1/keys" + lockKey + "/semaphore", nil, "", get, locked, locked},
		{"to take the reboot lock", "PUT", lockPath + "?prevIndex=7", nil, value, answer{200, `{"action":"compareAndSwap"`}, locked, locked},
		{"to set the reboot lock", "PUT", lockPath, nil, value, answer{401, `{"errorCode":110,`}, locked, locked},

		{"10 MiB", "PUT", "/v2/keys/granted/a", nil, "value=" + tenMiB, large, only, large},
		{"10 MiB in pieces", "PUT", "/v2/keys/granted/a", []string{"Transfer-Encoding: chunked"}, "a00000\r\n" + tenMiB, large, only, large},
		{"10 MiB with a read", "GET", "/v2/keys/a", nil, tenMiB, large, large, large},
	}
}

// TestHostileCallers has everybody who should not try everything that they might, and nobody get further than is stated.
func TestHostileCallers(t *testing.T) {
	w := newWorld(t)
	foreign := slices.DeleteFunc(slices.Clone(beside), func(key string) bool { return strings.HasPrefix(key, keys.First) })
	for _, key := range foreign {
		w.put(key, "secret")
	}
	w.put(store.PrefixApp+"a", "value of a")
	held := w.realKeys()
	names := []string{"localhost", "node-1"}
	local := w.gateway(Policy{Names: names})
	bare := w.gateway(Policy{Bridged: true, From: bridgeNet, Names: names})
	granted := w.gateway(Policy{Bridged: true, From: bridgeNet, Grants: []string{"/granted"}, Names: names})
	const page, elsewhere = "web pages may not use the keys", "the keys are for programs of this host and for containers behind its bridge"
	all := attempts()
	for _, c := range []asker{
		{name: "a program of the host", from: ownAddress, to: local, host: "127.0.0.1:4001"},
		{name: "a program of the host, by name", from: ownAddress, to: local, host: "localhost:4001"},
		{name: "a program of the host, by IPv6", from: ownAddress, to: local, host: "[::1]:4001"},
		{name: "a container", from: containerAddress, to: bare, host: "10.88.0.1:4001"},
		{name: "a container with a grant", from: containerAddress, to: granted, host: "node-1"},
		{name: "a web page", from: ownAddress, to: local, host: "127.0.0.1:4001", headers: []string{"Origin: http://evil.example"}, denied: page},
		{name: "a web page of here", from: ownAddress, to: local, host: "127.0.0.1:4001", headers: []string{"Origin: http://127.0.0.1:4001"}, denied: page},
		{name: "a web page without a name", from: ownAddress, to: local, host: "127.0.0.1:4001", headers: []string{"Origin: null"}, denied: page},
		{name: "a picture of a web page", from: ownAddress, to: local, host: "127.0.0.1:4001", headers: []string{"Sec-Fetch-Site: cross-site"}, denied: page},
		{name: "a web page in a container", from: containerAddress, to: granted, host: "10.88.0.1:4001", headers: []string{"Origin: http://evil.example"}, denied: page},
		{name: "a name that was led here", from: ownAddress, to: local, host: "evil.example:4001", denied: "this host is not called evil.example:4001 here"},
		{name: "a name that looks like an address", from: ownAddress, to: local, host: "127.0.0.1.evil.example", denied: "this host is not called"},
		{name: "no name", from: ownAddress, to: local, denied: "this host is not called"},
		{name: "a name that was led to a container", from: containerAddress, to: granted, host: "evil.example", denied: "this host is not called"},
		{name: "a host of the network", from: networkAddress, to: granted, host: "10.88.0.1:4001", denied: elsewhere},
	} {
		for _, a := range all {
			c.tries(t, a, map[string]answer{local: a.own, bare: a.container, granted: a.granted}[c.to])
		}
	}
	for _, at := range []string{local, granted} { // it is not looked at who sends it
		if status, _ := send(t, containerAddress, at, "GET /v2/keys/a HTTP/1.1\r\nX: "+strings.Repeat("x", 64<<10)+"\r\n\r\n"); status != 431 {
			t.Errorf("a header of 64 KiB: %d", status)
		}
	}
	if held.swapped != 3 {
		t.Errorf("the reboot lock was swapped %d times, by programs of the host 3 times", held.swapped)
	}
	w.hostileV3(local, bare, granted)
	w.untouched(foreign)
}

// tries makes one attempt, and checks that what comes back is JSON that says why.
func (c asker) tries(t *testing.T, a attempt, want answer) {
	t.Helper()
	headers := append([]string{"Host: " + c.host}, c.headers...)
	if headers = append(headers, a.headers...); a.body != "" && a.headers == nil {
		headers = append(headers, form, fmt.Sprintf("Content-Length: %d", len(a.body)))
	}
	if c.denied != "" {
		if want = plain(403, c.denied); strings.Contains(a.path, "/keys") {
			want = no(403, keys.CodeUnauthorized, c.denied)
		}
		if a.path == "http://127.0.0.1/v2/keys/a" && strings.HasPrefix(c.denied, "this host") {
			want = map[string]answer{containerAddress: a.granted}[c.from] // the URL's name is the one that counts (RFC 9112, 3.2.2)
			if c.from == ownAddress {
				want = a.own
			}
		}
	}
	status, body := send(t, c.from, c.to, request(a.method, a.path, headers...)+a.body)
	if want.status == 0 {
		want.status = map[bool]int{true: 201, false: 200}[status == 201] // whether it was there before
	}
	if status != want.status || !strings.HasPrefix(body, want.has) {
		t.Errorf("%s, %s: %d %.200s; want %d %s", c.name, a.name, status, body, want.status, want.has)
	}
	if want.has != "" && want.has[0] == '{' && !json.Valid([]byte(body)) {
		t.Errorf("%s, %s: %.200s is no JSON", c.name, a.name, body)
	}
}

// hostileV3 is the matrix of version 3.
func (w *world) hostileV3(local, bare, granted string) {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), time.Minute)
	defer cancel()
	const ok, denied, missing = codes.OK, codes.PermissionDenied, codes.Unimplemented
	type callers struct{ own, container, granted codes.Code }
	page := metadata.AppendToOutgoingContext(ctx, "origin", "http://evil.example")
	own, container, grantee := w.clientFrom(ownAddress, local), w.clientFrom(containerAddress, bare), w.clientFrom(containerAddress, granted)
	stranger := w.clientFrom(networkAddress, granted)
	for _, tt := range []struct {
		name string
		call func(context.Context, *clientv3.Client) error
		want callers
	}{
		{"reads", get("/a"), callers{ok, ok, ok}},
		{"reads the cluster's records", get("/../muster/cluster"), callers{ok, ok, ok}}, // and gets none
		{"writes", put("/a"), callers{ok, denied, denied}},
		{"writes what is granted", put("/granted/x"), callers{ok, denied, ok}},
		{"writes beside it", put("/granted2"), callers{ok, denied, denied}},
		{"writes two slashes", put("//granted/x"), callers{ok, denied, denied}},
		{"writes up from what is granted", put("/granted/../x"), callers{ok, denied, ok}}, // a name like any other
		{"writes up from the keys", put("/../muster/cluster"), callers{ok, denied, denied}},
		{"writes where the lock is in version 2", put(lockKey + "/semaphore"), callers{ok, denied, denied}}, // and not the lock
		{"lists members", func(ctx context.Context, c *clientv3.Client) error { _, err := c.MemberList(ctx); return err }, callers{ok, ok, ok}},
		{"adds a member", func(ctx context.Context, c *clientv3.Client) error {
			_, err := c.MemberAdd(ctx, []string{"http://127.0.0.1:1"})
			return err
		}, callers{missing, missing, missing}},
		{"adds a user", func(ctx context.Context, c *clientv3.Client) error { _, err := c.UserAdd(ctx, "root", "x"); return err }, callers{missing, missing, missing}},
		{"takes a snapshot", func(ctx context.Context, c *clientv3.Client) error {
			r, err := c.Snapshot(ctx)
			if err == nil {
				_, err = io.Copy(io.Discard, r)
			}
			return err
		}, callers{missing, missing, missing}},
	} {
		for _, by := range []struct {
			name string
			ctx  context.Context
			c    *clientv3.Client
			want codes.Code
		}{
			{"a program of the host", ctx, own, tt.want.own},
			{"a container", ctx, container, tt.want.container},
			{"a container with a grant", ctx, grantee, tt.want.granted},
			{"a web page", page, own, denied},
			{"a host of the network", ctx, stranger, denied},
		} {
			if got := codeOf(tt.call(by.ctx, by.c)); got != by.want {
				w.Errorf("%s %s: %v, want %v", by.name, tt.name, got, by.want)
			}
		}
	}
	if resp, err := own.Get(ctx, "", clientv3.WithFromKey()); err != nil || strings.Contains(fmt.Sprint(resp.Kvs), "secret") {
		w.Errorf("everything is %v, %v", resp, err)
	}
}

func get(key string) func(context.Context, *clientv3.Client) error {
	return func(ctx context.Context, c *clientv3.Client) error { _, err := c.Get(ctx, key); return err }
}

func put(key string) func(context.Context, *clientv3.Client) error {
	return func(ctx context.Context, c *clientv3.Client) error { _, err := c.Put(ctx, key, "x"); return err }
}

// codeOf looks through clientv3's own errors.
func codeOf(err error) codes.Code {
	if of, ok := err.(interface{ Code() codes.Code }); ok {
		return of.Code()
	}
	return status.Code(err)
}

func (w *world) clientFrom(from, to string) *clientv3.Client {
	w.Helper()
	c, err := clientv3.New(clientv3.Config{
		Endpoints: []string{"http://" + to}, Logger: zap.NewNop(), DialTimeout: 10 * time.Second,
		DialOptions: []grpc.DialOption{grpc.WithContextDialer(func(_ context.Context, to string) (net.Conn, error) { return dial(from, to) })},
	})
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _ = c.Close() })
	return c
}
