package state

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/musterhq/muster/cluster/pki"
	"github.com/musterhq/muster/providers/crashsafe"
)

const (
	nameRoot     = "ca"
	nameIssuer   = "issuer"
	nameOperator = "operator"
)

// Keys is everything that the operator may sign and speak with. It prints no key.
type Keys struct {
	Root     *pki.Authority
	Issuer   *pki.Authority
	Operator pki.Pair
}

// Keys returns the cluster's authorities and the operator's credentials. It makes what is missing and renews issuer and
// operator at half of their life. A root is made for a cluster without history only.
func (d *Dir) Keys(now time.Time) (Keys, error) {
	root, err := d.authority(nameRoot)
	if err != nil {
		if !d.journal.Empty() {
			return Keys{}, fmt.Errorf("cannot act for cluster %s: %w; put ca.crt and ca.key back from a backup", d.cluster.Name, err)
		}
		if root, err = pki.NewRoot(d.cluster.ID, d.cluster.Name, now); err != nil {
			return Keys{}, err
		}
		if err := d.writePair(nameRoot, root.CertPEM(), root.KeyPEM()); err != nil {
			return Keys{}, err
		}
	}
	issuer, err := d.issuer(root, now)
	if err != nil {
		return Keys{}, err
	}
	operator, err := d.operator(root.Cert, issuer, now)
	return Keys{Root: root, Issuer: issuer, Operator: operator}, err
}

// Operator returns the root certificate and the operator's credentials, renewed when half of their life is over. It
// needs no lock: of two that renew at once the later wins, and a pair torn by that is renewed again.
func (r *Reader) Operator(now time.Time) (*x509.Certificate, pki.Pair, error) {
	rootPEM, err := os.ReadFile(r.file(nameRoot, "crt"))
	if err != nil {
		return nil, pki.Pair{}, fmt.Errorf("cannot speak for cluster %s: %w", r.cluster.Name, err)
	}
	root, err := pki.ParseCert(rootPEM)
	if err != nil {
		return nil, pki.Pair{}, err
	}
	issuer, err := r.authority(nameIssuer)
	if err != nil {
		return nil, pki.Pair{}, fmt.Errorf("cannot speak for cluster %s: %w", r.cluster.Name, err)
	}
	pair, err := r.operator(root, issuer, now)
	return root, pair, err
}

// issuer returns the authority below the root, a new one when the old is missing, torn or past half of its life.
func (d *Dir) issuer(root *pki.Authority, now time.Time) (*pki.Authority, error) {
	issuer, err := d.authority(nameIssuer)
	if err == nil && now.Before(pki.RenewAt(issuer.Cert)) && issuer.Cert.CheckSignatureFrom(root.Cert) == nil {
		return issuer, nil
	}
	if issuer, err = root.NewIssuer(now); err != nil {
		return nil, err
	}
	return issuer, d.writePair(nameIssuer, issuer.CertPEM(), issuer.KeyPEM())
}

func (r *Reader) operator(root *x509.Certificate, issuer *pki.Authority, now time.Time) (pki.Pair, error) {
	if pair, err := r.readPair(nameOperator); err == nil && usable(root, pair, now) {
		return pair, nil
	}
	pair, err := issuer.MintOperator(r.cluster.ID, now)
	if err != nil {
		return pki.Pair{}, err
	}
	return pair, r.writePair(nameOperator, pair.CertPEM, pair.KeyPEM)
}

func usable(root *x509.Certificate, pair pki.Pair, now time.Time) bool {
	if _, err := tls.X509KeyPair(pair.CertPEM, pair.KeyPEM); err != nil {
		return false
	}
	peer, leaf, err := pki.Verify(root, pair.CertPEM, now)
	return err == nil && peer.Role == pki.RoleOperator && now.Before(pki.RenewAt(leaf))
}

func (r *Reader) authority(name string) (*pki.Authority, error) {
	pair, err := r.readPair(name)
	if err != nil {
		return nil, err
	}
	a, err := pki.LoadAuthority(pair.CertPEM, pair.KeyPEM)
	if err != nil {
		return nil, err
	}
	if a.ClusterID() != r.cluster.ID {
		return nil, fmt.Errorf("cannot use %s.crt: it is of cluster %s, not %s", name, a.ClusterID(), r.cluster.ID)
	}
	return a, nil
}

func (r *Reader) file(name, kind string) string { return filepath.Join(r.path, name+"."+kind) }

func (r *Reader) readPair(name string) (pki.Pair, error) {
	cert, err1 := os.ReadFile(r.file(name, "crt"))
	key, err2 := os.ReadFile(r.file(name, "key"))
	if err := errors.Join(err1, err2); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return pki.Pair{}, fmt.Errorf("%s.crt or %s.key is missing in %s", name, name, r.path)
		}
		return pki.Pair{}, err
	}
	return pki.Pair{CertPEM: cert, KeyPEM: key}, nil
}

// writePair writes the key first: a certificate that is there has its key, but for a renewal cut in two, which the next
// one mends.
func (r *Reader) writePair(name string, certPEM, keyPEM []byte) error {
	if err := crashsafe.WriteFileSync(r.file(name, "key"), keyPEM, 0o600); err != nil {
		return err
	}
	return crashsafe.WriteFileSync(r.file(name, "crt"), certPEM, 0o600)
}
