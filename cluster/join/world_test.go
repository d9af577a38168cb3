package join

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/musterhq/muster/cluster/pki"
	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/store"
)

const (
	testCluster = "6f4f0a3e-91c1-4a65-9d0c-0b52f0a7a001"
	testHostID  = "0123456789abcdef0123456789abcdef"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is one cluster's authorities and the records of its tokens, an Admitter.
type world struct {
	t      *testing.T
	root   *pki.Authority
	issuer *pki.Authority

	mu      sync.Mutex
	tokens  map[string]store.Token
	calls   int
	remotes []netip.Addr
	fail    error // returned instead of admitting
}

func newWorld(t *testing.T) *world {
	t.Helper()
	root, err := pki.NewRoot(testCluster, "demo", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := root.NewIssuer(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return &world{t: t, root: root, issuer: issuer, tokens: map[string]store.Token{}}
}

// invite returns the user-data of a host and its key.
func (w *world) invite(ttl time.Duration) (Config, *ecdsa.PrivateKey) {
	w.t.Helper()
	secret, hash := NewToken()
	w.tokens[hash] = store.Token{
		V:       store.RecordVersion,
		Host:    roster.Host{ID: testHostID, Name: "n1", Generation: 1, Provider: "p", Voter: true},
		Expires: time.Now().Add(ttl),
	}
	return Config{
		Version: 1, ClusterID: testCluster, ClusterName: "demo", Host: "n1", HostID: testHostID, Generation: 1,
		Provider: "p", CA: string(w.root.CertPEM()), Token: secret,
	}, newKey(w.t)
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// Admit implements Admitter.
func (w *world) Admit(_ context.Context, req Request, pub crypto.PublicKey, remote netip.Addr) (Reply, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls++
	w.remotes = append(w.remotes, remote)
	if w.fail != nil {
		return Reply{}, w.fail
	}
	hash := HashToken(req.Token)
	tok, ok := w.tokens[hash]
	if !ok {
		return Reply{}, ErrTokenUnknown
	}
	pubHash, err := pki.PublicKeyHash(pub)
	if err != nil {
		return Reply{}, err
	}
	if tok, err = Redeem(tok, req, pubHash, time.Now()); err != nil {
		return Reply{}, err
	}
	w.tokens[hash] = tok
	h, err := Place(tok.Host, req, remote)
	if err != nil {
		return Reply{}, err
	}
	chain, err := w.issuer.SignHost(pub, h, testCluster, time.Now())
	if err != nil {
		return Reply{}, err
	}
	return Reply{Certificate: string(chain), Roster: roster.Roster{h}, Voter: &VoterRole{
		State: StateNew, ClusterToken: testCluster, InitialCluster: map[string]string{h.ID: h.PeerURL()},
		IssuerCertificate: string(w.issuer.CertPEM()), IssuerKey: string(w.issuer.KeyPEM()),
	}}, nil
}

// serverTLS is the configuration of one who may admit.
func (w *world) serverTLS() *tls.Config {
	w.t.Helper()
	pair, err := w.issuer.MintOperator(testCluster, time.Now())
	if err != nil {
		w.t.Fatal(err)
	}
	return w.configOf(pair)
}

func (w *world) configOf(pair pki.Pair) *tls.Config {
	w.t.Helper()
	src, err := pki.NewStaticSource(pair)
	if err != nil {
		w.t.Fatal(err)
	}
	return pki.ServerConfig(w.root.Cert, src, tls.VerifyClientCertIfGiven)
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// voterAPI serves joins over HTTP, as a voter's API does, and returns its address.
func (w *world) voterAPI(config *tls.Config) string {
	w.t.Helper()
	l := listen(w.t)
	srv := &http.Server{Handler: Handler(w, quiet()), ReadHeaderTimeout: time.Second, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(tls.NewListener(l, config))
	}()
	w.t.Cleanup(func() {
		_ = srv.Close()
		<-done
	})
	return l.Addr().String()
}

// operate dials the waiting host until f says that it is enough, as the operator does.
func operate(ctx context.Context, addr string, config *tls.Config, h http.Handler) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	return ServeConn(ctx, conn, config, h)
}

// directions runs one join each way: the host dials, and the host is dialled. served is what ServeConn returned, nil
// when the host dials.
func directions(t *testing.T, run func(t *testing.T, join func(w *world, cfg Config, key *ecdsa.PrivateKey, config *tls.Config) (reply Reply, err, served error))) {
	t.Helper()
	t.Run("host dials", func(t *testing.T) {
		run(t, func(w *world, cfg Config, key *ecdsa.PrivateKey, config *tls.Config) (Reply, error, error) {
			cfg.Endpoints = []string{w.voterAPI(config)}
			reply, err := Run(t.Context(), cfg, key, roster.Facts{}, listen(t), quiet())
			return reply, err, nil
		})
	})
	t.Run("host is dialled", func(t *testing.T) {
		run(t, func(w *world, cfg Config, key *ecdsa.PrivateKey, config *tls.Config) (Reply, error, error) {
			l := listen(t)
			served := make(chan error, 1)
			go func() { served <- operate(t.Context(), l.Addr().String(), config, Handler(w, quiet())) }()
			reply, err := Run(t.Context(), cfg, key, roster.Facts{}, l, quiet())
			return reply, err, <-served
		})
	})
}
