package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// Lifetimes of certificates.
const (
	RootLifetime   = 10 * 365 * 24 * time.Hour
	IssuerLifetime = 365 * 24 * time.Hour
	LeafLifetime   = 24 * time.Hour
)

// Backdate is how far a certificate's not-before lies in the past, for peers whose clocks are behind.
const Backdate = time.Minute

// Authority is a certificate authority: the root, or an issuer below it.
type Authority struct {
	Cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// String names the authority and never shows its key.
func (a *Authority) String() string { return fmt.Sprintf("%s, key ***", a.Cert.Subject.CommonName) }

// GoString is String.
func (a *Authority) GoString() string { return a.String() }

// NewRoot makes a cluster's root authority. name is the cluster's name and appears for people only; clusterID is its
// UUID, which every certificate below carries.
func NewRoot(clusterID, name string, now time.Time) (*Authority, error) {
	if err := checkClusterID(clusterID); err != nil {
		return nil, err
	}
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	t := authorityTemplate("muster root "+name, clusterID, 1)
	t.NotBefore, t.NotAfter = now.Add(-Backdate), now.Add(RootLifetime)
	return sign(t, key, t, key)
}

// NewIssuer makes an authority below the root. It can sign leaves and no further authority.
func (a *Authority) NewIssuer(now time.Time) (*Authority, error) {
	if a.Cert.MaxPathLen < 1 {
		return nil, errors.New("cannot make an issuer: only the root can sign one")
	}
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	t := authorityTemplate("muster issuer", a.ClusterID(), 0)
	t.MaxPathLenZero = true
	if err := a.bound(t, now, IssuerLifetime); err != nil {
		return nil, err
	}
	return sign(t, key, a.Cert, a.key)
}

func authorityTemplate(commonName, clusterID string, pathLen int) *x509.Certificate {
	return &x509.Certificate{
		Subject:               pkix.Name{CommonName: commonName, SerialNumber: clusterID},
		KeyUsage:              x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLen:            pathLen,
	}
}

// bound sets the validity of a certificate that a signs: lifetime, but no longer than a itself.
func (a *Authority) bound(t *x509.Certificate, now time.Time, lifetime time.Duration) error {
	if now.Before(a.Cert.NotBefore) || !now.Before(a.Cert.NotAfter) {
		return fmt.Errorf("cannot sign: %s is valid from %s to %s only", a.Cert.Subject.CommonName,
			a.Cert.NotBefore.Format(time.RFC3339), a.Cert.NotAfter.Format(time.RFC3339))
	}
	t.NotBefore, t.NotAfter = now.Add(-Backdate), now.Add(lifetime)
	if t.NotBefore.Before(a.Cert.NotBefore) {
		t.NotBefore = a.Cert.NotBefore
	}
	if t.NotAfter.After(a.Cert.NotAfter) {
		t.NotAfter = a.Cert.NotAfter
	}
	return nil
}

func sign(
	t *x509.Certificate, key *ecdsa.PrivateKey, parent *x509.Certificate, parentKey *ecdsa.PrivateKey,
) (*Authority, error) {
	cert, err := create(t, parent, &key.PublicKey, parentKey)
	if err != nil {
		return nil, err
	}
	return &Authority{Cert: cert, key: key}, nil
}

// create signs a template under a random serial number of 127 bits (RFC 5280 section 4.1.2.2 allows 159).
func create(t, parent *x509.Certificate, pub *ecdsa.PublicKey, key *ecdsa.PrivateKey) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("cannot sign certificate: %w", err)
	}
	t.SerialNumber = serial
	der, err := x509.CreateCertificate(rand.Reader, t, parent, pub, key)
	if err != nil {
		return nil, fmt.Errorf("cannot sign certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("cannot sign certificate: %w", err)
	}
	return cert, nil
}

// ClusterID is the UUID of the cluster whose authority it is.
func (a *Authority) ClusterID() string { return a.Cert.Subject.SerialNumber }

// CertPEM is the authority's certificate.
func (a *Authority) CertPEM() []byte { return encodeCert(a.Cert) }

// KeyPEM is the authority's private key, PKCS #8.
func (a *Authority) KeyPEM() []byte { return EncodeKey(a.key) }

// LoadAuthority parses what CertPEM and KeyPEM returned.
func LoadAuthority(certPEM, keyPEM []byte) (*Authority, error) {
	cert, err := ParseCert(certPEM)
	if err != nil {
		return nil, fmt.Errorf("cannot load authority: %w", err)
	}
	if !cert.IsCA || !cert.BasicConstraintsValid {
		return nil, fmt.Errorf("cannot load authority: %s is not one", cert.Subject.CommonName)
	}
	key, err := ParseKey(keyPEM)
	if err != nil {
		return nil, fmt.Errorf("cannot load authority: %w", err)
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return nil, errors.New("cannot load authority: certificate and key do not belong together")
	}
	return &Authority{Cert: cert, key: key}, nil
}

// ParseCert parses exactly one certificate in PEM.
func ParseCert(certPEM []byte) (*x509.Certificate, error) {
	chain, err := ParseChain(certPEM)
	if err != nil {
		return nil, err
	}
	if len(chain) != 1 {
		return nil, fmt.Errorf("cannot parse certificate: %d certificates where one is expected", len(chain))
	}
	return chain[0], nil
}

// maxChain bounds a chain: leaf, issuer, and one to spare.
const maxChain = 3

// ParseChain parses one to three certificates in PEM, the leaf first. Nothing else may stand in the text.
func ParseChain(chainPEM []byte) ([]*x509.Certificate, error) {
	var chain []*x509.Certificate
	for rest := bytes.TrimSpace(chainPEM); len(rest) > 0; rest = bytes.TrimSpace(rest) {
		if !bytes.HasPrefix(rest, []byte("-----BEGIN")) { // pem.Decode would skip to it
			return nil, errors.New("cannot parse certificate: not PEM")
		}
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil || block.Type != blockCert || len(chain) == maxChain {
			return nil, errors.New("cannot parse certificate: not a chain of certificates in PEM")
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("cannot parse certificate: %w", err)
		}
		chain = append(chain, cert)
	}
	if len(chain) == 0 {
		return nil, errors.New("cannot parse certificate: empty")
	}
	return chain, nil
}

// RenewAt is when a certificate is to be renewed: at half of its life.
func RenewAt(cert *x509.Certificate) time.Time {
	return cert.NotBefore.Add(cert.NotAfter.Sub(cert.NotBefore) / 2)
}

func encodeCert(cert *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: blockCert, Bytes: cert.Raw})
}
