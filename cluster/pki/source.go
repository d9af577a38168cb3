package pki

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Source gives TLS connections the credentials of this side, and follows its files when they are replaced. Certificate
// and key change together: while the two files do not fit, as between the writing of one and of the other, the last pair
// that did is used. It is safe for concurrent use.
type Source struct {
	certFile, keyFile string // "" for a source that never changes

	mu    sync.Mutex
	pair  *tls.Certificate
	stamp [2]fileStamp
}

// fileStamp tells two versions of a file apart without reading it.
type fileStamp struct {
	modified time.Time
	size     int64
	info     os.FileInfo // for os.SameFile: a renamed-in file has another inode
}

// NewSource reads a pair of PEM files, which may be one and the same file.
func NewSource(certFile, keyFile string) (*Source, error) {
	s := &Source{certFile: certFile, keyFile: keyFile}
	if err := s.reload(); err != nil {
		return nil, err
	}
	return s, nil
}

// NewStaticSource is a Source of one pair.
func NewStaticSource(p Pair) (*Source, error) {
	pair, err := parsePair(p.CertPEM, p.KeyPEM)
	if err != nil {
		return nil, err
	}
	return &Source{pair: pair}, nil
}

// Leaf is the certificate in use now.
func (s *Source) Leaf() *x509.Certificate { return s.current().Leaf }

// GetCertificate is for tls.Config of a server.
func (s *Source) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return s.current(), nil
}

// GetClientCertificate is for tls.Config of a client.
func (s *Source) GetClientCertificate(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	return s.current(), nil
}

// current looks whether the files changed and returns the newest pair that fits.
func (s *Source) current() *tls.Certificate {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.certFile != "" && s.stale() {
		_ = s.reloadLocked() // the older pair stays; the next connection tries again
	}
	return s.pair
}

func (s *Source) reload() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reloadLocked()
}

func (s *Source) stale() bool {
	for i, name := range []string{s.certFile, s.keyFile} {
		now, err := stampOf(name)
		if err != nil || !now.same(s.stamp[i]) {
			return true
		}
	}
	return false
}

// reloadLocked stamps the files before it reads them, so that a change in between is seen the next time.
func (s *Source) reloadLocked() error {
	var stamps [2]fileStamp
	var contents [2][]byte
	for i, name := range []string{s.certFile, s.keyFile} {
		var err error
		if stamps[i], err = stampOf(name); err != nil {
			return fmt.Errorf("cannot load credentials: %w", err)
		}
		if contents[i], err = os.ReadFile(name); err != nil {
			return fmt.Errorf("cannot load credentials: %w", err)
		}
	}
	pair, err := parsePair(contents[0], contents[1])
	if err != nil {
		return fmt.Errorf("cannot load credentials from %s: %w", s.certFile, err)
	}
	s.pair, s.stamp = pair, stamps
	return nil
}

func parsePair(certPEM, keyPEM []byte) (*tls.Certificate, error) {
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("cannot use certificate and key: %w", err)
	}
	return &pair, nil
}

func stampOf(name string) (fileStamp, error) {
	info, err := os.Stat(name)
	if err != nil {
		return fileStamp{}, err
	}
	return fileStamp{modified: info.ModTime(), size: info.Size(), info: info}, nil
}

func (f fileStamp) same(g fileStamp) bool {
	return f.info != nil && g.info != nil && os.SameFile(f.info, g.info) &&
		f.modified.Equal(g.modified) && f.size == g.size
}

// WriteFile writes a file with mode 0600 so that readers, and a machine that loses power, see the old content or the new
// one and nothing between.
func WriteFile(name string, content []byte) (err error) {
	dir := filepath.Dir(name)
	f, err := os.CreateTemp(dir, "."+filepath.Base(name)+"-*") // CreateTemp's mode is 0600
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", name, err)
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
			err = fmt.Errorf("cannot write %s: %w", name, err)
		}
	}()
	if _, err = f.Write(content); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), name); err != nil {
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	return d.Sync()
}

// WritePair writes certificate and key into one file, which NewSource and etcd read as both: the pair can never be torn.
func WritePair(name string, p Pair) error {
	return WriteFile(name, bytes.Join([][]byte{p.CertPEM, p.KeyPEM}, nil))
}
