package store_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/musterhq/muster/cluster/store"
)

// authority signs certificates for a test.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) authority {
	a := authority{t: t}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test root"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a authority) sign(name string) tls.Certificate {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// client is the TLS configuration of the user that name is.
func (a authority) client(name string) *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	return &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{a.sign(name)}, MinVersion: tls.VersionTLS13}
}

func (a authority) write(name string, blocks ...*pem.Block) string {
	a.t.Helper()
	var data []byte
	for _, b := range blocks {
		data = append(data, pem.EncodeToMemory(b)...)
	}
	path := filepath.Join(a.t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		a.t.Fatal(err)
	}
	return path
}

// serve makes a member ask for certificates of this authority.
func (a authority) serve(cfg *embed.Config) {
	leaf := a.sign("server")
	key, err := x509.MarshalPKCS8PrivateKey(leaf.PrivateKey)
	if err != nil {
		a.t.Fatal(err)
	}
	https := []url.URL{{Scheme: "https", Host: "127.0.0.1:0"}}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = https, https
	cfg.ClientTLSInfo.CertFile = a.write("server.crt", &pem.Block{Type: "CERTIFICATE", Bytes: leaf.Certificate[0]})
	cfg.ClientTLSInfo.KeyFile = a.write("server.key", &pem.Block{Type: "PRIVATE KEY", Bytes: key})
	cfg.ClientTLSInfo.TrustedCAFile = a.write("ca.crt", &pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
	cfg.ClientTLSInfo.ClientCertAuth = true
}

// protect makes the user "guest", who may read /open/ and write /open/guest, and turns auth on.
func protect(t *testing.T, endpoint string, cfg *tls.Config) {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, TLS: cfg, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx := t.Context()
	read, write := clientv3.PermissionType(clientv3.PermRead), clientv3.PermissionType(clientv3.PermReadWrite)
	noPassword := &clientv3.UserAddOptions{NoPassword: true}
	for _, step := range []func() error{
		func() error { _, err := client.UserAddWithOptions(ctx, "root", "", noPassword); return err },
		func() error { _, err := client.UserGrantRole(ctx, "root", "root"); return err },
		func() error { _, err := client.UserAddWithOptions(ctx, "guest", "", noPassword); return err },
		func() error { _, err := client.RoleAdd(ctx, "guest"); return err },
		func() error {
			_, err := client.RoleGrantPermission(ctx, "guest", "/open/", clientv3.GetPrefixRangeEnd("/open/"), read)
			return err
		},
		func() error { _, err := client.RoleGrantPermission(ctx, "guest", "/open/guest", "", write); return err },
		func() error { _, err := client.UserGrantRole(ctx, "guest", "guest"); return err },
		func() error { _, err := client.AuthEnable(ctx); return err },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestEtcdDenied(t *testing.T) {
	ca := newAuthority(t)
	endpoint := endpointOf(startEtcd(t, ca.serve))
	protect(t, endpoint, ca.client("root"))
	open := func(name string) *store.Etcd {
		st, err := store.DialEtcd(t.Context(), store.EtcdConfig{Endpoints: []string{endpoint}, TLS: ca.client(name)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = st.Close() })
		return st
	}
	root, guest := open("root"), open("guest")
	after := put(t, root, "/open/root", "v")
	put(t, root, "/closed", "v")
	put(t, guest, "/open/guest", "v")

	for name, call := range map[string]func(st *store.Etcd) error{
		"range": func(st *store.Etcd) error { _, err := st.Range(t.Context(), "/closed"); return err },
		"stale": func(st *store.Etcd) error { _, err := st.RangeStale(t.Context(), "/closed"); return err },
		"get":   func(st *store.Etcd) error { _, err := st.Get(t.Context(), "/closed"); return err },
		"commit": func(st *store.Etcd) error {
			_, err := st.Commit(t.Context(), store.Commit{Ops: []store.Op{store.Put("/open/root", nil)}})
			return err
		},
		"partly": func(st *store.Etcd) error {
			ops := []store.Op{store.Put("/open/guest", []byte("w")), store.Put("/open/root", nil)}
			_, err := st.Commit(t.Context(), store.Commit{Ops: ops})
			return err
		},
		"watch": func(st *store.Etcd) error { return (<-st.Watch(t.Context(), "/closed", after)).Err },
	} {
		for who, st := range map[string]*store.Etcd{"guest": guest, "stranger": open("stranger")} {
			if err := call(st); !errors.Is(err, store.ErrDenied) {
				t.Errorf("%s by %s: %v, want ErrDenied", name, who, err)
			}
		}
	}
	if item, err := guest.Get(t.Context(), "/open/guest"); err != nil || string(item.Value) != "v" {
		t.Errorf("a denied commit wrote a part: %+v, %v", item, err)
	}
	events := guest.Watch(t.Context(), "/open/", after)
	if change := <-events; len(change.Events) != 1 || change.Events[0].Key != "/open/guest" {
		t.Errorf("guest's own watch: %+v", change)
	}
}

// TestEtcdForeignAuthority: the reason must reach whoever has to repair it.
func TestEtcdForeignAuthority(t *testing.T) {
	endpoint := endpointOf(startEtcd(t, newAuthority(t).serve))
	st, err := store.DialEtcd(t.Context(), store.EtcdConfig{
		Endpoints: []string{endpoint}, TLS: newAuthority(t).client("root"), Timeout: time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	_, err = st.Get(t.Context(), "/a")
	if !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "x509") {
		t.Errorf("foreign certificate authority: %v", err)
	}
}

// TestEtcdLeavesNothingRunning: a closed client owns no goroutine.
func TestEtcdLeavesNothingRunning(t *testing.T) {
	endpoint := endpointOf(startEtcd(t, nil))
	warm := dial(t, endpoint) // until it answers the server still starts goroutines
	put(t, warm, "/a", "0")
	_ = warm.Close()
	// The server's own goroutines for a connection end a moment after it; they are not the client's.
	server := []goleak.Option{
		goleak.IgnoreAnyFunction("google.golang.org/grpc/internal/transport.NewServerTransport"),
		goleak.IgnoreAnyFunction("google.golang.org/grpc.(*Server).handleRawConn.func1"),
		goleak.IgnoreAnyFunction("google.golang.org/grpc.(*Server).serveStreams.func2.1"),
		goleak.IgnoreCurrent(),
	}
	st, err := store.DialEtcd(t.Context(), store.EtcdConfig{Endpoints: []string{endpoint}})
	if err != nil {
		t.Fatal(err)
	}
	session, err := st.NewSession(t.Context(), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.Campaign(t.Context(), "/leader/", "one", session); err != nil {
		t.Fatal(err)
	}
	st.Watch(t.Context(), "/", put(t, st, "/a", "1"))
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	goleak.VerifyNone(t, server...)
}
