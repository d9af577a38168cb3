// Package keystest starts what the tests of the keys need. It is for tests alone.
package keystest

import (
	"net"
	"net/url"
	"os"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// Etcd is an etcd server of one member, without TLS, with a client of it.
type Etcd struct {
	Client *clientv3.Client
	stop   func()
}

// Start starts a server whose data lie in dir; "" means in memory, for tests that expect nothing of the disk.
func Start(tb testing.TB, dir string) *Etcd {
	tb.Helper()
	cfg := embed.NewConfig()
	if cfg.Dir = dir; dir == "" {
		cfg.Dir = MemoryDir(tb)
	}
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	local, peer := FreeURL(tb), FreeURL(tb)
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{local}, []url.URL{local}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	cfg.InitialCluster = cfg.Name + "=" + peer.String()
	server, err := embed.StartEtcd(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	e := &Etcd{stop: server.Close}
	tb.Cleanup(e.Stop)
	select {
	case <-server.Server.ReadyNotify():
	case <-tb.Context().Done():
		tb.Fatal("etcd is not ready")
	}
	if e.Client, err = clientv3.New(clientv3.Config{Endpoints: []string{local.String()}, Logger: zap.NewNop()}); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = e.Client.Close() })
	return e
}

// Stop ends the server, and leaves its client.
func (e *Etcd) Stop() {
	if e.stop != nil {
		e.stop()
		e.stop = nil
	}
}

// MemoryDir is a directory in memory where there is one: disks are slow, and shared.
func MemoryDir(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "muster-keys")
	if err != nil {
		return tb.TempDir()
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// FreeURL is a URL of this machine whose port nobody uses.
func FreeURL(tb testing.TB) url.URL {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return url.URL{Scheme: "http", Host: l.Addr().String()}
}
