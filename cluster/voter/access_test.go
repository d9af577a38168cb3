package voter

import (
	"context"
	"crypto/tls"
	"errors"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/musterhq/muster/cluster/pki"
	"github.com/musterhq/muster/cluster/store"
)

func (c *cluster) control() *Control {
	c.tb.Helper()
	control, err := NewControl(c.tb.Context(), c.endpoints(), c.controlTLS(0), c.log)
	if err != nil {
		c.tb.Fatal(err)
	}
	c.tb.Cleanup(func() { _ = control.Close() })
	return control
}

// verbs are everything that may be done to a key.
var verbs = map[string]func(ctx context.Context, c *clientv3.Client, key string) error{
	"get": func(ctx context.Context, c *clientv3.Client, key string) error {
		_, err := c.Get(ctx, key)
		return err
	},
	"stale get": func(ctx context.Context, c *clientv3.Client, key string) error {
		_, err := c.Get(ctx, key, clientv3.WithSerializable())
		return err
	},
	"put": func(ctx context.Context, c *clientv3.Client, key string) error {
		_, err := c.Put(ctx, key, "x")
		return err
	},
	"delete as a range": func(ctx context.Context, c *clientv3.Client, key string) error {
		_, err := c.Delete(ctx, key, clientv3.WithRange(key+"\x00"))
		return err
	},
	"put in a nested transaction": func(ctx context.Context, c *clientv3.Client, key string) error {
		inner := clientv3.OpTxn(nil, nil, []clientv3.Op{clientv3.OpPut(key, "x")})
		_, err := c.Txn(ctx).Then(clientv3.OpTxn(nil, []clientv3.Op{inner}, nil)).Commit()
		return err
	},
	"delete in a transaction": func(ctx context.Context, c *clientv3.Client, key string) error {
		_, err := c.Txn(ctx).Then(clientv3.OpDelete(key)).Commit()
		return err
	},
	"delete": func(ctx context.Context, c *clientv3.Client, key string) error {
		_, err := c.Delete(ctx, key)
		return err
	},
	"put in a transaction": func(ctx context.Context, c *clientv3.Client, key string) error {
		_, err := c.Txn(ctx).Then(clientv3.OpPut(key, "x")).Commit()
		return err
	},
	"put in a branch not taken": func(ctx context.Context, c *clientv3.Client, key string) error {
		never := clientv3.Compare(clientv3.CreateRevision(key), "<", 0)
		_, err := c.Txn(ctx).If(never).Then(clientv3.OpPut(key, "x")).Commit()
		return err
	},
	"compare": func(ctx context.Context, c *clientv3.Client, key string) error {
		_, err := c.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(key), ">", 0)).Commit()
		return err
	},
	"watch": func(ctx context.Context, c *clientv3.Client, key string) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		first := <-c.Watch(ctx, key, clientv3.WithCreatedNotify())
		return first.Err()
	},
}

// writes are the verbs that need permission to write.
var writes = []string{
	"put", "delete", "delete as a range", "put in a transaction", "put in a nested transaction", "delete in a transaction",
	"put in a branch not taken",
}

// keyClass is a kind of key: a host's own, another's, or of nobody in particular.
type keyClass struct {
	name        string
	key         func(own, other string) string
	read, write bool // what a host may
}

