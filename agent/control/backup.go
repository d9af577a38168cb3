package control

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/musterhq/muster/cluster/backup"
	"github.com/musterhq/muster/cluster/store"
)

// Snapshots takes snapshots of the store (voter.Control.Snapshot).
type Snapshots interface {
	// Snapshot writes one to a file, checks it, and returns the revision of its newest record.
	Snapshot(ctx context.Context, path string) (revision int64, err error)
}

// Backups makes backups of the cluster's records.
type Backups struct {
	Store     store.Store
	Snapshots Snapshots
	Scratch   string // directory for what is not complete yet
	ClusterID string
	Host      string // name of this one
	Version   string // of this musterd
	Now       func() time.Time
}

// Write writes a backup of all records as they are now.
func (b *Backups) Write(ctx context.Context, w io.Writer) error {
	if err := os.MkdirAll(b.Scratch, 0o700); err != nil {
		return fmt.Errorf("cannot back up the cluster's records: %w", err)
	}
	dir, err := os.MkdirTemp(b.Scratch, "snapshot-")
	if err != nil {
		return fmt.Errorf("cannot back up the cluster's records: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	m := backup.Manifest{Cluster: b.ClusterID, Taken: b.Now().UTC(), Host: b.Host, Musterd: b.Version}
	path := filepath.Join(dir, "etcd.db")
	if m.Revision, err = b.Snapshots.Snapshot(ctx, path); err != nil {
		return err
	}
	item, err := b.Store.Get(ctx, store.KeyCluster)
	if err != nil {
		return err
	}
	if record, err := store.Unmarshal[store.Cluster](item.Value); err == nil {
		m.Name = record.Name
	}
	return backup.Write(w, m, path)
}

// Backup writes a backup of all records.
func (a *Admin) Backup(ctx context.Context, w io.Writer) error { return a.Backups.Write(ctx, w) }
