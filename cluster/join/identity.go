package join

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/musterhq/muster/cluster/pki"
	"github.com/musterhq/muster/cluster/roster"
)

// StoragePath is where a host keeps its identity, below its root directory. Mode 0700, every file 0600.
const StoragePath = "/var/lib/muster/identity"

// Errors of Storage.Load.
var (
	ErrNoIdentity    = errors.New("the host has not joined yet")
	ErrOtherIdentity = errors.New("the identity on disk is another host's")
)

// Storage keeps what a host received when it joined. Every write is atomic and durable; a crash at any point leaves the
// host either joined or not, and with the same key.
type Storage struct {
	dir    string
	record *sync.Mutex // reply.json is read and written by one goroutine at a time
}

// Identity is a joined host's.
type Identity struct {
	Key    *ecdsa.PrivateKey
	Chain  []byte            // host's certificate and the issuer's, PEM; may have expired
	Root   *x509.Certificate // the pinned root
	Roster roster.Roster     // as last saved
	Voter  *VoterRole        // nil for hosts that do not vote
	Issuer *pki.Authority    // nil for hosts that do not vote
}

// String never shows a key.
func (i Identity) String() string {
	return fmt.Sprintf("identity in a roster of %d, voter %t, key ***", len(i.Roster), i.Voter != nil)
}

// saved is reply.json: a reply without what stands in files of its own.
type saved struct {
	Version int           `json:"version"`
	Roster  roster.Roster `json:"roster"`
	Voter   *VoterRole    `json:"voter,omitempty"`
}

const savedVersion = 1

// OpenStorage opens a host's storage, and makes it if needed. root is the host's root directory.
func OpenStorage(root string) (Storage, error) {
	s := Storage{dir: filepath.Join(root, StoragePath), record: &sync.Mutex{}}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return Storage{}, fmt.Errorf("cannot open identity: %w", err)
	}
	if err := os.Chmod(s.dir, 0o700); err != nil {
		return Storage{}, fmt.Errorf("cannot open identity: %w", err)
	}
	return s, nil
}

// CertFile is the host's certificate chain, replaced at each renewal.
func (s Storage) CertFile() string { return filepath.Join(s.dir, "host.crt") }

// KeyFile is the host's key, written once.
func (s Storage) KeyFile() string { return filepath.Join(s.dir, "host.key") }

// CAFile is the cluster's root certificate.
func (s Storage) CAFile() string { return filepath.Join(s.dir, "ca.crt") }

// PeerFile is where a voter keeps its pki.MintPeer pair (see pki.WritePair).
func (s Storage) PeerFile() string { return filepath.Join(s.dir, "peer.pem") }

// ControlFile is where a voter keeps its pki.MintControl pair (see pki.WritePair).
func (s Storage) ControlFile() string { return filepath.Join(s.dir, "control.pem") }

func (s Storage) issuerCertFile() string { return filepath.Join(s.dir, "issuer.crt") }
func (s Storage) issuerKeyFile() string  { return filepath.Join(s.dir, "issuer.key") }
func (s Storage) replyFile() string      { return filepath.Join(s.dir, "reply.json") }

// Key returns the host's key, which it makes and stores at the first call: before the first request to join, so that a
// repeated one shows the same key.
func (s Storage) Key() (*ecdsa.PrivateKey, error) {
	raw, err := os.ReadFile(s.KeyFile())
	if err == nil {
		return pki.ParseKey(raw)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot load the host's key: %w", err)
	}
	key, err := pki.NewKey()
	if err != nil {
		return nil, err
	}
	return key, pki.WriteFile(s.KeyFile(), pki.EncodeKey(key))
}

// Save stores a checked reply. The host has joined when the last of the files, reply.json, is there.
func (s Storage) Save(cfg Config, reply Reply) error {
	files := []struct{ name, content string }{{s.CAFile(), cfg.CA}}
	record := saved{Version: savedVersion, Roster: reply.Roster}
	if v := reply.Voter; v != nil {
		files = append(files, []struct{ name, content string }{
			{s.issuerCertFile(), v.IssuerCertificate}, {s.issuerKeyFile(), v.IssuerKey},
		}...)
		role := *v
		role.IssuerCertificate, role.IssuerKey = "", ""
		record.Voter = &role
	}
	files = append(files, struct{ name, content string }{s.CertFile(), reply.Certificate})
	for _, f := range files {
		if err := pki.WriteFile(f.name, []byte(f.content)); err != nil {
			return err
		}
	}
	return s.saveRecord(record)
}