var keyClasses = []keyClass{
	{"own facts", func(own, _ string) string { return store.HostKey(own) }, true, true},
	{"own sign of life", func(own, _ string) string { return store.AliveKey(own) }, true, true},
	{"own states", func(own, _ string) string { return store.StatesKey(own) }, true, true},
	{"a part of its own states", func(own, _ string) string { return store.PartKey(store.StatesKey(own), 7) }, true, true},
	{"a part of another's states", func(_, other string) string { return store.PartKey(store.StatesKey(other), 7) }, true, false},
	{"own schedule", func(own, _ string) string { return store.ScheduleKey(own) }, true, false},
	{"own roster entry", func(own, _ string) string { return store.RosterKey(own) }, true, false},
	{"own facts and more", func(own, _ string) string { return store.HostKey(own) + "0" }, true, false},
	{"another's facts", func(_, other string) string { return store.HostKey(other) }, true, false},
	{"another's sign of life", func(_, other string) string { return store.AliveKey(other) }, true, false},
	{"another's states", func(_, other string) string { return store.StatesKey(other) }, true, false},
	{"another's schedule", func(_, other string) string { return store.ScheduleKey(other) }, true, false},
	{"cluster", func(_, _ string) string { return store.KeyCluster }, true, false},
	{"unit", func(_, _ string) string { return store.UnitKey("web.service") }, true, false},
	{"file", func(_, _ string) string { return store.FileKey("00") }, true, false},
	{"own orders", func(own, _ string) string { return store.OrderKey(own) }, true, false},
	{"own wish to reboot", func(own, _ string) string { return store.RebootKey(own) }, true, true},
	{"another's wish to reboot", func(_, other string) string { return store.RebootKey(other) }, true, false},
	{"own leave to reboot", func(own, _ string) string { return store.GrantKey(own) }, true, false},
	{"a reboot lock", func(_, _ string) string { return store.KeyLock }, true, false},
	{"all hosts' signs of life", func(_, _ string) string { return store.PrefixAlive }, true, false},
	{"rebalancing", func(_, _ string) string { return store.KeyRebalance }, true, false},
	{"leadership", func(_, _ string) string { return store.PrefixLeader + "1" }, true, false},
	{"token", func(_, _ string) string { return store.TokenKey("00") }, false, false},
	{"access", func(own, _ string) string { return accessPrefix + own }, false, false},
	{"access itself", func(_, _ string) string { return accessKey }, false, false},
	{"an application's", func(_, _ string) string { return store.PrefixApp + "x" }, true, true},
	{"the applications' first", func(_, _ string) string { return store.FirstApp }, true, true},
	{"what is known of applications' keys", func(_, _ string) string { return store.FirstApp + "node/x" }, true, true},
	{"before the applications' keys", func(_, _ string) string { return "/app-x" }, false, false},
	{"after the applications' keys", func(_, _ string) string { return store.EndApp }, false, false},
	{"outside of muster", func(_, _ string) string { return "x" }, false, false},
	{"everything", func(_, _ string) string { return "/" }, false, false},
}

