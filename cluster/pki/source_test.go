package pki

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/musterhq/muster/cluster/roster"
)

func TestSourceReloads(t *testing.T) {
	_, issuer := authorities(t, time.Now())
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "x.crt"), filepath.Join(dir, "x.key")
	first := must(issuer.MintOperator(testCluster, time.Now()))
	second := must(issuer.MintOperator(testCluster, time.Now()))
	write := func(name string, content []byte) {
		t.Helper()
		if err := WriteFile(name, content); err != nil {
			t.Fatal(err)
		}
	}
	write(certFile, first.CertPEM)
	write(keyFile, first.KeyPEM)
	src, err := NewSource(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	holds := func(when string, want Pair) {
		t.Helper()
		pair, err := src.GetCertificate(nil)
		if err != nil {
			t.Fatal(err)
		}
		if !pair.Leaf.Equal(must(ParseChain(want.CertPEM))[0]) || !must(ParseKey(want.KeyPEM)).Equal(pair.PrivateKey) {
			t.Errorf("%s: another pair", when)
		}
	}
	holds("at first", first)
	write(certFile, second.CertPEM)
	holds("between certificate and key", first)
	write(keyFile, second.KeyPEM)
	holds("after both", second)
	write(certFile, []byte("torn"))
	holds("with a torn file", second)
	if err := os.Remove(certFile); err != nil {
		t.Fatal(err)
	}
	holds("without the file", second)
}

func TestSourceOfOneFile(t *testing.T) {
	_, issuer := authorities(t, time.Now())
	name := filepath.Join(t.TempDir(), "pair.pem")
	pair := must(issuer.MintOperator(testCluster, time.Now()))
	if err := WritePair(name, pair); err != nil {
		t.Fatal(err)
	}
	src, err := NewSource(name, name)
	if err != nil {
		t.Fatal(err)
	}
	if !src.Leaf().Equal(must(ParseChain(pair.CertPEM))[0]) {
		t.Error("another certificate")
	}
	info, err := os.Stat(name)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if left, err := os.ReadDir(filepath.Dir(name)); err != nil || len(left) != 1 {
		t.Errorf("files left behind: %v, %v", left, err)
	}
}

// shake makes one connection and returns both sides' errors, and whom the server saw.
func shake(t *testing.T, server, client *tls.Config) (Peer, error, error) {
	t.Helper()
	a, b := net.Pipe()
	defer func() { _, _ = a.Close(), b.Close() }()
	serverErr := make(chan error, 1)
	s := tls.Server(a, server)
	go func() {
		err := s.HandshakeContext(t.Context())
		if err == nil {
			_, err = s.Write([]byte("x"))
		} else {
			_ = a.Close()
		}
		serverErr <- err
	}()
	c := tls.Client(b, client)
	_, clientErr := c.Read(make([]byte, 1)) // a TLS 1.3 client learns of a refusal when it reads
	_ = b.Close()
	err := <-serverErr
	peer, peerErr := PeerFromState(s.ConnectionState())
	return peer, errors.Join(err, peerErr), clientErr
}

func TestTLS(t *testing.T) {
	root, issuer := authorities(t, time.Now())
	foreign, foreignIssuer := authorities(t, time.Now())
	source := func(p Pair) *Source { return must(NewStaticSource(p)) }
	voter := testHost(true)
	hostOf := func(a *Authority, h roster.Host, now time.Time) *Source {
		key := must(NewKey())
		return source(Pair{must(a.SignHost(&key.PublicKey, h, testCluster, now)), EncodeKey(key)})
	}
	server := ServerConfig(root.Cert, hostOf(issuer, voter, time.Now()), tls.VerifyClientCertIfGiven)
	host := hostOf(issuer, testHost(false), time.Now())
	expired := hostOf(must(root.NewIssuer(time.Now())), testHost(false), time.Now())
	later := ServerConfig(root.Cert, hostOf(issuer, voter, time.Now()), tls.VerifyClientCertIfGiven)
	later.Time = func() time.Time { return time.Now().Add(LeafLifetime + time.Hour) }
	stale := ClientConfig(root.Cert, expired, VoterName)
	impostor := ServerConfig(root.Cert, host, tls.NoClientCert)
	plain := ClientConfig(root.Cert, host, VoterName)
	old := plain.Clone()
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	cases := map[string]struct {
		server, client *tls.Config
		role           Role
		ok             bool
	}{
		"host to voter":             {server, plain, RoleHost, true},
		"operator to voter":         {server, ClientConfig(root.Cert, source(must(issuer.MintOperator(testCluster, time.Now()))), VoterName), RoleOperator, true},
		"no certificate":            {server, ClientConfig(root.Cert, nil, VoterName), "", true},
		"client of a foreign CA":    {server, ClientConfig(root.Cert, hostOf(foreignIssuer, voter, time.Now()), VoterName), "", false},
		"server of a foreign CA":    {server, ClientConfig(foreign.Cert, host, VoterName), "", false},
		"expired client":            {later, stale, "", false},
		"host poses as a voter":     {impostor, plain, "", false},
		"host poses as an admitter": {impostor, ClientConfig(root.Cert, nil, JoinName), "", false},
		"host as itself":            {impostor, ClientConfig(root.Cert, nil, HostName("n1")), "", true},
		"TLS 1.2":                   {server, old, "", false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			peer, serverErr, clientErr := shake(t, c.server, c.client)
			if c.role == "" && errors.Is(serverErr, ErrNoCertificate) && c.ok {
				serverErr = nil
			}
			if ok := serverErr == nil && clientErr == nil; ok != c.ok {
				t.Fatalf("server: %v, client: %v", serverErr, clientErr)
			}
			if c.ok && peer.Role != c.role {
				t.Errorf("the server saw %q", peer.Role)
			}
		})
	}
}

func TestUnverifiedPeer(t *testing.T) {
	_, issuer := authorities(t, time.Now())
	cert := must(ParseChain(must(issuer.MintOperator(testCluster, time.Now())).CertPEM))[0]
	if _, err := PeerFromState(tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}}); err == nil {
		t.Error("a certificate that was not verified has a role")
	}
}
