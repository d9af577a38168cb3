package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"

	"github.com/musterhq/muster/cluster/roster"
)

// The DNS names of leaves.
const (
	JoinName   = "join.muster.internal"  // voters and operator: may admit hosts
	VoterName  = "voter.muster.internal" // voters: may serve the store
	hostDomain = ".muster.internal"
)

// The common names of leaves that are not hosts'. No host ID is equal to one: IDs are 32 hexadecimal digits.
const (
	CNPeer     = "muster-peer"
	CNControl  = "root"
	CNOperator = "operator"
)

// Pair is a certificate with its issuer's, and the key.
type Pair struct {
	CertPEM []byte
	KeyPEM  []byte
}

// String never shows the key.
func (p Pair) String() string {
	return fmt.Sprintf("{%d bytes of certificate, key ***}", len(p.CertPEM))
}

// GoString is String.
func (p Pair) GoString() string { return p.String() }

// HostName is the DNS name of a host in its certificate.
func HostName(name string) string { return name + hostDomain }

// SignHost returns a certificate chain (PEM, the host's first) for a host's public key. Of the host it takes ID, Name,
// Address and Voter from the roster's entry h.
func (a *Authority) SignHost(pub crypto.PublicKey, h roster.Host, clusterID string, now time.Time) ([]byte, error) {
	key, err := p256(pub)
	if err != nil {
		return nil, fmt.Errorf("cannot sign for host %s: %w", h.Name, err)
	}
	t, err := hostTemplate(h, RoleHost, h.ID)
	if err != nil {
		return nil, err
	}
	t.DNSNames = []string{HostName(h.Name)}
	if h.Voter {
		t.DNSNames = append(t.DNSNames, JoinName, VoterName)
	}
	return a.leaf(t, Peer{Role: RoleHost, ID: h.ID, ClusterID: clusterID}, key, now)
}

// MintOperator makes the CLI's credentials, which may also serve joins.
func (a *Authority) MintOperator(clusterID string, now time.Time) (Pair, error) {
	t := &x509.Certificate{Subject: pkix.Name{CommonName: CNOperator}, DNSNames: []string{JoinName}}
	return a.mint(t, Peer{Role: RoleOperator, ClusterID: clusterID}, now)
}

// MintPeer makes a voter's credentials among etcd's peers. They are of no use elsewhere.
func (a *Authority) MintPeer(h roster.Host, clusterID string, now time.Time) (Pair, error) {
	t, err := hostTemplate(h, RolePeer, CNPeer)
	if err != nil {
		return Pair{}, err
	}
	return a.mint(t, Peer{Role: RolePeer, ID: h.ID, ClusterID: clusterID}, now)
}

// MintControl makes a voter's privileged credentials: etcd's root user, and a caller that other agents obey.
func (a *Authority) MintControl(h roster.Host, clusterID string, now time.Time) (Pair, error) {
	t, err := hostTemplate(h, RoleVoter, CNControl)
	if err != nil {
		return Pair{}, err
	}
	return a.mint(t, Peer{Role: RoleVoter, ID: h.ID, ClusterID: clusterID}, now)
}

// hostTemplate checks what a certificate takes from the roster. Roles other than RoleHost are for voters.
func hostTemplate(h roster.Host, role Role, commonName string) (*x509.Certificate, error) {
	if err := h.Validate(); err != nil {
		return nil, fmt.Errorf("cannot sign: %w", err)
	}
	if role != RoleHost && !h.Voter {
		return nil, fmt.Errorf("cannot sign: host %s is no voter and has no %s certificate", h.Name, role)
	}
	return &x509.Certificate{
		Subject:     pkix.Name{CommonName: commonName},
		IPAddresses: []net.IP{net.ParseIP(h.Address)},
	}, nil
}

func (a *Authority) mint(t *x509.Certificate, who Peer, now time.Time) (Pair, error) {
	key, err := NewKey()
	if err != nil {
		return Pair{}, err
	}
	chain, err := a.leaf(t, who, &key.PublicKey, now)
	if err != nil {
		return Pair{}, err
	}
	return Pair{CertPEM: chain, KeyPEM: EncodeKey(key)}, nil
}

func (a *Authority) leaf(t *x509.Certificate, who Peer, pub *ecdsa.PublicKey, now time.Time) ([]byte, error) {
	if who.ClusterID != a.ClusterID() {
		return nil, fmt.Errorf("cannot sign: the authority is of cluster %s, not %s", a.ClusterID(), who.ClusterID)
	}
	if !a.Cert.MaxPathLenZero {
		return nil, errors.New("cannot sign: the root signs issuers only")
	}
	t.URIs = []*url.URL{who.uri()}
	t.KeyUsage = x509.KeyUsageDigitalSignature
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	t.BasicConstraintsValid = true
	if err := a.bound(t, now, LeafLifetime); err != nil {
		return nil, err
	}
	cert, err := create(t, a.Cert, pub, a.key)
	if err != nil {
		return nil, err
	}
	return append(encodeCert(cert), a.CertPEM()...), nil
}
