package control

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/musterhq/muster/cluster/backup"
	"github.com/musterhq/muster/cluster/store"
)

// fakeSnapshots writes a file with a revision that grows.
type fakeSnapshots struct{ revision int64 }

func (f *fakeSnapshots) Snapshot(_ context.Context, path string) (int64, error) {
	f.revision++
	return f.revision, os.WriteFile(path, []byte("records"), 0o600)
}

// TestKeeper lets days pass: backups are written as often as the cluster's record says, and so many are kept. What a crash left
// is removed, and nothing that others wrote.
func TestKeeper(t *testing.T) {
	client := store.NewMemory(time.Now).Client()
	now := time.Now()
	dir := t.TempDir()
	k := &Keeper{
		Root: dir, Ails: func(error) {}, Log: slog.New(slog.DiscardHandler),
		Backups: &Backups{
			Store: client, Snapshots: &fakeSnapshots{}, Scratch: filepath.Join(dir, "scratch"), ClusterID: "uuid", Host: "node-1",
			Now: func() time.Time { return now },
		},
	}
	set := func(s *backup.Schedule) {
		t.Helper()
		record, err := store.Marshal(store.Cluster{ID: "uuid", Name: "demo", Backups: s})
		if err == nil {
			_, err = client.Commit(t.Context(), store.Commit{Ops: []store.Op{store.Put(store.KeyCluster, record)}})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	// pass looks every third of a time, and counts the backups at the end of each.
	pass := func(at string, every time.Duration, counts ...int) {
		t.Helper()
		for n, want := range counts {
			for range 3 {
				if err := k.look(t.Context()); err != nil {
					t.Fatal(err)
				}
				now = now.Add(every / 3)
			}
			if have, err := k.list(filepath.Join(dir, at)); err != nil || len(have) != want {
				t.Fatalf("%s, time %d: %d backups, want %d, %v", at, n, len(have), want, err)
			}
		}
	}
	if err := k.look(t.Context()); err != nil {
		t.Errorf("without records: %v", err)
	}
	set(nil)
	usual := backup.DefaultSchedule()
	for hour := range 50 {
		pass(usual.Dir, time.Hour, min(hour+1, usual.Keep))
	}
	set(&backup.Schedule{Every: time.Minute, Keep: 2, Dir: usual.Dir})
	pass(usual.Dir, time.Minute, 2, 2)
	set(&backup.Schedule{Keep: 1, Dir: usual.Dir})
	pass(usual.Dir, time.Hour, 2, 2) // none is written, and none removed

	others := []string{"notes.tar", "20260102T030405Z-node-2-r7.tar", "20260102T030405Z-node-1-rx.tar", ".part-node-2-1"}
	for _, name := range append(others, ".part-node-1-1") {
		if err := os.MkdirAll(filepath.Join(dir, "mnt"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "mnt", name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	set(&backup.Schedule{Every: time.Minute, Keep: 3, Dir: "/mnt"})
	pass("/mnt", time.Minute, 1, 2, 3, 3, 3)
	left, err := os.ReadDir(filepath.Join(dir, "mnt"))
	for _, e := range left {
		if e.Name() == ".part-node-1-1" {
			t.Error("what a crash left is still there")
		}
	}
	if err != nil || len(left) != len(others)+3 {
		t.Errorf("%v, %v", left, err)
	}
	if left, err := os.ReadDir(k.Backups.Scratch); err != nil || len(left) != 0 {
		t.Errorf("%v is left, %v", left, err)
	}
	set(&backup.Schedule{Every: time.Minute, Keep: 3, Dir: "/mnt/notes.tar"})
	if first, second := k.look(t.Context()), k.look(t.Context()); first == nil || first.Error() != second.Error() {
		t.Errorf("a directory that is a file: %v, then %v", first, second)
	}
}
