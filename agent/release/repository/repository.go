package repository

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/musterhq/muster/agent/release"
)

// How long what is signed is good. Whoever holds back updates from hosts can do so for the last of these.
const (
	RootLife    = 2 * 365 * 24 * time.Hour
	TargetsLife = 365 * 24 * time.Hour
	DefaultLife = 14 * 24 * time.Hour // of snapshot and timestamp: how often to refresh at least
)

// ErrNone is a directory that is no repository.
var ErrNone = errors.New("it is no repository of releases")

// Repository is one on disk.
type Repository struct {
	Dir  string        // to be hosted
	Keys string        // of those who may change it
	Life time.Duration // of snapshot and timestamp
	Now  func() time.Time
	Work int // of a passphrase's guess, as a power of two (scrypt, RFC 7914); 0 is age's own, about a second
}

// state is what the newest metadata of a repository says.
type state struct {
	root      *metadata.Metadata[metadata.RootType]
	timestamp *metadata.Metadata[metadata.TimestampType]
	snapshot  *metadata.Metadata[metadata.SnapshotType]
	targets   *metadata.Metadata[metadata.TargetsType]
}

func (r *Repository) metadata(name string) string { return filepath.Join(r.Dir, "metadata", name) }

// load reads the newest metadata, and refuses it when it is not signed by the keys that the root names. It may have expired.
func (r *Repository) load() (*state, error) {
	n, err := r.newestRoot()
	if err != nil {
		return nil, err
	}
	s := &state{}
	if s.root, err = metadata.Root().FromFile(r.metadata(versioned(metadata.ROOT, n))); err != nil {
		return nil, fmt.Errorf("cannot read the repository's root: %w", err)
	}
	if err := s.root.VerifyDelegate(metadata.ROOT, s.root); err != nil {
		return nil, fmt.Errorf("cannot trust the repository's root: %w; restore the directory from a backup", err)
	}
	if s.timestamp, err = metadata.Timestamp().FromFile(r.metadata("timestamp.json")); err != nil {
		return nil, fmt.Errorf("cannot read the repository's timestamp: %w; restore the directory from a backup", err)
	}
	snapshot, ok := s.timestamp.Signed.Meta["snapshot.json"]
	if !ok || snapshot == nil {
		return nil, errors.New("cannot read the repository: its timestamp names no snapshot; restore the directory from a backup")
	}
	if s.snapshot, err = metadata.Snapshot().FromFile(r.metadata(versioned(metadata.SNAPSHOT, snapshot.Version))); err != nil {
		return nil, fmt.Errorf("cannot read the repository's snapshot: %w; restore the directory from a backup", err)
	}
	targets, ok := s.snapshot.Signed.Meta["targets.json"]
	if !ok || targets == nil {
		return nil, errors.New("cannot read the repository: its snapshot names no targets; restore the directory from a backup")
	}
	if s.targets, err = metadata.Targets().FromFile(r.metadata(versioned(metadata.TARGETS, targets.Version))); err != nil {
		return nil, fmt.Errorf("cannot read the repository's targets: %w; restore the directory from a backup", err)
	}
	return s, nil
}

// verify refuses metadata that the root's keys did not sign.
func (s *state) verify() error {
	if err := errors.Join(s.root.VerifyDelegate(metadata.TIMESTAMP, s.timestamp), s.root.VerifyDelegate(metadata.SNAPSHOT, s.snapshot),
		s.root.VerifyDelegate(metadata.TARGETS, s.targets)); err != nil {
		return fmt.Errorf("cannot sign on top of metadata that others changed: %w; restore the directory from a backup", err)
	}
	return nil
}

func (r *Repository) newestRoot() (int64, error) {
	entries, err := os.ReadDir(filepath.Join(r.Dir, "metadata"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("cannot read the repository: %w", err)
	}
	var newest int64
	for _, e := range entries {
		number, ok := strings.CutSuffix(e.Name(), ".root.json")
		n, err := strconv.ParseInt(number, 10, 64)
		if ok && err == nil {
			newest = max(newest, n)
		}
	}
	if newest == 0 {
		return 0, fmt.Errorf("cannot read %s: %w; `muster release init %s` makes one", r.Dir, ErrNone, r.Dir)
	}
	return newest, nil
}

func versioned(role string, n int64) string { return fmt.Sprintf("%d.%s.json", n, role) }

// Catalog is what the repository offers, whether or not it has expired.
func (r *Repository) Catalog() (release.Catalog, error) {
	s, err := r.load()
	if err != nil {
		return release.Catalog{}, err
	}
	return release.ReadCatalog(s.targets.Signed)
}

// Role is what signs, as Status tells it.
type Role struct {
	Name      string    `json:"name"`
	Version   int64     `json:"version"`
	Expires   time.Time `json:"expires"`
	Keys      []string  `json:"keys"` // IDs
	Threshold int       `json:"threshold"`
}

// Roles tells how the metadata stands, the root first.
func (r *Repository) Roles() ([]Role, error) {
	s, err := r.load()
	if err != nil {
		return nil, err
	}
	role := func(name string, version int64, expires time.Time) Role {
		named := s.root.Signed.Roles[name]
		return Role{Name: name, Version: version, Expires: expires, Keys: named.KeyIDs, Threshold: named.Threshold}
	}
	return []Role{
		role(metadata.ROOT, s.root.Signed.Version, s.root.Signed.Expires),
		role(metadata.TARGETS, s.targets.Signed.Version, s.targets.Signed.Expires),
		role(metadata.SNAPSHOT, s.snapshot.Signed.Version, s.snapshot.Signed.Expires),
		role(metadata.TIMESTAMP, s.timestamp.Signed.Version, s.timestamp.Signed.Expires),
	}, nil
}

// RootFile is the newest root metadata, which hosts are given and which is no secret.
func (r *Repository) RootFile() (string, error) {
	n, err := r.newestRoot()
	if err != nil {
		return "", err
	}
	return r.metadata(versioned(metadata.ROOT, n)), nil
}