// TestAccess holds who may do what: certificate by key by verb, on a real cluster.
func TestAccess(t *testing.T) {
	c := newCluster(t, 3, 2)
	c.form(t.Context())
	control := c.control()
	if err := control.EnsureAuth(t.Context(), c.hosts); err != nil {
		t.Fatal(err)
	}
	stranger := c.hosts[4] // in the roster's certificates, but no longer in its records
	if err := control.RemoveHost(t.Context(), stranger.ID); err != nil {
		t.Fatal(err)
	}
	pair := func(p pki.Pair, err error) pki.Pair {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	callers := []struct {
		name string
		own  string
		tls  *tls.Config
		may  func(k keyClass) (read, write bool)
	}{
		{"host", c.hosts[3].ID, c.tls(c.hostPair(c.hosts[3])), func(k keyClass) (bool, bool) { return k.read, k.write }},
		{"voter as a host", c.hosts[0].ID, c.tls(c.hostPair(c.hosts[0])), func(k keyClass) (bool, bool) { return k.read, k.write }},
		{"voter in control", stranger.ID, c.controlTLS(0), func(keyClass) (bool, bool) { return true, true }},
		{"removed host", stranger.ID, c.tls(c.hostPair(stranger)), func(keyClass) (bool, bool) { return false, false }},
		{
			"operator", stranger.ID, c.tls(pair(c.issuer.MintOperator(testCluster, time.Now()))),
			func(keyClass) (bool, bool) { return false, false },
		},
		{
			"etcd peer", c.hosts[0].ID, c.tls(pair(c.issuer.MintPeer(c.hosts[0], testCluster, time.Now()))),
			func(keyClass) (bool, bool) { return false, false },
		},
	}
	cells := 0
	for _, caller := range callers {
		client := c.client(caller.tls)
		for _, k := range keyClasses {
			for _, verb := range slices.Sorted(maps.Keys(verbs)) {
				cells++
				read, write := caller.may(k)
				want := read
				if slices.Contains(writes, verb) {
					want = write
				}
				err := verbs[verb](t.Context(), client, k.key(caller.own, c.hosts[1].ID))
				if denied(err) == want || (want && err != nil) {
					t.Errorf("%s, %s, %s: allowed %t, want %t (%v)", caller.name, verb, k.name, err == nil, want, err)
				}
			}
		}
		c.checkPrivileged(t, caller.name, client, caller.name == "voter in control")
	}
	t.Logf("%d cells", cells)
	checkRanges(t, c)
	checkLeases(t, c)
}

// denied reports whether etcd refused for want of permission. Watches carry the error as text only.
func denied(err error) bool {
	if err == nil {
		return false
	}
	for _, d := range []error{rpctypes.ErrPermissionDenied, rpctypes.ErrUserNotFound, rpctypes.ErrUserEmpty, rpctypes.ErrAuthFailed} {
		if strings.Contains(err.Error(), rpctypes.ErrorDesc(d)) {
			return true
		}
	}
	return false
}

// checkPrivileged tries what only root may.
func (c *cluster) checkPrivileged(t *testing.T, caller string, client *clientv3.Client, root bool) {
	t.Helper()
	ctx := t.Context()
	if _, err := client.UserList(ctx); denied(err) == root {
		t.Errorf("%s lists users: %v", caller, err)
	}
	if root {
		return
	}
	calls := map[string]func() error{
		"adds a user": func() error {
			_, err := client.UserAddWithOptions(ctx, "x", "", &clientv3.UserAddOptions{NoPassword: true})
			return err
		},
		"takes a role":   func() error { _, err := client.UserGrantRole(ctx, c.hosts[3].ID, rootName); return err },
		"permits":        func() error { _, err := client.RoleGrantPermission(ctx, sharedRole, "/x", "", permRead); return err },
		"switches off":   func() error { _, err := client.AuthDisable(ctx); return err },
		"adds a member":  func() error { _, err := client.MemberAddAsLearner(ctx, []string{"https://127.0.0.1:1"}); return err },
		"removes one":    func() error { _, err := client.MemberRemove(ctx, 1); return err },
		"promotes one":   func() error { _, err := client.MemberPromote(ctx, 1); return err },
		"moves a leader": func() error { _, err := client.MoveLeader(ctx, 1); return err },
		"disarms": func() error {
			_, err := client.AlarmDisarm(ctx, &clientv3.AlarmMember{MemberID: 1, Alarm: 1})
			return err
		},
		"compacts":         func() error { _, err := client.Compact(ctx, 1); return err },
		"defragments":      func() error { _, err := client.Defragment(ctx, c.hosts[0].ClientURL()); return err },
		"takes it all":     func() error { _, err := client.Get(ctx, store.Prefix, clientv3.WithPrefix()); return err },
		"deletes it all":   func() error { _, err := client.Delete(ctx, "", clientv3.WithFromKey()); return err },
		"changes a member": func() error { _, err := client.MemberUpdate(ctx, 1, []string{"https://127.0.0.1:1"}); return err },
		"downgrades":       func() error { _, err := client.Downgrade(ctx, clientv3.DowngradeEnable, "3.6"); return err },
		"hashes":           func() error { _, err := client.HashKV(ctx, c.hosts[0].ClientURL(), 0); return err },
		"takes snapshots": func() error {
			r, err := client.Snapshot(ctx)
			if err == nil {
				_, err = r.Read(make([]byte, 1))
			}
			return err
		},
	}
	if strings.HasSuffix(caller, "host") && caller != "removed host" {
		maps.Copy(calls, unlisted(ctx, client))
	}
	for what, call := range calls {
		if err := call(); !denied(err) {
			t.Errorf("%s %s: %v", caller, what, err)
		}
	}
}

// unlisted are calls that no rule knows: services that etcd opens beside its own, and what voters have for each other.
func unlisted(ctx context.Context, client *clientv3.Client) map[string]func() error {
	conn := client.ActiveConnection()
	unary := func(method string, req, reply any) func() error {
		return func() error { return conn.Invoke(ctx, method, req, reply) }
	}
	return map[string]func() error{
		"locks": unary("/v3lockpb.Lock/Lock", &v3lockpb.LockRequest{Name: []byte(store.PrefixApp)}, &v3lockpb.LockResponse{}),
		"campaigns": unary("/v3electionpb.Election/Campaign",
			&v3electionpb.CampaignRequest{Name: []byte(store.PrefixApp)}, &v3electionpb.CampaignResponse{}),
		"authenticates": unary(pb.Auth_Authenticate_FullMethodName, &pb.AuthenticateRequest{Name: "root"}, &pb.AuthenticateResponse{}),
		"watches health": func() error {
			stream, err := healthpb.NewHealthClient(conn).Watch(ctx, &healthpb.HealthCheckRequest{})
			if err == nil {
				_, err = stream.Recv()
			}
			return err
		},
		"renews as a voter": func() error {
			stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, renewMethod)
			if err == nil {
				err = errors.Join(stream.SendMsg(&pb.LeaseLeasesResponse{}), stream.RecvMsg(&pb.LeaseLeasesResponse{}))
			}
			return err
		},
		"streams a range": func() error {
			stream, err := pb.NewKVClient(conn).RangeStream(ctx, &pb.RangeRequest{Key: []byte(store.PrefixApp)})
			if err == nil {
				_, err = stream.Recv()
			}
			return err
		},
	}
}

