package keysapi

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/musterhq/muster/agent/keys"
)

// startEtcd starts an etcd server of one member, without TLS, and returns a client of it.
func startEtcd(tb testing.TB) *clientv3.Client {
	tb.Helper()
	return startEtcdIn(tb, memoryDir(tb))
}

func startEtcdIn(tb testing.TB, dir string) *clientv3.Client {
	tb.Helper()
	cfg := embed.NewConfig()
	cfg.Dir = dir
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	local := freeURL(tb)
	peer := freeURL(tb)
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{local}, []url.URL{local}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	cfg.InitialCluster = cfg.Name + "=" + peer.String()
	server, err := embed.StartEtcd(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(server.Close)
	select {
	case <-server.Server.ReadyNotify():
	case <-tb.Context().Done():
		tb.Fatal("etcd is not ready")
	}
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{local.String()}, Logger: zap.NewNop()})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = client.Close() })
	return client
}

// memoryDir is for data that no test expects to find again: disks are slow, and shared.
func memoryDir(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "muster-keys")
	if err != nil {
		return tb.TempDir()
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func freeURL(tb testing.TB) url.URL {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return url.URL{Scheme: "http", Host: l.Addr().String()}
}

// startStore runs a store until the end of the test.
func startStore(tb testing.TB, cfg keys.Config) *keys.Store {
	tb.Helper()
	s := keys.New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Run(ctx) })
	tb.Cleanup(func() { cancel(); wg.Wait() })
	ready, stop := context.WithTimeout(ctx, 30*time.Second)
	defer stop()
	if err := s.Sync(ready); err != nil {
		tb.Fatal(err)
	}
	return s
}

// startServer serves both versions over an etcd of its own.
func startServer(tb testing.TB) (base string, client *clientv3.Client) {
	tb.Helper()
	client = startEtcd(tb)
	store := startStore(tb, keys.Config{Client: client})
	server := httptest.NewServer(New(Config{Keys: store, Name: "ours", ID: "1f"}).Handler())
	tb.Cleanup(server.Close)
	return server.URL, client
}

func TestPutAndGet(t *testing.T) {
	base, _ := startServer(t)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, base+"/v2/keys/a/b?value=x", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		t.Fatal(resp.Status)
	}
}
