package pki

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/musterhq/muster/cluster/roster"
)

// Role says what a certificate's holder is.
type Role string

// The roles.
const (
	RoleHost     Role = "host"
	RoleVoter    Role = "voter"    // a voter acting for the cluster, not for itself as a host
	RolePeer     Role = "peer"     // among etcd's peers only
	RoleOperator Role = "operator" // the CLI
)

// ErrNoCertificate says that the other side presented none, which a server may allow.
var ErrNoCertificate = errors.New("no client certificate")

// Peer is who is on the other side of a connection. ID is a host ID, "" for the operator.
type Peer struct {
	Role      Role
	ID        string
	ClusterID string
}

// String reads "host 0123…", for logs.
func (p Peer) String() string { return strings.TrimSpace(string(p.Role) + " " + p.ID) }

func (p Peer) uri() *url.URL {
	path := "/" + string(p.Role)
	if p.ID != "" {
		path += "/" + p.ID
	}
	return &url.URL{Scheme: "muster", Host: p.ClusterID, Path: path}
}

func (p Peer) commonName() string {
	switch p.Role {
	case RoleVoter:
		return CNControl
	case RolePeer:
		return CNPeer
	case RoleOperator:
		return CNOperator
	default:
		return p.ID
	}
}

// PeerFromState tells who is on the other side of a connection whose certificate has been verified. It returns
// ErrNoCertificate when there is none.
func PeerFromState(state tls.ConnectionState) (Peer, error) {
	if len(state.PeerCertificates) == 0 {
		return Peer{}, ErrNoCertificate
	}
	if len(state.VerifiedChains) == 0 || len(state.VerifiedChains[0]) == 0 {
		return Peer{}, errors.New("cannot tell who the peer is: its certificate was not verified")
	}
	return PeerFromCert(state.VerifiedChains[0][0])
}

// PeerFromCert reads the role from a certificate, which the caller has verified.
func PeerFromCert(cert *x509.Certificate) (Peer, error) {
	if len(cert.URIs) != 1 {
		return Peer{}, fmt.Errorf("cannot tell who the peer is: %d URIs in its certificate", len(cert.URIs))
	}
	p, err := parseURI(cert.URIs[0])
	if err != nil {
		return Peer{}, fmt.Errorf("cannot tell who the peer is: %w", err)
	}
	if cert.IsCA || cert.Subject.CommonName != p.commonName() {
		return Peer{}, fmt.Errorf("cannot tell who the peer is: common name %q is not that of a %s",
			cert.Subject.CommonName, p.Role)
	}
	return p, nil
}

func parseURI(u *url.URL) (Peer, error) {
	role, id, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	p := Peer{Role: Role(role), ID: id, ClusterID: u.Host}
	if u.String() != p.uri().String() {
		return Peer{}, fmt.Errorf("%q is not a muster identity", u)
	}
	switch p.Role {
	case RoleHost, RoleVoter, RolePeer:
		if !roster.ValidID(p.ID) {
			return Peer{}, fmt.Errorf("%q names no host", u)
		}
	case RoleOperator:
		if p.ID != "" {
			return Peer{}, fmt.Errorf("%q names an operator with an ID", u)
		}
	default:
		return Peer{}, fmt.Errorf("%q has no known role", u)
	}
	return p, checkClusterID(p.ClusterID)
}

func checkClusterID(id string) error {
	if parsed, err := uuid.Parse(id); err != nil || parsed.String() != id {
		return fmt.Errorf("cluster ID %q is not a UUID", id)
	}
	return nil
}

// Verify checks that a chain (PEM, the leaf first) leads to the root and is valid at now, and tells whose it is.
func Verify(root *x509.Certificate, chainPEM []byte, now time.Time) (Peer, *x509.Certificate, error) {
	chain, err := ParseChain(chainPEM)
	if err != nil {
		return Peer{}, nil, err
	}
	opts := x509.VerifyOptions{
		Roots:         pool(root),
		Intermediates: pool(chain[1:]...),
		CurrentTime:   now,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if _, err := chain[0].Verify(opts); err != nil {
		return Peer{}, nil, fmt.Errorf("cannot verify certificate: %w", err)
	}
	peer, err := PeerFromCert(chain[0])
	return peer, chain[0], err
}

// Renewable tells whose certificate a chain is, and its public key, even when it has expired: a host that was off for
// longer than its certificate lived may ask for a new one without any other credential, because what it gets is of use
// only to the holder of the same key. The caller checks that the host still belongs to the cluster.
func Renewable(root *x509.Certificate, chainPEM []byte) (Peer, *ecdsa.PublicKey, error) {
	chain, err := ParseChain(chainPEM)
	if err != nil {
		return Peer{}, nil, err
	}
	peer, leaf, err := Verify(root, chainPEM, chain[0].NotBefore)
	if err != nil {
		return Peer{}, nil, err
	}
	if peer.Role != RoleHost {
		return Peer{}, nil, fmt.Errorf("cannot renew the certificate of %s: only hosts' are renewed", peer)
	}
	pub, err := p256(leaf.PublicKey)
	return peer, pub, err
}

func pool(certs ...*x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	for _, c := range certs {
		p.AddCert(c)
	}
	return p
}
