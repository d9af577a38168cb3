package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
)

// The types of PEM blocks that are read and written (RFC 7468).
const (
	blockCert = "CERTIFICATE"
	blockKey  = "PRIVATE KEY"
	blockCSR  = "CERTIFICATE REQUEST"
)

// maxCSR bounds a certificate request in bytes of PEM. One of P-256 needs about 400.
const maxCSR = 8 << 10

// NewKey makes a P-256 key.
func NewKey() (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("cannot make key: %w", err)
	}
	return key, nil
}

// EncodeKey renders a P-256 key as PKCS #8 in PEM.
func EncodeKey(key *ecdsa.PrivateKey) []byte {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		panic(fmt.Sprintf("a P-256 key always has a PKCS #8 form: %v", err))
	}
	return pem.EncodeToMemory(&pem.Block{Type: blockKey, Bytes: der})
}

// ParseKey parses what EncodeKey rendered. Its errors never quote the input.
func ParseKey(keyPEM []byte) (*ecdsa.PrivateKey, error) {
	block, rest := pem.Decode(keyPEM)
	if block == nil || block.Type != blockKey || len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("cannot parse key: not one PKCS #8 key in PEM")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("cannot parse key: not PKCS #8")
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, errors.New("cannot parse key: not ECDSA P-256")
	}
	return key, nil
}

// NewCSR makes a certificate request (PKCS #10, PEM), which proves possession of the key. id is the host ID; it stands
// there for people, the signer does not read it.
func NewCSR(key crypto.Signer, id string) ([]byte, error) {
	t := &x509.CertificateRequest{Subject: pkix.Name{CommonName: id}}
	der, err := x509.CreateCertificateRequest(rand.Reader, t, key)
	if err != nil {
		return nil, fmt.Errorf("cannot make certificate request: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: blockCSR, Bytes: der}), nil
}

// ParseCSR returns the public key of a certificate request, P-256 only, after checking the request's own signature.
// Whatever else the request asks for is ignored.
func ParseCSR(csrPEM []byte) (*ecdsa.PublicKey, error) {
	if len(csrPEM) > maxCSR {
		return nil, fmt.Errorf("cannot parse certificate request: longer than %d bytes", maxCSR)
	}
	block, rest := pem.Decode(csrPEM)
	if block == nil || block.Type != blockCSR || len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("cannot parse certificate request: not one request in PEM")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("cannot parse certificate request: %w", err)
	}
	pub, err := p256(csr.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("cannot accept certificate request: %w", err)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("cannot accept certificate request: %w", err)
	}
	return pub, nil
}

// p256 accepts the one kind of public key in use.
func p256(pub crypto.PublicKey) (*ecdsa.PublicKey, error) {
	key, ok := pub.(*ecdsa.PublicKey)
	if !ok || key == nil || key.Curve != elliptic.P256() {
		return nil, errors.New("the key is not ECDSA P-256")
	}
	if _, err := key.Bytes(); err != nil {
		return nil, errors.New("the key is not a point of P-256")
	}
	return key, nil
}

// PublicKeyHash is the SHA-256 of a public key's PKIX form, in hexadecimal: the name of a key in records.
func PublicKeyHash(pub crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return "", fmt.Errorf("cannot hash public key: %w", err)
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:]), nil
}
