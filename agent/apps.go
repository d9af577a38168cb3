package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"path/filepath"
	"syscall"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"github.com/musterhq/muster/agent/gateway"
	"github.com/musterhq/muster/agent/keys"
	"github.com/musterhq/muster/agent/keysapi"
	"github.com/musterhq/muster/agent/locksmith"
	"github.com/musterhq/muster/cluster/join"
	"github.com/musterhq/muster/cluster/pki"
	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/store"
)

// openApps gives programs of a voter a way to the store with the rights of a host, not with the voter's own.
func (a *agent) openApps(ctx context.Context, voters roster.Roster) error {
	st, err := store.DialEtcd(context.WithoutCancel(ctx), store.EtcdConfig{
		Endpoints: clientURLs(voters), Prefer: a.self.ClientURL(), Probe: hostProbe(a.Lease()), Log: a.log,
		TLS: pki.ClientConfig(a.id.Root, a.source, pki.VoterName),
	})
	if err != nil {
		return err
	}
	a.apps = st
	a.onClose("the applications' store", st.Close)
	return nil
}

// apps are the keys that all hosts share, as this host has them.
type apps struct {
	tree *keys.Store
	http http.Handler // v1 and v2
}

func (a *agent) openKeys() apps {
	tree := keys.New(keys.Config{Client: appsClient{a.apps}, Log: a.log})
	api := keysapi.New(keysapi.Config{
		Keys: tree, Name: a.self.Name, ID: a.self.ID, Log: a.log,
		Mounts: map[string]keysapi.Mount{locksmith.Root: &locksmith.Mount{Locks: a.locksmith()}},
	})
	return apps{tree: tree, http: api.Handler()}
}

// serveKeys serves the keys to the programs of this host. A host can be without.
func (a *agent) serveKeys(ctx context.Context, k apps) error {
	gw := gateway.New(gateway.Config{Host: a.self.Name, Voters: a.apps, Keys: k.http, Log: a.log})
	policy := gateway.Policy{Names: append(gateway.LocalNames(), a.self.Name)}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return k.tree.Run(ctx) })
	for _, at := range a.keysAddresses() {
		report := func(err error) {
			if err != nil {
				a.log.Warn("programs of this host cannot reach the keys", "err", err)
			}
			a.managers.herald.ailing("keys at "+at.String(), err)
		}
		g.Go(func() error { return gw.Keep(ctx, at.String(), policy, report) })
	}
	a.serveBridge(ctx, g, gw)
	return g.Wait()
}

// serveBridge serves the keys to containers too, where the host's settings say so.
func (a *agent) serveBridge(ctx context.Context, g *errgroup.Group, gw *gateway.Gateway) {
	settings, err := readSettings[join.Keys](filepath.Join(a.root, join.KeysPath))
	if err == nil {
		err = settings.Validate()
	}
	if err != nil {
		a.managers.herald.ailing("keys for containers", fmt.Errorf("cannot use the settings: %w", err))
		return
	}
	if settings.Bridge == "" {
		return
	}
	policy := gateway.Policy{Bridged: true, Grants: settings.Grants, Names: append(gateway.LocalNames(), a.self.Name)}
	report := func(err error) {
		if a.listen.IsLoopback() && errors.Is(err, syscall.EADDRINUSE) {
			err = nil // another host of this machine serves the same keys there
		}
		if err != nil {
			a.log.Warn("containers of this host cannot reach the keys", "err", err)
		}
		a.managers.herald.ailing("keys for containers", err)
	}
	g.Go(func() error { return gw.KeepBridge(ctx, settings.Bridge, policy, report) })
}

// keysAddresses are where programs of this host reach the keys: its loopback address, at the ports that etcd has. A host
// that shares its only address with others, on systems that have one, takes the two ports that follow its own.
func (a *agent) keysAddresses() []netip.AddrPort {
	at, ports := netip.AddrFrom4([4]byte{127, 0, 0, 1}), [2]int{gateway.PortV1, gateway.PortV3}
	if a.listen.IsLoopback() {
		at = a.listen
		if a.ports.API != roster.DefaultAPIPort {
			ports = [2]int{a.ports.Peer + 1, a.ports.Peer + 2}
		}
	}
	return []netip.AddrPort{netip.AddrPortFrom(at, uint16(ports[0])), netip.AddrPortFrom(at, uint16(ports[1]))}
}

