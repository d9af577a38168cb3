package gateway

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/musterhq/muster/cluster/store"
)

// do sends a request as it is written, and returns the answer's status and what reached the keys.
func do(t *testing.T, address, request string) (status int, reached string) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	written := make(chan struct{})
	go func() {
		defer close(written)
		_, _ = io.WriteString(conn, request) // who is refused may be cut off in the middle
	}()
	defer func() {
		_ = conn.Close()
		<-written
	}()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	return resp.StatusCode, resp.Header.Get("Reached")
}

func request(method, path string, headers ...string) string {
	return method + " " + path + " HTTP/1.1\r\n" + strings.Join(append(headers, ""), "\r\n") + "\r\n"
}

// TestBridgedV3 has a container write over gRPC.
func TestBridgedV3(t *testing.T) {
	w := newWorld(t)
	address := w.gateway(Policy{Bridged: true, Grants: []string{"/granted"}})
	ctx := w.Context()
	w.put(store.PrefixApp+"a", "x")
	c, inside := w.client("http://"+address), w.client("http://"+w.gateway(Policy{}))
	foreign, err := inside.Grant(ctx, 60)
	if err != nil {
		w.Fatal(err)
	}
	if _, err := inside.Put(ctx, "/a", "x", clientv3.WithLease(foreign.ID)); err != nil {
		w.Fatal(err)
	}
	own, err := c.Grant(ctx, 60)
	if err != nil {
		w.Fatal(err)
	}
	for name, tt := range map[string]struct {
		may  bool
		call func() error
	}{
		"reads":           {true, func() error { _, err := c.Get(ctx, "a"); return err }},
		"writes":          {false, func() error { _, err := c.Put(ctx, "a", "y"); return err }},
		"writes its own":  {true, func() error { _, err := c.Put(ctx, "granted/x", "y", clientv3.WithLease(own.ID)); return err }},
		"writes it as /":  {true, func() error { _, err := c.Put(ctx, "/granted", "y"); return err }},
		"writes beside":   {false, func() error { _, err := c.Put(ctx, "/granted2", "y"); return err }},
		"deletes":         {false, func() error { _, err := c.Delete(ctx, "a"); return err }},
		"deletes all":     {false, func() error { _, err := c.Delete(ctx, "", clientv3.WithFromKey()); return err }},
		"deletes its own": {true, func() error { _, err := c.Delete(ctx, "/granted/", clientv3.WithPrefix()); return err }},
		"deletes more":    {false, func() error { _, err := c.Delete(ctx, "/granted/", clientv3.WithFromKey()); return err }},
		"hides a write": {false, func() error {
			_, err := c.Txn(ctx).Else(clientv3.OpTxn(nil, nil, []clientv3.Op{clientv3.OpPut("a", "y")})).Commit()
			return err
		}},
		"reads in a txn": {true, func() error {
			_, err := c.Txn(ctx).Then(clientv3.OpGet("a"), clientv3.OpPut("granted/y", "")).Commit()
			return err
		}},
		"revokes another's": {false, func() error { _, err := c.Revoke(ctx, foreign.ID); return err }},
		"keeps another's":   {false, func() error { _, err := c.KeepAliveOnce(ctx, foreign.ID); return err }},
		"keeps its own":     {true, func() error { _, err := c.KeepAliveOnce(ctx, own.ID); return err }},
		"watches everything": {true, func() error {
			r := <-c.Watch(ctx, "", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
			return r.Err()
		}},
	} {
		if err := tt.call(); (err == nil) != tt.may {
			w.Errorf("a container %s: %v", name, err)
		}
	}
	mute := w.client("http://" + w.gateway(Policy{Bridged: true}))
	if _, err := mute.Grant(ctx, 60); err == nil {
		w.Error("a container without a grant has a lease")
	}
	if got, err := inside.Get(ctx, "a"); err != nil || string(got.Kvs[0].Value) != "x" {
		w.Errorf("it is now %v, %v", got, err)
	}
}

// TestSlowBodies has many callers that dribble: they are cut off, and nobody else waits for them.
func TestSlowBodies(t *testing.T) {
	w := newWorld(t)
	address := w.gateway(Policy{Bridged: true, Grants: []string{"/granted"}})
	var slow []net.Conn
	for range 50 {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		if _, err := io.WriteString(conn, request("PUT", "/v2/keys/granted/a", "Host: 127.0.0.1", "Content-Length: 1000")+"v"); err != nil {
			t.Fatal(err)
		}
		slow = append(slow, conn)
	}
	for range 50 {
		if got, _ := do(t, address, request("GET", "/v2/keys/a", "Host: 127.0.0.1")); got != 200 {
			t.Fatalf("others get %d", got)
		}
	}
	for _, conn := range slow {
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Error(err)
		}
		if resp.StatusCode != http.StatusRequestTimeout {
			t.Errorf("a slow caller gets %s", resp.Status)
		}
	}
}