// checkRanges reads whole prefixes as a host.
func checkRanges(t *testing.T, c *cluster) {
	t.Helper()
	client := c.client(c.tls(c.hostPair(c.hosts[3])))
	if _, err := healthpb.NewHealthClient(client.ActiveConnection()).Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil {
		t.Errorf("hosts ask whether a member is well: %v", err)
	}
	for _, prefix := range readable {
		if _, err := client.Get(t.Context(), prefix, clientv3.WithPrefix()); err != nil {
			t.Errorf("%s: %v", prefix, err)
		}
	}
	for _, prefix := range []string{store.PrefixTokens, accessKey, store.Prefix, "/app"} {
		if _, err := client.Get(t.Context(), prefix, clientv3.WithPrefix()); !denied(err) {
			t.Errorf("%s: %v", prefix, err)
		}
	}
	app := clientv3.WithRange(store.EndApp)
	if _, err := client.Get(t.Context(), store.FirstApp, app); err != nil {
		t.Errorf("all applications' keys: %v", err)
	}
	if _, err := client.Delete(t.Context(), store.FirstApp, app); err != nil {
		t.Errorf("all applications' keys cannot be deleted: %v", err)
	}
	if _, err := client.Delete(t.Context(), store.FirstApp, clientv3.WithFromKey()); !denied(err) {
		t.Errorf("a host deletes the applications' keys and what comes after them: %v", err)
	}
	for _, prefix := range append([]string{store.StatesKey(c.hosts[3].ID)}, owned...) {
		if _, err := client.Delete(t.Context(), prefix, clientv3.WithPrefix()); !denied(err) {
			t.Errorf("a host deletes all of %s: %v", prefix, err)
		}
	}
	parts := store.StatesKey(c.hosts[3].ID) + "/"
	if _, err := client.Delete(t.Context(), parts, clientv3.WithPrefix()); err != nil {
		t.Errorf("all parts of a host's own states cannot be deleted: %v", err)
	}
}

