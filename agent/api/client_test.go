package api

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/musterhq/muster/cluster/store"
)

func TestClientCalls(t *testing.T) {
	a := newAuthority(t, testCluster)
	f := &fakeFleet{}
	e := Endpoint{Name: "node-1", Address: a.serve(t, newServer(f)), Voter: true}
	c := testClient(t, a.client(t, "operator"), e)
	ctx := t.Context()

	if o, err := c.PutUnit(ctx, Unit{Name: "web@1.service", Desired: "launched"}); err != nil || o != Changed {
		t.Errorf("PutUnit: %v, %v", o, err)
	}
	if o, err := c.SetLabels(ctx, "ab", map[string]string{"a": "b"}); err != nil || o != Unchanged {
		t.Errorf("SetLabels: %v, %v", o, err)
	}
	if o, err := c.PatchLabels(ctx, "ab", map[string]*string{"a": nil}); err != nil || o != Changed {
		t.Errorf("PatchLabels: %v, %v", o, err)
	}
	if o, err := c.OrderHost(ctx, "ab", HostOrder{Order: "drain"}); err != nil || o != Changed {
		t.Errorf("OrderHost: %v, %v", o, err)
	}
	for name, call := range map[string]func() error{
		"ChangeRollout": func() error { return c.ChangeRollout(ctx, "web@.service", RolloutPause) },
		"DeleteUnit":    func() error { return c.DeleteUnit(ctx, "web@1.service") },
		"AddToken":      func() error { return c.AddToken(ctx, TokenRequest{Hash: "aa"}) },
		"RemoveHost":    func() error { return c.RemoveHost(ctx, "ab") },
	} {
		if err := call(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	want := []string{
		"delete web@1.service", "labels ab map[a:b]", "order ab drain", "patch labels ab 1", "pause the rollout of web@.service",
		"put web@1.service launched", "remove ab", "token aa",
	}
	if got := slices.Sorted(slices.Values(f.calls)); !slices.Equal(got, want) {
		t.Errorf("calls %q, want %q", got, want)
	}
	if u, err := c.Unit(ctx, "web@1.service"); err != nil || u.Name != "web@1.service" || u.Content == "" {
		t.Errorf("Unit: %+v, %v", u, err)
	}
	if w, err := c.Why(ctx, "web@1.service"); err != nil || w.Unit != "web@1.service" {
		t.Errorf("Why: %+v, %v", w, err)
	}
	if h, err := c.Health(ctx); err != nil || h.Host != "node-1" {
		t.Errorf("Health: %+v, %v", h, err)
	}
	var path string
	if err := c.Fleet(ctx, "units/web%401.service?alt=json", &path); err != nil || path != "/fleet/v1/units/web@1.service" {
		t.Errorf("Fleet: %q, %v", path, err)
	}
	if units, err := c.Units(ctx); err != nil || len(units) != 0 {
		t.Errorf("Units: %+v, %v", units, err)
	}
	host := testClient(t, a.client(t, "host"), e)
	if r, err := host.Renew(ctx, RenewRequest{Certificate: "old"}); err != nil || r.Certificate != "new" {
		t.Errorf("Renew: %+v, %v", r, err)
	}
}

func TestRemoveHostTwice(t *testing.T) {
	a := newAuthority(t, testCluster)
	f := &fakeFleet{err: Errorf(http.StatusNotFound, "nothing to do", "no host")}
	c := testClient(t, a.client(t, "operator"), Endpoint{Address: a.serve(t, newServer(f))})
	if err := c.RemoveHost(t.Context(), "ab"); err != nil {
		t.Error(err)
	}
}

func TestWatch(t *testing.T) {
	a := newAuthority(t, testCluster)
	c := testClient(t, a.client(t, "operator"), Endpoint{Address: a.serve(t, newServer(&fakeFleet{}))})
	var got []string
	err := c.WatchStatus(t.Context(), func(s Status) bool {
		got = append(got, s.Cluster)
		return len(got) < 3
	})
	if err != nil || !slices.Equal(got, []string{"change 0", "change 1", "change 2"}) {
		t.Errorf("got %q, %v", got, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = c.WatchStatus(ctx, func(Status) bool { cancel(); return true })
	if err == nil {
		t.Error("a watch that was cut off ends without an error")
	}
}

func TestLogs(t *testing.T) {
	a := newAuthority(t, testCluster)
	f := &fakeFleet{}
	c := testClient(t, a.client(t, "operator"), Endpoint{Address: a.serve(t, newServer(f))})
	var out bytes.Buffer
	if err := c.Logs(t.Context(), "web@1.service", LogOptions{Host: "node-2", Lines: 7}, &out); err != nil {
		t.Fatal(err)
	}
	if out.String() != "web@1.service node-2 7\n" {
		t.Errorf("got %q", out.String())
	}
	ctx, cancel := context.WithCancel(t.Context())
	first := writerFunc(func(p []byte) {
		if len(p) > 0 {
			cancel()
		}
	})
	if err := c.Logs(ctx, "web@1.service", LogOptions{Follow: true}, first); !errors.Is(err, context.Canceled) {
		t.Errorf("following until the end: %v", err)
	}
	f.err = Errorf(http.StatusNotFound, "see `muster units`", "no unit web@1.service")
	if err := c.Logs(t.Context(), "web@1.service", LogOptions{}, &out); !IsNotFound(err) {
		t.Errorf("logs of an unknown unit: %v", err)
	}
}

type writerFunc func([]byte)

func (f writerFunc) Write(p []byte) (int, error) { f(p); return len(p), nil }

// TestClientGoesOn has a dead host, a host that does not vote and a voter: writes reach the voter, and the dead host is
// tried last the next time.
func TestClientGoesOn(t *testing.T) {
	a := newAuthority(t, testCluster)
	follower := newServer(&fakeFleet{})
	follower.Admin = nil
	f := &fakeFleet{}
	dead := Endpoint{Name: "node-1", Address: deadAddress(t), Voter: true}
	other := Endpoint{Name: "node-2", Address: a.serve(t, follower)}
	voter := Endpoint{Name: "node-3", Address: a.serve(t, newServer(f))}
	c := testClient(t, a.client(t, "operator"), dead, other, voter)
	if _, err := c.PutUnit(t.Context(), Unit{Name: "a.service"}); err != nil {
		t.Fatal(err)
	}
	if got := c.order(true); !slices.Equal(got, []Endpoint{other, voter, dead}) {
		t.Errorf("order after a failure: %v", got)
	}
	if _, err := c.Status(t.Context()); err != nil {
		t.Error(err)
	}
}

// deadAddress is one on which nothing listens.
func deadAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestVotersFirst(t *testing.T) {
	list := []Endpoint{{Name: "a"}, {Name: "b", Address: "b", Voter: true}, {Name: "c", Address: "c"}, {Name: "d", Address: "d", Voter: true}}
	c := NewClient(list, nil)
	names := func(es []Endpoint) (s string) {
		for _, e := range es {
			s += e.Name
		}
		return s
	}
	if got := names(c.order(false)); got != "abcd" {
		t.Errorf("reads go to %s", got)
	}
	if got := names(c.order(true)); got != "bdac" {
		t.Errorf("writes go to %s", got)
	}
	c.bench(list[1])
	if got := names(c.order(true)); got != "dacb" {
		t.Errorf("writes go to %s after b failed", got)
	}
}

func TestNobodyAnswers(t *testing.T) {
	a := newAuthority(t, testCluster)
	follower := newServer(&fakeFleet{})
	follower.Admin = nil
	dead := Endpoint{Name: "node-1", Address: deadAddress(t), Voter: true}
	other := Endpoint{Name: "node-2", Address: a.serve(t, follower)}
	for _, c := range []struct {
		name      string
		endpoints []Endpoint
		want      []string
	}{
		{"all down", []Endpoint{dead}, []string{"no host of the cluster answers", "node-1", "refused", "muster up"}},
		{"voters down", []Endpoint{dead, other}, []string{"no voter answers", "node-1", "refused", "majority"}},
		{"no voter", []Endpoint{other}, []string{"does not vote", "muster status"}},
		{"empty", nil, []string{"no host of the cluster is known", "muster up"}},
	} {
		err := testClient(t, a.client(t, "operator"), c.endpoints...).DeleteUnit(t.Context(), "a.service")
		for _, want := range c.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %q in it", c.name, err, want)
			}
		}
	}
}

// TestBusyThenFine refuses with 503 at first, as agents do while the voters elect a leader.
func TestBusyThenFine(t *testing.T) {
	a := newAuthority(t, testCluster)
	f := &recovering{fakeFleet: &fakeFleet{}, refusals: 2}
	s := newServer(f.fakeFleet)
	s.Admin = f
	c := testClient(t, a.client(t, "operator"), Endpoint{Address: a.serve(t, s)})
	if err := c.DeleteUnit(t.Context(), "a.service"); err != nil {
		t.Fatal(err)
	}
	if f.refusals != 0 {
		t.Errorf("%d refusals left", f.refusals)
	}
}

type recovering struct {
	*fakeFleet
	refusals int
}

func (r *recovering) DeleteUnit(context.Context, string) error {
	if r.refusals > 0 {
		r.refusals--
		return fmt.Errorf("cannot write: %w", store.ErrUnavailable)
	}
	return nil
}

// TestFrozenHost has a host that accepts connections and says nothing: the client goes on to the next.
func TestFrozenHost(t *testing.T) {
	a := newAuthority(t, testCluster)
	frozen, err := net.Listen("tcp", "127.0.0.1:0") // the kernel accepts, nobody reads
	if err != nil {
		t.Fatal(err)
	}
	defer frozen.Close()
	good := a.serve(t, newServer(&fakeFleet{status: Status{Cluster: "demo"}}))
	c := testClient(t, a.client(t, "operator"), Endpoint{Name: "node-1", Address: frozen.Addr().String()}, Endpoint{Name: "node-2", Address: good})
	s, err := c.Status(t.Context())
	if err != nil || s.Cluster != "demo" {
		t.Errorf("got %+v, %v", s, err)
	}
}

func TestSocketClient(t *testing.T) {
	dir, err := os.MkdirTemp("", "muster") // t.TempDir may be too long for a socket's address
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "muster.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	serve(t, l, newServer(&fakeFleet{status: Status{Cluster: "demo"}}).SocketHandler())
	c := NewSocketClient(path)
	defer c.Close()
	if s, err := c.Status(t.Context()); err != nil || s.Cluster != "demo" {
		t.Errorf("got %+v, %v", s, err)
	}
	if err := c.DeleteUnit(t.Context(), "a.service"); err == nil {
		t.Error("the socket allows writes")
	}
}

func TestErrorsHideNothing(t *testing.T) {
	var e *Error
	err := error(Errorf(http.StatusConflict, "try again", "no"))
	if !errors.As(err, &e) || err.Error() != "no; try again" {
		t.Errorf("got %q", err)
	}
	if got := (&Error{Message: "no"}).Error(); got != "no" {
		t.Errorf("got %q", got)
	}
	if _, err := identify(nil, testCluster); err == nil {
		t.Error("no TLS is accepted")
	}
	if _, err := identify(&tls.ConnectionState{}, testCluster); err != nil {
		t.Error(err)
	}
}