// SaveCertificate stores a renewed certificate chain, after checking that it is for the host's key.
func (s Storage) SaveCertificate(chainPEM []byte) error {
	key, err := s.Key()
	if err != nil {
		return err
	}
	chain, err := pki.ParseChain(chainPEM)
	if err != nil {
		return fmt.Errorf("cannot save certificate: %w", err)
	}
	if !key.PublicKey.Equal(chain[0].PublicKey) {
		return errors.New("cannot save certificate: it is for another key")
	}
	return pki.WriteFile(s.CertFile(), chainPEM)
}

// SaveRoster stores the roster as the store has it now, so that a restarted host finds voters that came later.
func (s Storage) SaveRoster(r roster.Roster) error {
	s.record.Lock()
	defer s.record.Unlock()
	record, err := s.loadRecord()
	if err != nil {
		return err
	}
	record.Roster = r
	return s.saveRecord(record)
}

// Load returns the identity of a joined host, ErrNoIdentity when it has not joined, and ErrOtherIdentity when what is on
// disk is not that of cfg's host.
func (s Storage) Load(cfg Config) (Identity, error) {
	record, err := s.loadRecord()
	if err != nil {
		return Identity{}, err
	}
	id := Identity{Roster: record.Roster, Voter: record.Voter}
	if id.Key, err = s.Key(); err != nil {
		return Identity{}, err
	}
	if err := s.loadChain(&id, cfg); err != nil {
		return Identity{}, fmt.Errorf("cannot load identity: %w", err)
	}
	if record.Voter == nil {
		return id, nil
	}
	if err := s.loadIssuer(&id); err != nil {
		return Identity{}, fmt.Errorf("cannot load identity: %w", err)
	}
	return id, nil
}

func (s Storage) loadChain(id *Identity, cfg Config) error {
	ca, err := os.ReadFile(s.CAFile())
	if err != nil {
		return err
	}
	if id.Root, err = pki.ParseCert(ca); err != nil {
		return err
	}
	if id.Chain, err = os.ReadFile(s.CertFile()); err != nil {
		return err
	}
	peer, pub, err := pki.Renewable(id.Root, id.Chain)
	if err != nil {
		return err
	}
	if peer.ID != cfg.HostID || peer.ClusterID != cfg.ClusterID {
		return fmt.Errorf("%w: %s of cluster %s", ErrOtherIdentity, peer, peer.ClusterID)
	}
	if !id.Key.PublicKey.Equal(pub) {
		return errors.New("certificate and key do not belong together")
	}
	return nil
}

func (s Storage) loadIssuer(id *Identity) error {
	cert, err := os.ReadFile(s.issuerCertFile())
	if err != nil {
		return err
	}
	key, err := os.ReadFile(s.issuerKeyFile())
	if err != nil {
		return err
	}
	id.Issuer, err = pki.LoadAuthority(cert, key)
	return err
}

func (s Storage) loadRecord() (saved, error) {
	raw, err := os.ReadFile(s.replyFile())
	if errors.Is(err, fs.ErrNotExist) {
		return saved{}, ErrNoIdentity
	}
	if err != nil {
		return saved{}, fmt.Errorf("cannot load identity: %w", err)
	}
	var record saved
	if err := json.Unmarshal(raw, &record); err != nil {
		return saved{}, fmt.Errorf("cannot load identity from %s: %w", s.replyFile(), err)
	}
	if record.Version != savedVersion {
		return saved{}, fmt.Errorf("cannot load identity from %s: version %d is not known to this musterd",
			s.replyFile(), record.Version)
	}
	return record, nil
}

func (s Storage) saveRecord(record saved) error {
	raw, err := json.MarshalIndent(record, "", "  ")
	if err != nil {
		return fmt.Errorf("cannot save identity: %w", err)
	}
	return pki.WriteFile(s.replyFile(), raw)
}
