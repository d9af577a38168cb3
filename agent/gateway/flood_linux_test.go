package gateway

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/musterhq/muster/agent/keys"
	"github.com/musterhq/muster/cluster/store"
)

// flood is a container that wants all of a host, and counts what it gets.
type flood struct {
	*testing.T
	to   string
	idle sync.WaitGroup

	mu    sync.Mutex
	got   map[int]int // answers by status, 0 for none
	conns []net.Conn
}

// ask sends a request on a connection of its own and, if it shall, leaves it there.
func (f *flood) ask(request string, wait bool) {
	c, err := dial(containerAddress, f.to)
	if err != nil {
		f.count(0)
		return
	}
	f.mu.Lock()
	f.conns = append(f.conns, c)
	f.mu.Unlock()
	f.idle.Go(func() {
		_, _ = io.WriteString(c, request)
		if wait {
			return
		}
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			f.count(0)
			return
		}
		f.count(resp.StatusCode)
		_ = resp.Body.Close()
		_ = c.Close()
	})
}

func (f *flood) count(status int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.got[status]++
}

func (f *flood) end() {
	for _, c := range f.conns {
		_ = c.Close()
	}
	f.idle.Wait()
}

// TestNobodySlowsOthers has one container do all at once what it should not, and others ask meanwhile: none of their requests
// is refused or lost.
func TestNobodySlowsOthers(t *testing.T) {
	w := newWorld(t)
	w.put(store.PrefixApp+"a", "value of a") // before the keys are read, or it ends a long poll
	w.realKeys()
	local := w.gateway(Policy{})
	bridged := w.gateway(Policy{Bridged: true, From: bridgeNet, Grants: []string{"/granted"}})
	f := &flood{T: t, to: bridged, got: map[int]int{}}
	defer f.end()
	const host = "Host: 10.88.0.1"
	f.waits(request("GET", "/v2/keys/a?wait=true", host))
	for range 50 {
		f.ask(request("PUT", "/v2/keys/granted/a", host, form, "Content-Length: 1000")+"v", true)
	}
	for range 10 {
		f.ask(request("PUT", "/v2/keys/granted/a", host, form, fmt.Sprint("Content-Length: ", 10<<20))+strings.Repeat("x", 1<<20), false)
	}
	for range connsEach { // some of which are one too many
		f.ask("GET /v2/keys/a HTTP/1.1\r\n", true)
	}
	watches := f.watches(w)

	var others sync.WaitGroup
	var served atomic.Int64
	for _, by := range []struct{ from, to string }{{otherContainer, bridged}, {ownAddress, local}} {
		others.Go(func() {
			for i := range 100 {
				path := []string{"/v2/keys/a", "/v1/keys/a", "/v2/keys/a?quorum=true", "/v2/members"}[i%4]
				if status, body := send(t, by.from, by.to, request("GET", path, host)); status != 200 {
					t.Errorf("%s gets %d %s", by.from, status, body)
					continue
				}
				served.Add(1)
			}
			if status, body := send(t, by.from, by.to, request("PUT", "/v2/keys/granted/b", host, form, "Content-Length: 7")+"value=x"); status != 200 && status != 201 {
				t.Errorf("%s writes: %d %s", by.from, status, body)
			}
		})
	}
	for range 2 * burst {
		f.ask(request("GET", "/v2/keys/a", host), false)
	}
	others.Wait()
	if served.Load() != 200 {
		t.Errorf("%d of 200 requests of others were served", served.Load())
	}
	watches()
	f.mu.Lock()
	defer f.mu.Unlock()
	for status := range f.got {
		if !slices.Contains([]int{0, 200, 413, 429}, status) {
			t.Errorf("a flood gets %v", f.got)
		}
	}
}

// waits begins as many long polls as one caller gets, and one too many.
func (f *flood) waits(request string) {
	f.Helper()
	for range callsEach {
		c, err := dial(containerAddress, f.to)
		if err != nil {
			f.Fatal(err)
		}
		f.conns = append(f.conns, c)
		if _, err := io.WriteString(c, request); err != nil {
			f.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || resp.StatusCode != 200 {
			f.Fatalf("a long poll gets %v, %v", resp, err)
		}
	}
	want := no(429, keys.CodeRaft, "too many requests")
	if status, body := send(f, containerAddress, f.to, request); status != want.status || !strings.HasPrefix(body, want.has) {
		f.Errorf("one long poll too many gets %d %s", status, body)
	}
}

// watches begins more watches of version 3 than one caller gets; others can begin one meanwhile.
func (f *flood) watches(w *world) (end func()) {
	f.Helper()
	ctx, cancel := context.WithCancel(f.Context())
	c := w.clientFrom("127.88.0.9", f.to)
	all := c.Watch(ctx, "/", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	if r := <-all; r.Err() != nil {
		f.Errorf("the first watch: %v", r.Err())
	}
	for range maxWatches + 10 { // of one stream, which ends with the one too many
		c.Watch(ctx, "/", clientv3.WithPrefix())
	}
	other := w.clientFrom(otherContainer, f.to)
	if r := <-other.Watch(ctx, "/a", clientv3.WithCreatedNotify()); r.Err() != nil {
		f.Errorf("another container cannot watch: %v", r.Err())
	}
	return cancel
}

// TestConnections has a caller open more than it gets.
func TestConnections(t *testing.T) {
	l := newListener(nil, Policy{Bridged: true})
	one, two := addressIn("10.88.0.2:1"), addressIn("[::ffff:10.88.0.3]:1")
	for i := range connsEach + 1 {
		if got := l.take(one); got != (i < connsEach) {
			t.Fatalf("connection %d: %v", i, got)
		}
	}
	if !l.take(two) {
		t.Error("another caller gets none")
	}
	l.giveBack(one)
	if !l.take(one) {
		t.Error("one that was given back is not there")
	}
	for range connsEach {
		l.giveBack(one)
	}
	if l.giveBack(two); l.all != 0 || len(l.each) != 0 {
		t.Errorf("%d are left, of %v", l.all, l.each)
	}
	own := newListener(nil, Policy{})
	for i := range connsAll + 1 {
		if got := own.take(one); got != (i < connsAll) {
			t.Fatalf("connection %d: %v", i, got)
		}
	}
}
