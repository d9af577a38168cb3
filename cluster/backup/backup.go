// Package backup is the file that `muster backup` writes and voters write on a schedule: a tar archive with manifest.json,
// which says what it is, and etcd.db, etcd's own snapshot with its hash. Whoever reads one has every byte of it checked. It
// holds the cluster's records and no key of an authority. The package knows no etcd: what a snapshot means is cluster/voter's.
package backup

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// Version is that of the format.
const Version = 1

// The entries of the archive, in this order, and the most that the first may have.
const (
	manifestName = "manifest.json"
	snapshotName = "etcd.db"
	maxManifest  = 1 << 20
)

// ErrCorrupt says that a backup is not what was written.
var ErrCorrupt = errors.New("the backup is damaged, or no backup at all")

// Manifest says what a backup is.
type Manifest struct {
	Version  int       `json:"version"`  // of the format
	Cluster  string    `json:"cluster"`  // UUID
	Name     string    `json:"name"`     // of the cluster
	Revision int64     `json:"revision"` // of the newest record in it
	Taken    time.Time `json:"taken"`
	Host     string    `json:"host"`    // name of the voter that took it
	Musterd  string    `json:"musterd"` // version of that voter
	Size     int64     `json:"size"`    // of the snapshot, bytes
	SHA256   string    `json:"sha256"`  // of the snapshot, hexadecimal
}

// Write writes a backup of the snapshot in a file, of which it fills in Version, Size and SHA256.
func Write(w io.Writer, m Manifest, snapshot string) error {
	f, err := os.Open(snapshot)
	if err != nil {
		return fmt.Errorf("cannot write the backup: %w", err)
	}
	defer func() { _ = f.Close() }()
	sum := sha256.New()
	m.Version = Version
	if m.Size, err = io.Copy(sum, f); err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	m.SHA256 = hex.EncodeToString(sum.Sum(nil))
	if err == nil {
		err = write(w, m, f)
	}
	if err != nil {
		return fmt.Errorf("cannot write the backup: %w", err)
	}
	return nil
}

func write(w io.Writer, m Manifest, snapshot io.Reader) error {
	manifest, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	archive := tar.NewWriter(w)
	for _, entry := range []struct {
		name    string
		size    int64
		content io.Reader
	}{{manifestName, int64(len(manifest)), bytes.NewReader(manifest)}, {snapshotName, m.Size, snapshot}} {
		h := &tar.Header{Name: entry.name, Size: entry.size, Mode: 0o600, ModTime: m.Taken}
		if err := archive.WriteHeader(h); err != nil {
			return err
		}
		if _, err := io.Copy(archive, entry.content); err != nil {
			return err
		}
	}
	return archive.Close()
}

// Read checks a backup and writes its snapshot to w.
func Read(r io.Reader, w io.Writer) (Manifest, error) {
	m, err := read(r, w)
	if err != nil {
		return Manifest{}, fmt.Errorf("cannot read the backup: %w", err)
	}
	return m, nil
}

func read(r io.Reader, w io.Writer) (Manifest, error) {
	var m Manifest
	archive := tar.NewReader(r)
	h, err := archive.Next()
	if err != nil || h.Name != manifestName {
		return m, fmt.Errorf("%w: it has no manifest", ErrCorrupt)
	}
	raw, err := io.ReadAll(io.LimitReader(archive, maxManifest))
	if err != nil {
		return m, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return m, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if m.Version != Version {
		return m, fmt.Errorf("version %d is not known to this muster, which knows %d; update it", m.Version, Version)
	}
	if h, err = archive.Next(); err != nil || h.Name != snapshotName || h.Size != m.Size {
		return m, fmt.Errorf("%w: it has no snapshot of %d bytes", ErrCorrupt, m.Size)
	}
	sum := sha256.New()
	if _, err := io.Copy(io.MultiWriter(w, sum), archive); err != nil {
		return m, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != m.SHA256 {
		return m, fmt.Errorf("%w: the SHA-256 of its snapshot is %s, not %s", ErrCorrupt, got, m.SHA256)
	}
	if _, err := archive.Next(); !errors.Is(err, io.EOF) {
		return m, fmt.Errorf("%w: there is something after its snapshot", ErrCorrupt)
	}
	return m, nil
}
