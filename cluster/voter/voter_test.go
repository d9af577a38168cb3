package voter

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/musterhq/muster/cluster/join"
)

func put(t *testing.T, client *clientv3.Client, key, value string) {
	t.Helper()
	if _, err := client.Put(t.Context(), key, value); err != nil {
		t.Fatalf("put %s: %v", key, err)
	}
}

func get(t *testing.T, client *clientv3.Client, key string) string {
	t.Helper()
	r, err := client.Get(t.Context(), key)
	if err != nil {
		t.Fatalf("get %s: %v", key, err)
	}
	if len(r.Kvs) == 0 {
		return ""
	}
	return string(r.Kvs[0].Value)
}

// TestRestart stops all voters and starts them again, with roles that would be wrong for a first start.
func TestRestart(t *testing.T) {
	c := newCluster(t, 3, 0)
	voters := c.form(t.Context())
	put(t, c.client(c.controlTLS(0)), "/x", "before")
	id := voters[1].MemberID()
	closeAll(voters)

	var wg sync.WaitGroup
	errs := make([]error, 3)
	for i := range voters {
		wg.Go(func() {
			role := join.VoterRole{State: join.StateNew, InitialCluster: map[string]string{c.hosts[i].ID: c.hosts[i].PeerURL()}}
			if voters[i], errs[i] = Start(t.Context(), c.config(i, role)); errs[i] == nil {
				errs[i] = voters[i].WaitReady(t.Context())
			}
		})
	}
	wg.Wait()
	t.Cleanup(func() { closeAll(voters) })
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	if got := get(t, c.client(c.controlTLS(0)), "/x"); got != "before" {
		t.Errorf("after the restart /x is %q", got)
	}
	if voters[1].MemberID() != id {
		t.Error("the member has another ID")
	}
}

func TestDataLost(t *testing.T) {
	c := newCluster(t, 1, 0)
	closeAll(c.form(t.Context()))
	if err := os.RemoveAll(c.config(0, c.role()).Dir); err != nil {
		t.Fatal(err)
	}
	v, err := Start(t.Context(), c.config(0, c.role()))
	if !errors.Is(err, ErrDataLost) {
		t.Errorf("got %v, want ErrDataLost", err)
	}
	if v != nil {
		v.Close()
	}
}