// checkLeases has a host tamper with another's sign of life through its lease.
func checkLeases(t *testing.T, c *cluster) {
	t.Helper()
	ctx := t.Context()
	owner, other := c.client(c.tls(c.hostPair(c.hosts[3]))), c.client(c.tls(c.hostPair(c.hosts[0])))
	lease, err := owner.Grant(ctx, 60)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := owner.Put(ctx, store.AliveKey(c.hosts[3].ID), "x", clientv3.WithLease(lease.ID)); err != nil {
		t.Fatal(err)
	}
	if _, err := other.KeepAliveOnce(ctx, lease.ID); !denied(err) {
		t.Errorf("another host keeps the lease alive: %v", err)
	}
	if _, err := other.Revoke(ctx, lease.ID); !denied(err) {
		t.Errorf("another host revokes the lease: %v", err)
	}
	bind := clientv3.OpPut(store.PrefixApp+"bound", "x", clientv3.WithLease(lease.ID))
	if _, err := other.Do(ctx, bind); !denied(err) {
		t.Errorf("another host binds a key to the lease: %v", err)
	}
	if _, err := other.Txn(ctx).Then(clientv3.OpTxn(nil, nil, []clientv3.Op{bind})).Commit(); !denied(err) {
		t.Errorf("another host binds a key to the lease in a transaction: %v", err)
	}
	free, err := owner.Grant(ctx, 60)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := owner.Put(ctx, store.PrefixApp+"bound", "x", clientv3.WithLease(free.ID)); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Revoke(ctx, free.ID); err != nil {
		t.Errorf("a lease of an application's key cannot be ended by another host: %v", err)
	}
	if _, err := owner.KeepAliveOnce(ctx, lease.ID); err != nil {
		t.Errorf("the owner cannot keep its lease: %v", err)
	}
}

// TestRefusedAtThePort has everybody who must not even connect.
func TestRefusedAtThePort(t *testing.T) {
	c := newCluster(t, 1, 1)
	c.form(t.Context())
	foreign := newCluster(t, 1, 1)
	peer, err := c.issuer.MintPeer(c.hosts[0], testCluster, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	old := c.tls(c.hostPair(c.hosts[0]))
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	stale, err := c.issuer.MintPeer(c.hosts[0], testCluster, time.Now().Add(-25*time.Hour))
	if err == nil {
		t.Fatalf("the issuer signed before it was valid: %v", stale)
	}
	foreignPair := c.tls(foreign.hostPair(foreign.hosts[0]))
	bare := c.tls(c.hostPair(c.hosts[0]))
	bare.GetClientCertificate = nil
	peerURL, clientURL := c.hosts[0].PeerURL(), c.hosts[0].ClientURL()
	cases := []struct {
		name, url string
		config    *tls.Config
		ok        bool
	}{
		{"peer at the peer port", peerURL, c.tls(peer), true},
		{"host at the peer port", peerURL, c.tls(c.hostPair(c.hosts[1])), false},
		{"voter as a host at the peer port", peerURL, c.tls(c.hostPair(c.hosts[0])), false},
		{"control at the peer port", peerURL, c.controlTLS(0), false},
		{"no certificate at the peer port", peerURL, bare, false},
		{"foreign CA at the peer port", peerURL, foreignPair, false},
		{"host at the client port", clientURL, c.tls(c.hostPair(c.hosts[1])), true},
		{"no certificate at the client port", clientURL, bare, false},
		{"foreign CA at the client port", clientURL, foreignPair, false},
		{"TLS 1.2 at the client port", clientURL, old, false},
		{"TLS 1.2 at the peer port", peerURL, old, false},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			config := tc.config.Clone()
			config.ServerName = "127.0.0.1"
			config.NextProtos = []string{"h2"}
			if err := connect(t, tc.url, config); (err == nil) != tc.ok {
				t.Errorf("got %v", err)
			}
		})
	}
}

// connect shakes hands and waits for a first byte, or to be cut off: in TLS 1.3 a client learns late that it was refused.
func connect(t *testing.T, rawURL string, config *tls.Config) error {
	t.Helper()
	u, err := url.Parse(rawURL)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := (&tls.Dialer{Config: config}).DialContext(t.Context(), "tcp", u.Host)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	preface := "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00" // RFC 9113 section 3.4
	if _, err := conn.Write([]byte(preface)); err != nil {
		return err
	}
	_, err = conn.Read(make([]byte, 1))
	return err
}