// TestLongPoll waits longer than a body may take: the bound is on the body alone.
func TestLongPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		wait := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			select {
			case <-time.After(10 * bodyPatience):
				fmt.Fprintf(w, "%s", body)
			case <-r.Context().Done():
			}
		})
		guarded := newGuard(Policy{}, wait)
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.RemoteAddr = "127.0.0.1:1"
			guarded.ServeHTTP(w, r)
		})}
		l := &oneConn{conn: server, closed: make(chan struct{})}
		go func() { _ = srv.Serve(l) }()
		if _, err := io.WriteString(client, request("POST", "/v1/watch/a", "Host: 127.0.0.1", "Content-Length: 7")+"index=1"); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(client), nil)
		if err != nil {
			t.Fatal(err)
		}
		var body bytes.Buffer
		if _, err := io.Copy(&body, resp.Body); err != nil || body.String() != "index=1" {
			t.Errorf("after a while: %q, %v", &body, err)
		}
		_ = client.Close()
		_ = srv.Close()
	})
}

// oneConn is a listener with one connection.
type oneConn struct {
	conn   net.Conn
	closed chan struct{}
}

func (l *oneConn) Accept() (net.Conn, error) {
	if c := l.conn; c != nil {
		l.conn = nil
		return c, nil
	}
	<-l.closed
	return nil, net.ErrClosed
}
func (l *oneConn) Close() error   { close(l.closed); return nil }
func (l *oneConn) Addr() net.Addr { return &net.TCPAddr{} }

// TestShares has one container ask all the time, and another now and then.
func TestShares(t *testing.T) {
	now := time.Unix(0, 0)
	next := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	g := newGuard(Policy{Bridged: true, From: netip.MustParsePrefix("10.0.0.0/8")}, next)
	g.now = func() time.Time { return now }
	ask := func(from string) int {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "/v2/keys/a", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host, r.RemoteAddr = "10.88.0.1", from
		w := &statusWriter{header: http.Header{}}
		g.ServeHTTP(w, r)
		return w.status
	}
	refused := 0
	for range 10 * ratePerSec {
		now = now.Add(time.Millisecond)
		if ask("10.88.0.2:1") == http.StatusTooManyRequests {
			refused++
		}
		if now.UnixMilli()%100 == 0 && ask("10.88.0.3:1") == http.StatusTooManyRequests {
			t.Fatal("another container is refused")
		}
	}
	if served := 10*ratePerSec - refused; served > burst+2*ratePerSec+1 || served < burst+2*ratePerSec-1 {
		t.Errorf("%d of a burst were served", served)
	}
	for i := range 2 * maxCallers {
		if ask(fmt.Sprintf("10.%d.%d.%d:1", i>>16&0xff, i>>8&0xff, i&0xff)) == http.StatusTooManyRequests {
			t.Fatalf("caller %d is refused", i)
		}
	}
	if len(g.callers) > maxCallers || g.all != 0 {
		t.Errorf("%d callers are remembered, %d at work", len(g.callers), g.all)
	}
}

type statusWriter struct {
	header http.Header
	status int
}

func (w *statusWriter) Header() http.Header         { return w.header }
func (w *statusWriter) WriteHeader(status int)      { w.status = status }
func (w *statusWriter) Write(b []byte) (int, error) { return len(b), nil }
