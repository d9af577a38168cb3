package gateway

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/musterhq/muster/cluster/store"
)

// world is a real etcd with a gateway before it.
type world struct {
	*testing.T
	voter *clientv3.Client // past the gateway
	store *store.Etcd
	keys  http.Handler // v1 and v2
}

func newWorld(t *testing.T) *world {
	t.Helper()
	endpoint := startEtcd(t)
	st, err := store.DialEtcd(t.Context(), store.EtcdConfig{Endpoints: []string{endpoint}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	w := &world{T: t, store: st, keys: http.HandlerFunc(echo)}
	w.voter = w.client(endpoint)
	return w
}

func startEtcd(t *testing.T) (endpoint string) {
	t.Helper()
	cfg := embed.NewConfig()
	cfg.Dir = t.TempDir()
	anyPort := []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = anyPort, anyPort
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = anyPort, anyPort
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	server, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	select {
	case <-server.Server.ReadyNotify():
	case err := <-server.Err():
		t.Fatal(err)
	}
	return "http://" + server.Clients[0].Addr().String()
}

// gateway starts one and returns its address.
func (w *world) gateway(p Policy) (address string) {
	w.Helper()
	if p.Bridged && !p.From.IsValid() {
		p.From = netip.MustParsePrefix("127.0.0.0/8")
	}
	var lc net.ListenConfig
	l, err := lc.Listen(w.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		w.Fatal(err)
	}
	g := New(Config{Host: "node-1", Voters: w.store, Keys: w.keys, Log: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(w.Context())
	done := make(chan error, 1)
	go func() { done <- g.Serve(ctx, l, p) }()
	w.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			w.Error(err)
		}
	})
	return l.Addr().String()
}

// echo stands for v1 and v2: it says what reached it.
func echo(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Reached", r.Method+" "+r.URL.Path)
}

func (w *world) client(endpoint string) *clientv3.Client {
	w.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Logger: zap.NewNop(), DialTimeout: 10 * time.Second})
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _ = c.Close() })
	return c
}

// put writes past the gateway.
func (w *world) put(key, value string, opts ...clientv3.OpOption) {
	w.Helper()
	if _, err := w.voter.Put(w.Context(), key, value, opts...); err != nil {
		w.Fatal(err)
	}
}
