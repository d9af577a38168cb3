package store_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// startEtcd runs one real member in this process, on loopback, at ports that the kernel chooses. adjust may be nil.
func startEtcd(tb testing.TB, adjust func(*embed.Config)) *embed.Etcd {
	tb.Helper()
	cfg := embed.NewConfig()
	cfg.Dir = tb.TempDir()
	anyPort := func(scheme string) []url.URL { return []url.URL{{Scheme: scheme, Host: "127.0.0.1:0"}} }
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = anyPort("http"), anyPort("http")
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = anyPort("http"), anyPort("http")
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	if adjust != nil {
		adjust(cfg)
	}
	server, err := embed.StartEtcd(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(server.Close)
	select {
	case <-server.Server.ReadyNotify():
	case err := <-server.Err():
		tb.Fatal(err)
	case <-tb.Context().Done():
		tb.Fatal("etcd did not start")
	}
	return server
}

func endpointOf(server *embed.Etcd) string {
	return server.Config().ListenClientUrls[0].Scheme + "://" + server.Clients[0].Addr().String()
}

func compact(t *testing.T, endpoint string, revision int64) {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Compact(t.Context(), revision); err != nil {
		t.Fatal(err)
	}
}

// relay is a TCP proxy that can fail as hosts do. It stands before a member in tests.
type relay struct {
	listener net.Listener
	target   string
	wg       sync.WaitGroup

	mu     sync.Mutex
	frozen chan struct{} // non-nil: bytes wait until it is closed
	conns  []net.Conn
}

func startRelay(t *testing.T, target string) *relay {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	var lc net.ListenConfig
	listener, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{listener: listener, target: u.Host}
	r.wg.Go(r.accept)
	t.Cleanup(func() {
		r.thaw()
		r.kill()
		r.wg.Wait()
	})
	return r
}

func (r *relay) endpoint() string { return "http://" + r.listener.Addr().String() }

func (r *relay) accept() {
	for {
		in, err := r.listener.Accept()
		if err != nil {
			return
		}
		var dialer net.Dialer
		out, err := dialer.DialContext(context.Background(), "tcp", r.target)
		if err != nil {
			_ = in.Close()
			continue
		}
		r.mu.Lock()
		r.conns = append(r.conns, in, out)
		r.mu.Unlock()
		r.wg.Go(func() { r.copy(in, out) })
		r.wg.Go(func() { r.copy(out, in) })
	}
}

func (r *relay) copy(to, from net.Conn) {
	defer to.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		r.mu.Lock()
		frozen := r.frozen
		r.mu.Unlock()
		if frozen != nil {
			<-frozen
		}
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				_ = from.Close()
			}
			return
		}
	}
}

// freeze lets connections stand, and be accepted, without a byte going through: a process under SIGSTOP.
func (r *relay) freeze() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.frozen = make(chan struct{})
}

func (r *relay) thaw() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.frozen != nil {
		close(r.frozen)
		r.frozen = nil
	}
}

// kill closes every connection and refuses new ones: a process that is gone.
func (r *relay) kill() {
	_ = r.listener.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.conns {
		_ = c.Close()
	}
}
