package voter

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/store"
)

// controlWith is a Control whose calls go through gRPC options.
func (c *cluster) controlWith(options ...grpc.DialOption) *Control {
	c.tb.Helper()
	config := c.controlTLS(0)
	client, err := clientv3.New(clientv3.Config{Endpoints: c.endpoints(), TLS: config, Logger: zap.NewNop(), DialOptions: options})
	if err != nil {
		c.tb.Fatal(err)
	}
	c.tb.Cleanup(func() { _ = client.Close() })
	return &Control{client: client, conns: newConns(config), anew: map[uint64]bool{}, log: c.log}
}

// TestEnsureAuth repeats, interrupts and changes.
func TestEnsureAuth(t *testing.T) {
	c := newCluster(t, 1, 3)
	c.form(t.Context())
	control := c.control()
	ensure := func(hosts roster.Roster) {
		t.Helper()
		if err := control.EnsureAuth(t.Context(), hosts); err != nil {
			t.Fatal(err)
		}
	}
	may := func(i int) error {
		client := c.client(c.tls(c.hostPair(c.hosts[i])))
		_, err := client.Put(t.Context(), store.StatesKey(c.hosts[i].ID), "x")
		return err
	}
	writesOf := func(f func()) int64 { return c.index(t, f) }

	ensure(c.hosts[:2])
	if err := may(1); err != nil {
		t.Errorf("host of the roster: %v", err)
	}
	if err := may(2); !denied(err) {
		t.Errorf("host that is not: %v", err)
	}
	if n := writesOf(func() { ensure(c.hosts[:2]) }); n != 0 {
		t.Errorf("a call that finds all well writes %d entries", n)
	}
	if err := control.EnsureHost(t.Context(), c.hosts[2].ID); err != nil {
		t.Fatal(err)
	}
	if err := may(2); err != nil {
		t.Errorf("host after EnsureHost: %v", err)
	}
	if n := writesOf(func() { _ = control.EnsureHost(t.Context(), c.hosts[2].ID) }); n != 0 {
		t.Errorf("a second EnsureHost writes %d entries", n)
	}

	// A roster read before the host joined does not cost it its access, as long as the store's roster has it.
	entry, err := store.Marshal(store.RosterRecord{Host: c.hosts[2]})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := control.client.Put(t.Context(), store.RosterKey(c.hosts[2].ID), string(entry)); err != nil {
		t.Fatal(err)
	}
	ensure(c.hosts[:2])
	if err := may(2); err != nil {
		t.Errorf("host that the caller did not know: %v", err)
	}
	if _, err := control.client.Delete(t.Context(), store.RosterKey(c.hosts[2].ID)); err != nil {
		t.Fatal(err)
	}
	ensure(c.hosts[:2])
	if err := may(2); !denied(err) {
		t.Errorf("host that left: %v", err)
	}
	if err := control.RemoveHost(t.Context(), c.hosts[2].ID); err != nil {
		t.Errorf("removed twice: %v", err)
	}
	if err := control.EnsureHost(t.Context(), "root"); err == nil {
		t.Error("root is taken for a host")
	}
}

// index returns by how much raft's log grows while f runs.
func (c *cluster) index(t *testing.T, f func()) int64 {
	t.Helper()
	at := func() uint64 {
		s, err := c.client(c.controlTLS(0)).Status(t.Context(), c.hosts[0].ClientURL())
		if err != nil {
			t.Fatal(err)
		}
		return s.RaftIndex
	}
	before := at()
	f()
	return int64(at() - before)
}

// TestEnsureAuthAfterCrash ends EnsureAuth before each call to etcd in turn, and then lets it go through.
func TestEnsureAuthAfterCrash(t *testing.T) {
	for calls := 0; ; calls++ {
		done := false
		t.Run(fmt.Sprintf("after %d calls", calls), func(t *testing.T) {
			c := newCluster(t, 1, 1)
			c.form(t.Context())
			ctx, crash := context.WithCancel(t.Context())
			var left atomic.Int64
			left.Store(int64(calls))
			crashing := c.controlWith(grpc.WithChainUnaryInterceptor(func(
				ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
			) error {
				if left.Add(-1) < 0 {
					crash()
					return context.Canceled
				}
				return invoke(ctx, method, req, reply, cc, opts...)
			}))
			done = crashing.EnsureAuth(ctx, c.hosts[1:]) == nil
			crash()
			control := c.control()
			if err := control.EnsureAuth(t.Context(), c.hosts); err != nil {
				t.Fatal(err)
			}
			client := c.client(c.tls(c.hostPair(c.hosts[1])))
			if _, err := client.Put(t.Context(), store.AliveKey(c.hosts[1].ID), "x"); err != nil {
				t.Errorf("own key: %v", err)
			}
			if _, err := client.Get(t.Context(), store.PrefixUnits, clientv3.WithPrefix()); err != nil {
				t.Errorf("units: %v", err)
			}
			if _, err := client.Put(t.Context(), store.AliveKey(c.hosts[0].ID), "x"); !denied(err) {
				t.Errorf("another's key: %v", err)
			}
		})
		if done || t.Failed() {
			return
		}
	}
}

// TestUsersOfVersion5 has hosts that are users of their own go on as such until their access is recorded anew, and be
// removed with their users.
func TestUsersOfVersion5(t *testing.T) {
	c := newCluster(t, 1, 2)
	c.form(t.Context())
	control, ctx := c.control(), t.Context()
	if err := control.EnsureAuth(ctx, c.hosts[:1]); err != nil {
		t.Fatal(err)
	}
	old := c.hosts[1].ID
	for _, step := range []call{
		control.addUser(old), control.addRole(oldRole + old), control.giveRole(old, sharedRole), control.giveRole(old, oldRole+old),
		control.permit(oldRole+old, store.StatesKey(old), "", permReadWrite),
	} {
		if err := step(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := control.client.Put(ctx, accessPrefix+old, "5"); err != nil {
		t.Fatal(err)
	}
	client := c.client(c.tls(c.hostPair(c.hosts[1])))
	check := func(when string, key string, want bool) {
		t.Helper()
		if _, err := client.Put(ctx, key, "x"); denied(err) == want || want && err != nil {
			t.Errorf("%s, %s: %v", when, key, err)
		}
	}
	check("a user of its own", store.StatesKey(old), true)
	check("a user of its own", store.AliveKey(old), false) // which this user was not given
	if err := control.EnsureAuth(ctx, c.hosts); err != nil {
		t.Fatal(err)
	}
	check("recorded anew", store.StatesKey(old), true)
	check("recorded anew", store.AliveKey(old), true)
	check("recorded anew", store.AliveKey(c.hosts[2].ID), false)
	before, err := control.client.AuthStatus(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := control.RemoveHost(ctx, old); err != nil {
		t.Fatal(err)
	}
	check("removed", store.StatesKey(old), false)
	if after, err := control.client.AuthStatus(ctx); err != nil || after.AuthRevision <= before.AuthRevision {
		t.Errorf("a voter that lags would not notice: %v, %v", after, err)
	}
}

// TestJoinIsOneEntry holds what the access of a host costs, whatever the number of those before it.
func TestJoinIsOneEntry(t *testing.T) {
	c := newCluster(t, 1, 2)
	c.form(t.Context())
	control := c.control()
	if err := control.EnsureAuth(t.Context(), c.hosts[:1]); err != nil {
		t.Fatal(err)
	}
	if n := c.index(t, func() { _ = control.EnsureHost(t.Context(), c.hosts[1].ID) }); n != 1 {
		t.Errorf("a join writes %d entries", n)
	}
}
