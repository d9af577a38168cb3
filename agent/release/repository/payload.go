package repository

import (
	"context"
	"crypto/sha1" // what update_engine wants beside the SHA-256; nothing is trusted for it
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"sync"

	"github.com/musterhq/muster/agent/release"
)

// ErrExpired is metadata that hosts would refuse.
var ErrExpired = errors.New("the repository's metadata has expired; `muster release refresh` renews it")

// Payload is the one file of a release as update_engine fetches it, which knows nothing of the repository's metadata.
type Payload struct {
	Dir    string // below the repository, as /targets/flatcar/amd64/4081.2.0/
	Name   string // of the file there
	Size   int64
	SHA1   [sha1.Size]byte
	SHA256 [sha256.Size]byte
}

// Payloads reads files of releases for hosts that cannot verify the repository's metadata by themselves, and does it for them.
type Payloads struct {
	Repository *Repository

	mu    sync.Mutex
	known map[string]Payload // by path and SHA-256
}

// Catalog is what the repository offers, if its metadata is signed and has not expired.
func (p *Payloads) Catalog() (release.Catalog, error) {
	s, err := p.Repository.load()
	if err != nil {
		return release.Catalog{}, err
	}
	if err := s.verify(); err != nil {
		return release.Catalog{}, err
	}
	now := p.Repository.Now()
	if s.root.Signed.IsExpired(now) || s.timestamp.Signed.IsExpired(now) || s.snapshot.Signed.IsExpired(now) || s.targets.Signed.IsExpired(now) {
		return release.Catalog{}, ErrExpired
	}
	return release.ReadCatalog(s.targets.Signed)
}

// Of is the payload of a release that has one file, which is read once and must be what the metadata says.
func (p *Payloads) Of(ctx context.Context, r release.Release) (Payload, error) {
	if len(r.Contents) != 1 {
		return Payload{}, fmt.Errorf("cannot offer release %s: it has %d files, and update_engine takes one", r.Version, len(r.Contents))
	}
	f := r.Contents[0]
	p.mu.Lock()
	defer p.mu.Unlock() // others that want it wait, and need not read it again
	key := r.Dir() + "/" + f.SHA256
	if known, is := p.known[key]; is {
		return known, nil
	}
	payload := Payload{Dir: "/" + path.Join("targets", r.Dir()) + "/", Name: f.SHA256 + "." + f.Name, Size: f.Size}
	if err := p.read(ctx, &payload, f); err != nil {
		return Payload{}, fmt.Errorf("cannot offer release %s: %w", r.Version, err)
	}
	if p.known == nil {
		p.known = map[string]Payload{}
	}
	p.known[key] = payload
	return payload, nil
}

func (p *Payloads) read(ctx context.Context, payload *Payload, f release.File) error {
	root, err := os.OpenRoot(p.Repository.Dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	in, err := root.Open(path.Join(payload.Dir[1:], payload.Name))
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	short, long := sha1.New(), sha256.New()
	n, err := io.Copy(io.MultiWriter(short, long), io.LimitReader(reader{ctx, in}, f.Size+1))
	if err != nil {
		return err
	}
	if n != f.Size || hex.EncodeToString(long.Sum(nil)) != f.SHA256 {
		return fmt.Errorf("%s is not what the metadata says; restore the directory from a backup", f.Name)
	}
	copy(payload.SHA1[:], short.Sum(nil))
	copy(payload.SHA256[:], long.Sum(nil))
	return nil
}