// appsClient is what the keys need of etcd, at whichever voter answers.
type appsClient struct{ store *store.Etcd }

// Get implements keys.Client.
func (c appsClient) Get(ctx context.Context, key string, opts ...clientv3.OpOption) (resp *clientv3.GetResponse, err error) {
	err = c.store.Pass(ctx, true, func(ctx context.Context, e *clientv3.Client) (err error) {
		resp, err = e.Get(ctx, key, opts...)
		return err
	})
	return resp, err
}

// Txn implements keys.Client.
func (c appsClient) Txn(ctx context.Context) clientv3.Txn { return &appsTxn{ctx: ctx, store: c.store} }

// Watch implements keys.Client. Its channel is closed when the voter is left.
func (c appsClient) Watch(ctx context.Context, key string, opts ...clientv3.OpOption) clientv3.WatchChan {
	e, err := c.store.Client(ctx)
	if err != nil {
		none := make(chan clientv3.WatchResponse)
		close(none)
		return none
	}
	return e.Watch(ctx, key, opts...)
}

// RequestProgress implements keys.Client.
func (c appsClient) RequestProgress(ctx context.Context) error {
	e, err := c.store.Client(ctx)
	if err != nil {
		return err
	}
	return e.RequestProgress(ctx)
}

// Grant implements keys.Client. One whose answer was lost leaves a lease that ends by itself.
func (c appsClient) Grant(ctx context.Context, ttl int64) (resp *clientv3.LeaseGrantResponse, err error) {
	err = c.store.Pass(ctx, true, func(ctx context.Context, e *clientv3.Client) (err error) {
		resp, err = e.Grant(ctx, ttl)
		return err
	})
	return resp, err
}

// Revoke implements keys.Client.
func (c appsClient) Revoke(ctx context.Context, id clientv3.LeaseID) (resp *clientv3.LeaseRevokeResponse, err error) {
	err = c.store.Pass(ctx, true, func(ctx context.Context, e *clientv3.Client) (err error) {
		resp, err = e.Revoke(ctx, id)
		return err
	})
	return resp, err
}

// TimeToLive implements keys.Client.
func (c appsClient) TimeToLive(ctx context.Context, id clientv3.LeaseID, opts ...clientv3.LeaseOption,
) (resp *clientv3.LeaseTimeToLiveResponse, err error) {
	err = c.store.Pass(ctx, true, func(ctx context.Context, e *clientv3.Client) (err error) {
		resp, err = e.TimeToLive(ctx, id, opts...)
		return err
	})
	return resp, err
}

// appsTxn is a transaction that is made when it is whole.
type appsTxn struct {
	ctx       context.Context // that of the call which makes it, as clientv3 has it
	store     *store.Etcd
	guards    []clientv3.Cmp
	then, els []clientv3.Op
}

// If implements clientv3.Txn.
func (t *appsTxn) If(guards ...clientv3.Cmp) clientv3.Txn { t.guards = guards; return t }

// Then implements clientv3.Txn.
func (t *appsTxn) Then(ops ...clientv3.Op) clientv3.Txn { t.then = ops; return t }

// Else implements clientv3.Txn.
func (t *appsTxn) Else(ops ...clientv3.Op) clientv3.Txn { t.els = ops; return t }

// Commit implements clientv3.Txn.
func (t *appsTxn) Commit() (resp *clientv3.TxnResponse, err error) {
	err = t.store.Pass(t.ctx, false, func(ctx context.Context, e *clientv3.Client) (err error) {
		resp, err = e.Txn(ctx).If(t.guards...).Then(t.then...).Else(t.els...).Commit()
		return err
	})
	return resp, err
}