// TestLoseOne closes the leader: the others go on, and it comes back.
func TestLoseOne(t *testing.T) {
	c := newCluster(t, 3, 0)
	voters := c.form(t.Context())
	leader := 0
	for i, v := range voters {
		if v.Leads() {
			leader = i
		}
	}
	voters[leader].Close()
	<-voters[leader].Done()
	if err := voters[leader].WaitReady(t.Context()); err != nil && !errors.Is(err, ErrStopped) {
		t.Errorf("WaitReady of a closed voter: %v", err)
	}
	next := (leader + 1) % 3
	client := c.client(c.controlTLS(next), c.hosts[next].ClientURL())
	put(t, client, "/x", "without it")
	control := c.control()
	health, err := control.Health(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	leads := 0
	for _, h := range health {
		if h.Healthy != (h.Host != c.hosts[leader].ID) || h.Healthy != (h.Err == nil) {
			t.Errorf("health %+v", h)
		}
		if h.Leads {
			leads++
		}
	}
	if leads != 1 {
		t.Errorf("%d members lead", leads)
	}
	back, err := Start(t.Context(), c.config(leader, c.role()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(back.Close)
	if err := back.WaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := get(t, c.client(c.controlTLS(next), c.hosts[leader].ClientURL()), "/x"); got != "without it" {
		t.Errorf("the member that was away has %q", got)
	}
}

// lockedBuffer is written by several at once.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// TestClosePassesLeadershipOn closes the leader while a client has it wait: a connection that says nothing. The others have a new
// leader without an election's time-out.
func TestClosePassesLeadershipOn(t *testing.T) {
	c := newCluster(t, 3, 0)
	var said lockedBuffer
	c.log = slog.New(slog.NewTextHandler(&said, nil))
	voters := c.form(t.Context())
	leader := slices.IndexFunc(voters, (*Voter).Leads)
	at, err := url.Parse(c.hosts[leader].ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	silent, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", at.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	voters[leader].Close()
	if s := said.String(); strings.Contains(s, "leadership transfer failed") {
		t.Errorf("the leadership is not passed on:\n%s", s)
	}
	for i, v := range voters {
		if next := v.etcd.Server.Leader(); i != leader && (next == 0 || uint64(next) == voters[leader].MemberID()) {
			t.Errorf("voter %d takes %v for the leader", i, next)
		}
	}
}

// TestCloseWithWatchers closes a voter whose clients hang on, and another voter with its renewals: it ends their streams instead
// of waiting for them.
func TestCloseWithWatchers(t *testing.T) {
	c := newCluster(t, 1, 0)
	voters := c.form(t.Context())
	client := c.client(c.controlTLS(0))
	watch := client.Watch(t.Context(), "/x", clientv3.WithCreatedNotify())
	<-watch
	relay, err := client.ActiveConnection().NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, renewMethod)
	if err == nil {
		err = errors.Join(relay.SendMsg(&pb.LeaseLeasesResponse{}), relay.RecvMsg(&pb.LeaseLeasesResponse{}))
	}
	if err != nil {
		t.Fatal(err)
	}
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		voters[0].Close()
	}()
	patience := voters[0].etcd.Server.Cfg.ReqTimeout() // what etcd would wait
	select {
	case <-closed:
	case <-time.After(patience):
		t.Error("waits for its clients")
		<-closed
	}
}

// TestRenewedCertificates replaces credentials under a running voter.
func TestRenewedCertificates(t *testing.T) {
	c := newCluster(t, 1, 0)
	c.form(t.Context())
	shown := func(rawURL string) string {
		u, err := url.Parse(rawURL)
		if err != nil {
			t.Fatal(err)
		}
		config := c.controlTLS(0)
		config.ServerName, config.NextProtos = "127.0.0.1", []string{"h2"}
		conn, err := (&tls.Dialer{Config: config}).DialContext(t.Context(), "tcp", u.Host)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		return conn.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	client, peer := shown(c.hosts[0].ClientURL()), shown(c.hosts[0].PeerURL())
	c.credentials(0)
	if shown(c.hosts[0].ClientURL()) == client || shown(c.hosts[0].PeerURL()) == peer {
		t.Error("the old certificate is still shown")
	}
	put(t, c.client(c.controlTLS(0)), "/x", "y")
}

// TestStartWithoutTheOneBefore has the first of the first members missing.
func TestStartWithoutTheOneBefore(t *testing.T) {
	c := newCluster(t, 3, 0)
	role := c.role()
	var wg sync.WaitGroup
	errs := make([]error, 3)
	for i := 1; i < 3; i++ {
		wg.Go(func() {
			v, err := Start(t.Context(), c.config(i, role))
			if err == nil {
				t.Cleanup(v.Close)
				err = v.WaitReady(t.Context())
			}
			errs[i] = err
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	put(t, c.client(c.controlTLS(1), c.hosts[1].ClientURL()), "/x", "y")
}

func TestStartEnds(t *testing.T) {
	c := newCluster(t, 3, 0)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Start(ctx, c.config(2, c.role())); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting for its turn: %v", err)
	}
	bad := c.config(0, c.role())
	bad.Timing = Timing{Heartbeat: time.Second, Election: time.Second}
	if _, err := Start(t.Context(), bad); err == nil {
		t.Error("started with an impossible timing")
	}
	bad = c.config(0, c.role())
	bad.Files.Peer = filepath.Join(t.TempDir(), "none")
	if _, err := Start(t.Context(), bad); err == nil {
		t.Error("started without credentials")
	}
	occupied := c.config(0, c.role())
	occupied.Role.InitialCluster = map[string]string{c.hosts[0].ID: c.hosts[0].PeerURL()}
	v, err := Start(t.Context(), occupied)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	occupied.Dir = filepath.Join(t.TempDir(), "etcd")
	if _, err := Start(t.Context(), occupied); err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("started on an occupied port: %v", err)
	}
}

func TestWaitReadyEnds(t *testing.T) {
	c := newCluster(t, 3, 0)
	v, err := Start(t.Context(), c.config(0, c.role()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := v.WaitReady(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("one of three: %v", err)
	}
}

func TestBefore(t *testing.T) {
	members := map[string]string{"b": "B", "a": "A", "c": "C"}
	for id, want := range map[string]string{"a": "", "b": "A", "c": "B", "z": ""} {
		if got := before(members, id); got != want {
			t.Errorf("before %s starts %q, want %q", id, got, want)
		}
	}
}

func TestTiming(t *testing.T) {
	ms := time.Millisecond
	for name, c := range map[string]struct {
		timing Timing
		ok     bool
	}{
		"one site":            {OneSite(), true},
		"a long lease":        {ForLease(10 * time.Minute), true},
		"an odd lease":        {ForLease(7654321 * time.Microsecond), true},
		"nothing":             {Timing{}, false},
		"election too short":  {Timing{100 * ms, 400 * ms}, false},
		"election too long":   {Timing{time.Second, time.Minute}, false},
		"no multiple":         {Timing{100 * ms, 550 * ms}, false},
		"parts of a ms":       {Timing{time.Microsecond, time.Second}, false},
		"negative heartbeats": {Timing{-100 * ms, 500 * ms}, false},
	} {
		if err := c.timing.validate(); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	const lease, promise = 5 * time.Second, 2 * time.Second
	if got := OneSite().Failover(lease); got > lease+promise-300*ms {
		t.Errorf("failover within one site takes up to %s, which leaves too little of %s", got, lease+promise)
	}
	if got := ForLease(lease); got != OneSite() {
		t.Errorf("a lease of %s is kept with %+v", lease, got)
	}
	for _, lease := range []time.Duration{2 * time.Second, 15 * time.Second, time.Minute, 10 * time.Minute} {
		if got := ForLease(lease).Failover(lease); got > lease+5*time.Second-300*ms {
			t.Errorf("failover with a lease of %s takes up to %s", lease, got)
		}
	}
}

// TestConfig looks for what must never be switched off.
func TestConfig(t *testing.T) {
	c := newCluster(t, 1, 0)
	ec, err := embedConfig(c.config(0, c.role()), grpc.ChainStreamInterceptor(endWith(t.Context())))
	if err != nil {
		t.Fatal(err)
	}
	if ec.UnsafeNoFsync || ec.ForceNewCluster || ec.EnablePprof || ec.EnableGRPCGateway || !ec.StrictReconfigCheck || !ec.PreVote {
		t.Error("an unsafe setting is on, or a safe one off")
	}
	if !ec.ClientTLSInfo.ClientCertAuth || !ec.PeerTLSInfo.ClientCertAuth || len(ec.PeerTLSInfo.AllowedCNs) != 1 || ec.TlsMinVersion != "TLS1.3" {
		t.Error("mutual TLS is not complete")
	}
	for _, u := range append(append(ec.ListenClientUrls, ec.ListenPeerUrls...), ec.ListenClientHttpUrls...) {
		if u.Scheme != "https" {
			t.Errorf("listens at %s", u.String())
		}
	}
	behindNAT := c.config(0, c.role())
	behindNAT.Listen = "127.0.0.9"
	if ec, err = embedConfig(behindNAT, grpc.ChainStreamInterceptor(endWith(t.Context()))); err != nil {
		t.Fatal(err)
	}
	if ec.ListenPeerUrls[0].Hostname() != "127.0.0.9" || ec.AdvertisePeerUrls[0].Hostname() != "127.0.0.1" {
		t.Error("Listen is not heeded")
	}
}

func TestLog(t *testing.T) {
	var out bytes.Buffer
	log := zapTo(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelInfo, ReplaceAttr: withoutTime})))
	log.Info("about itself")
	log.With(zap.String("b", "2")).Warn("slow", zap.Int("a", 1), zap.Error(errors.New("x")))
	log.Error("setting up serving from embedded etcd failed.", zap.Error(errors.New("http: Server closed")))
	log.Error("disk full")
	const want = "level=WARN msg=slow a=1 b=2 error=x\nlevel=ERROR msg=\"disk full\"\n"
	if out.String() != want {
		t.Errorf("got  %q\nwant %q", out.String(), want)
	}
}

func withoutTime(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}

func TestAlarmsIn(t *testing.T) {
	got := alarmsIn([]string{"memberID:1 alarm:NOSPACE ", "etcdserver: no leader", "memberID:2 alarm:NOSPACE ", "memberID:1 alarm:CORRUPT "})
	if strings.Join(got, " ") != "CORRUPT NOSPACE" {
		t.Errorf("got %q", got)
	}
}
