package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/cluster/roster"
)

const testCluster = "6f4f0a3e-91c1-4a65-9d0c-0b52f0a7a001"

var testNow = time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC)

func testHost(voter bool) roster.Host {
	return roster.Host{
		ID: "0123456789abcdef0123456789abcdef", Name: "n1", Generation: 1, Address: "127.0.0.1",
		Ports: roster.DefaultPorts(), Voter: voter,
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func authorities(t testing.TB, now time.Time) (root, issuer *Authority) {
	t.Helper()
	root = must(NewRoot(testCluster, "demo", now))
	return root, must(root.NewIssuer(now))
}

func TestHostCertificate(t *testing.T) {
	root, issuer := authorities(t, testNow)
	key := must(NewKey())
	for _, voter := range []bool{false, true} {
		h := testHost(voter)
		peer, leaf, err := Verify(root.Cert, must(issuer.SignHost(&key.PublicKey, h, testCluster, testNow)), testNow)
		if err != nil {
			t.Fatal(err)
		}
		if want := (Peer{RoleHost, h.ID, testCluster}); peer != want {
			t.Errorf("peer = %+v, want %+v", peer, want)
		}
		names := []string{"n1.muster.internal"}
		if voter {
			names = append(names, JoinName, VoterName)
		}
		if !slices.Equal(leaf.DNSNames, names) || !leaf.IPAddresses[0].Equal(net.IPv4(127, 0, 0, 1)) || len(leaf.IPAddresses) != 1 {
			t.Errorf("voter %t: names %v, addresses %v", voter, leaf.DNSNames, leaf.IPAddresses)
		}
		if leaf.Subject.CommonName != h.ID || leaf.NotBefore != testNow.Add(-Backdate) || leaf.NotAfter != testNow.Add(LeafLifetime) {
			t.Errorf("subject %v from %v to %v", leaf.Subject, leaf.NotBefore, leaf.NotAfter)
		}
		if got, want := RenewAt(leaf), testNow.Add(12*time.Hour-30*time.Second); !got.Equal(want) {
			t.Errorf("RenewAt = %v, want %v", got, want)
		}
	}
}

// TestRoles holds each kind of leaf against each role and each name that a client may ask for.
func TestRoles(t *testing.T) {
	root, issuer := authorities(t, testNow)
	key := must(NewKey())
	voter := testHost(true)
	cases := map[string]struct {
		chain []byte
		role  Role
		cn    string
		names string // of join and voter, those that it may serve as
	}{
		"host":     {must(issuer.SignHost(&key.PublicKey, testHost(false), testCluster, testNow)), RoleHost, voter.ID, ""},
		"voter":    {must(issuer.SignHost(&key.PublicKey, voter, testCluster, testNow)), RoleHost, voter.ID, "join voter"},
		"control":  {must(issuer.MintControl(voter, testCluster, testNow)).CertPEM, RoleVoter, "root", ""},
		"peer":     {must(issuer.MintPeer(voter, testCluster, testNow)).CertPEM, RolePeer, "muster-peer", ""},
		"operator": {must(issuer.MintOperator(testCluster, testNow)).CertPEM, RoleOperator, "operator", "join"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			peer, leaf, err := Verify(root.Cert, c.chain, testNow)
			if err != nil {
				t.Fatal(err)
			}
			if peer.Role != c.role || leaf.Subject.CommonName != c.cn {
				t.Errorf("role %s, common name %q", peer.Role, leaf.Subject.CommonName)
			}
			for _, n := range []string{JoinName, VoterName} {
				word, _, _ := strings.Cut(n, ".")
				if got, want := leaf.VerifyHostname(n) == nil, strings.Contains(c.names, word); got != want {
					t.Errorf("may serve as %s: %t, want %t", n, got, want)
				}
			}
		})
	}
}

func TestRefusedToSign(t *testing.T) {
	root, issuer := authorities(t, testNow)
	key := must(NewKey())
	change := func(f func(*roster.Host)) roster.Host {
		h := testHost(true)
		f(&h)
		return h
	}
	hosts := map[string]roster.Host{
		"named join":       change(func(h *roster.Host) { h.Name = "join" }),
		"named voter":      change(func(h *roster.Host) { h.Name = "voter" }),
		"named with a dot": change(func(h *roster.Host) { h.Name = "join.muster.internal" }),
		"ID is root":       change(func(h *roster.Host) { h.ID = "root" }),
		"ID is a path":     change(func(h *roster.Host) { h.ID = "../../operator" }),
		"no address":       change(func(h *roster.Host) { h.Address = "" }),
		"any address":      change(func(h *roster.Host) { h.Address = "0.0.0.0" }),
		"no port":          change(func(h *roster.Host) { h.Ports.Peer = 0 }),
	}
	for name, h := range hosts {
		if _, err := issuer.SignHost(&key.PublicKey, h, testCluster, testNow); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
	refused := map[string]func() error{
		"control of no voter": func() error { _, err := issuer.MintControl(testHost(false), testCluster, testNow); return err },
		"peer of no voter":    func() error { _, err := issuer.MintPeer(testHost(false), testCluster, testNow); return err },
		"another cluster": func() error {
			_, err := issuer.MintOperator(strings.Replace(testCluster, "6", "7", 1), testNow)
			return err
		},
		"leaf by the root":    func() error { _, err := root.MintOperator(testCluster, testNow); return err },
		"issuer by an issuer": func() error { _, err := issuer.NewIssuer(testNow); return err },
		"expired issuer":      func() error { _, err := issuer.MintOperator(testCluster, testNow.Add(IssuerLifetime)); return err },
		"issuer not yet valid": func() error {
			_, err := issuer.MintOperator(testCluster, testNow.Add(-time.Hour))
			return err
		},
		"cluster is no UUID": func() error { _, err := NewRoot("demo", "demo", testNow); return err },
		"P-384": func() error {
			k := must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
			_, err := issuer.SignHost(&k.PublicKey, testHost(false), testCluster, testNow)
			return err
		},
	}
	for name, f := range refused {
		if err := f(); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
	late, err := issuer.MintOperator(testCluster, testNow.Add(IssuerLifetime-time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if leaf := must(ParseChain(late.CertPEM))[0]; leaf.NotAfter.After(issuer.Cert.NotAfter) {
		t.Error("a leaf outlives its issuer")
	}
}

func TestVerifyRefuses(t *testing.T) {
	root, issuer := authorities(t, testNow)
	foreign, foreignIssuer := authorities(t, testNow)
	key := must(NewKey())
	chain := must(issuer.SignHost(&key.PublicKey, testHost(false), testCluster, testNow))
	cases := map[string]struct {
		root  *x509.Certificate
		chain []byte
		now   time.Time
	}{
		"foreign root":           {foreign.Cert, chain, testNow},
		"expired":                {root.Cert, chain, testNow.Add(LeafLifetime + 1)},
		"not yet valid":          {root.Cert, chain, testNow.Add(-Backdate - 1)},
		"no issuer in the chain": {root.Cert, encodeCert(must(ParseChain(chain))[0]), testNow},
		"another issuer":         {root.Cert, append(encodeCert(must(ParseChain(chain))[0]), foreignIssuer.CertPEM()...), testNow},
		"the issuer itself":      {root.Cert, issuer.CertPEM(), testNow},
		"the root itself":        {root.Cert, root.CertPEM(), testNow},
		"a key after it":         {root.Cert, append(slices.Clone(chain), EncodeKey(key)...), testNow},
		"text before it":         {root.Cert, append([]byte("x"), chain...), testNow},
		"empty":                  {root.Cert, nil, testNow},
		"a long chain":           {root.Cert, bytes.Repeat(chain, 2), testNow},
	}
	for name, c := range cases {
		if _, _, err := Verify(c.root, c.chain, c.now); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestForgedAuthority has an issuer sign an authority of its own, which the path length forbids.
func TestForgedAuthority(t *testing.T) {
	root, issuer := authorities(t, testNow)
	key := must(NewKey())
	template := authorityTemplate("muster issuer", testCluster, 0)
	template.MaxPathLenZero = true
	template.NotBefore, template.NotAfter = testNow, testNow.Add(time.Hour)
	forged := must(sign(template, key, issuer.Cert, issuer.key))
	pair := must(forged.MintOperator(testCluster, testNow))
	chain := append(slices.Clone(pair.CertPEM), issuer.CertPEM()...)
	if _, _, err := Verify(root.Cert, chain, testNow); err == nil {
		t.Error("an issuer below an issuer is accepted")
	}
}

func TestCSR(t *testing.T) {
	key := must(NewKey())
	good := must(NewCSR(key, "x"))
	if pub := must(ParseCSR(good)); !pub.Equal(&key.PublicKey) {
		t.Error("another public key")
	}
	request := func(template x509.CertificateRequest, signer crypto.Signer) []byte {
		der := must(x509.CreateCertificateRequest(rand.Reader, &template, signer))
		return pem.EncodeToMemory(&pem.Block{Type: blockCSR, Bytes: der})
	}
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(good)
	tampered := slices.Clone(block.Bytes)
	tampered[len(tampered)-1] ^= 1
	refused := map[string][]byte{
		"bad signature": pem.EncodeToMemory(&pem.Block{Type: blockCSR, Bytes: tampered}),
		"RSA":           request(x509.CertificateRequest{}, must(rsa.GenerateKey(rand.Reader, 2048))),
		"Ed25519":       request(x509.CertificateRequest{}, edwards),
		"P-384":         request(x509.CertificateRequest{}, must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))),
		"two":           append(slices.Clone(good), good...),
		"a certificate": pem.EncodeToMemory(&pem.Block{Type: blockCert, Bytes: block.Bytes}),
		"empty":         nil,
		"too long":      bytes.Repeat([]byte("\n"), maxCSR+1),
	}
	for name, csr := range refused {
		if _, err := ParseCSR(csr); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestRequestIsIgnored asks for everything that a host must not get.
func TestRequestIsIgnored(t *testing.T) {
	_, issuer := authorities(t, testNow)
	key := must(NewKey())
	uri := must(url.Parse("muster://" + testCluster + "/operator"))
	der := must(x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject:     pkix.Name{CommonName: "root", Organization: []string{"x"}},
		DNSNames:    []string{JoinName, VoterName},
		IPAddresses: []net.IP{net.IPv4(192, 0, 2, 1)},
		URIs:        []*url.URL{uri},
		ExtraExtensions: []pkix.Extension{
			{Id: []int{2, 5, 29, 19}, Critical: true, Value: []byte{0x30, 0x03, 0x01, 0x01, 0xff}}, // CA:TRUE
		},
	}, key))
	pub := must(ParseCSR(pem.EncodeToMemory(&pem.Block{Type: blockCSR, Bytes: der})))
	leaf := must(ParseChain(must(issuer.SignHost(pub, testHost(false), testCluster, testNow))))[0]
	if leaf.IsCA || leaf.Subject.CommonName != testHost(false).ID || len(leaf.Subject.Organization) != 0 ||
		len(leaf.DNSNames) != 1 || len(leaf.URIs) != 1 || leaf.URIs[0].String() == uri.String() ||
		!leaf.IPAddresses[0].Equal(net.IPv4(127, 0, 0, 1)) {
		t.Errorf("the request shows in %+v", leaf.Subject)
	}
}

func TestPeerFromCertRefuses(t *testing.T) {
	id := testHost(false).ID
	uri := func(s string) []*url.URL { return []*url.URL{must(url.Parse(s))} }
	base := "muster://" + testCluster
	cases := map[string]*x509.Certificate{
		"no URI":                  {},
		"two URIs":                {URIs: append(uri(base+"/operator"), uri(base+"/operator")...)},
		"unknown role":            {URIs: uri(base + "/admin")},
		"no role":                 {URIs: uri(base)},
		"another scheme":          {URIs: uri("https://" + testCluster + "/operator"), Subject: pkix.Name{CommonName: CNOperator}},
		"host without ID":         {URIs: uri(base + "/host")},
		"host with an empty ID":   {URIs: uri(base + "/host/")},
		"host with a long path":   {URIs: uri(base + "/host/" + id + "/x"), Subject: pkix.Name{CommonName: id}},
		"a query":                 {URIs: uri(base + "/operator?x"), Subject: pkix.Name{CommonName: CNOperator}},
		"a fragment":              {URIs: uri(base + "/operator#x"), Subject: pkix.Name{CommonName: CNOperator}},
		"a user":                  {URIs: uri("muster://x@" + testCluster + "/operator"), Subject: pkix.Name{CommonName: CNOperator}},
		"an escaped slash":        {URIs: uri(base + "/host%2f" + id), Subject: pkix.Name{CommonName: id}},
		"operator with an ID":     {URIs: uri(base + "/operator/" + id), Subject: pkix.Name{CommonName: CNOperator}},
		"no cluster":              {URIs: uri("muster:///operator"), Subject: pkix.Name{CommonName: CNOperator}},
		"host named root":         {URIs: uri(base + "/host/" + id), Subject: pkix.Name{CommonName: "root"}},
		"voter named as the host": {URIs: uri(base + "/voter/" + id), Subject: pkix.Name{CommonName: id}},
		"an authority":            {URIs: uri(base + "/operator"), Subject: pkix.Name{CommonName: CNOperator}, IsCA: true},
	}
	for name, cert := range cases {
		if peer, err := PeerFromCert(cert); err == nil {
			t.Errorf("%s: is %s", name, peer)
		}
	}
}

func TestRenewable(t *testing.T) {
	root, issuer := authorities(t, testNow)
	key := must(NewKey())
	chain := must(issuer.SignHost(&key.PublicKey, testHost(false), testCluster, testNow.Add(24*time.Hour)))
	peer, pub, err := Renewable(root.Cert, chain) // expired by the wall clock or not, it does not matter
	if err != nil || peer.ID != testHost(false).ID || !pub.Equal(&key.PublicKey) {
		t.Errorf("got %s, %v", peer, err)
	}
	if _, _, err := Renewable(root.Cert, must(issuer.MintOperator(testCluster, testNow)).CertPEM); err == nil {
		t.Error("the operator's certificate is renewed")
	}
	foreign, _ := authorities(t, testNow)
	if _, _, err := Renewable(foreign.Cert, chain); err == nil {
		t.Error("a foreign certificate is renewed")
	}
}

func TestAuthorityFiles(t *testing.T) {
	root, issuer := authorities(t, testNow)
	again, err := LoadAuthority(issuer.CertPEM(), issuer.KeyPEM())
	if err != nil || again.ClusterID() != testCluster || !again.key.Equal(issuer.key) {
		t.Errorf("loaded %v, %v", again, err)
	}
	if _, err := LoadAuthority(issuer.CertPEM(), root.KeyPEM()); err == nil {
		t.Error("a key of another authority is accepted")
	}
	leaf := must(issuer.MintOperator(testCluster, testNow))
	if _, err := LoadAuthority(encodeCert(must(ParseChain(leaf.CertPEM))[0]), leaf.KeyPEM); err == nil {
		t.Error("a leaf is accepted as an authority")
	}
	if _, err := ParseKey([]byte("-----BEGIN PRIVATE KEY-----\nY2FuYXJ5\n-----END PRIVATE KEY-----\n")); err == nil ||
		strings.Contains(err.Error(), "canary") {
		t.Errorf("ParseKey: %v", err)
	}
}

func TestKeysAreNotPrinted(t *testing.T) {
	root, issuer := authorities(t, testNow)
	pair := must(issuer.MintOperator(testCluster, testNow))
	secret := new(big.Int).SetBytes(must(root.key.Bytes())).String()
	for _, v := range []any{root, pair, struct{ A *Authority }{root}} {
		for _, verb := range []string{"%v", "%+v", "%s", "%#v"} {
			if s := fmt.Sprintf(verb, v); strings.Contains(s, secret) || strings.Contains(s, "PRIVATE") {
				t.Errorf("%s of %T shows a key", verb, v)
			}
		}
	}
}

func TestPublicKeyHash(t *testing.T) {
	a, b := must(NewKey()), must(NewKey())
	copied := a.PublicKey
	if h := must(PublicKeyHash(&a.PublicKey)); h != must(PublicKeyHash(&copied)) || h == must(PublicKeyHash(&b.PublicKey)) {
		t.Error("not a hash of the key")
	}
	if _, err := PublicKeyHash("x"); err == nil {
		t.Error("a string has a hash")
	}
}

func TestErrNoCertificate(t *testing.T) {
	if _, err := PeerFromCert(&x509.Certificate{}); errors.Is(err, ErrNoCertificate) {
		t.Error("a certificate without URI counts as none")
	}
}
