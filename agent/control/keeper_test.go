package control

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/musterhq/muster/cluster/store"
)

// fakeSnapshots writes a file with a revision that grows.
type fakeSnapshots struct{ revision int64 }

func (f *fakeSnapshots) Snapshot(_ context.Context, path string) (int64, error) {
	f.revision++
	return f.revision, os.WriteFile(path, []byte("records"), 0o600)
}

// TestKeeper lets days pass: a backup is written every hour, and those of one day are kept. What a crash left is no backup.
func TestKeeper(t *testing.T) {
	client := store.NewMemory(time.Now).Client()
	now := time.Now()
	dir := t.TempDir()
	k := &Keeper{
		Dir: filepath.Join(dir, "backups"), Log: slog.New(slog.DiscardHandler),
		Backups: &Backups{
			Store: client, Snapshots: &fakeSnapshots{}, Scratch: filepath.Join(dir, "scratch"), ClusterID: "uuid", Host: "node-1",
			Now: func() time.Time { return now },
		},
	}
	record, err := store.Marshal(store.Cluster{ID: "uuid", Name: "demo"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Commit(t.Context(), store.Commit{Ops: []store.Op{store.Put(store.KeyCluster, record)}}); err != nil {
		t.Fatal(err)
	}
	for hour := range 50 {
		for range 3 {
			if err := k.look(t.Context()); err != nil {
				t.Fatal(err)
			}
			now = now.Add(20 * time.Minute)
		}
		have, err := k.list()
		if err != nil || len(have) != min(hour+1, backupsKept) {
			t.Fatalf("hour %d: %d backups, %v", hour, len(have), err)
		}
	}
	left, err := os.ReadDir(k.Backups.Scratch)
	if err != nil || len(left) != 0 {
		t.Errorf("%v is left, %v", left, err)
	}
}
