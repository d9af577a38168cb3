package voter

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.uber.org/zap"

	"github.com/musterhq/muster/cluster/join"
	"github.com/musterhq/muster/cluster/roster"
)

// Snapshot writes what etcd has now to a file, mode 0600, and checks that it can be restored from. It returns the revision
// of the newest record in it.
func (c *Control) Snapshot(ctx context.Context, path string) (revision int64, err error) {
	defer func() {
		if err != nil {
			_ = os.Remove(path)
			err = fmt.Errorf("cannot take a snapshot: %w", err)
		}
	}()
	stream, err := c.snapshotOf(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { _ = stream.Close() }()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(f, stream)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return 0, err
	}
	return Revision(path)
}

// snapshotOf asks the first member that is up to date: one that lags would leave out what was acknowledged already.
func (c *Control) snapshotOf(ctx context.Context) (io.ReadCloser, error) {
	members, err := c.members(ctx)
	if err != nil {
		return nil, err
	}
	for _, m := range members {
		conn, dialErr := c.conns.to(m)
		if dialErr != nil {
			err = errors.Join(err, dialErr)
			continue
		}
		askErr := once(ctx, func(ctx context.Context) error {
			_, err := pb.NewKVClient(conn).Range(ctx, &pb.RangeRequest{Key: []byte(accessKey)}) // linearizable
			return err
		})
		if askErr == nil {
			return clientv3.NewMaintenanceFromMaintenanceClient(pb.NewMaintenanceClient(conn), c.client).Snapshot(ctx)
		}
		err = errors.Join(err, askErr)
	}
	return nil, err
}

// Revision checks a snapshot, its hash included, and returns the revision of the newest record in it.
func Revision(path string) (int64, error) {
	s, err := snapshot.NewV3(zap.NewNop()).Status(path)
	if err != nil {
		return 0, fmt.Errorf("cannot read the snapshot: %w", err)
	}
	return s.Revision, nil
}

// bump is by how much revisions grow when a snapshot is restored: by more than can have been written since it was taken.
// Whoever watches from a revision that is no more then learns that it has to read anew.
const bump = 1_000_000_000

// restored names a file in the data directory of etcd that says which restore it came from.
const restored = "muster-restore"

// PrepareRestore makes a member's data from a snapshot, beside the directory of the data that it is to replace, which stays
// as it is. FinishRestore puts it in its place. The members of role are the whole new cluster, and the hosts of role's
// Restore are who belongs to it and has access, whatever the snapshot has.
func PrepareRestore(ctx context.Context, path, dir string, self roster.Host, role join.VoterRole) error {
	next := dir + ".restored"
	members, err := newSettlement(role.Restore.Roster)
	if err != nil {
		return fmt.Errorf("cannot restore: %w", err)
	}
	if err := os.RemoveAll(next); err != nil {
		return fmt.Errorf("cannot restore: %w", err)
	}
	err = snapshot.NewV3(zap.NewNop()).Restore(snapshot.RestoreConfig{
		SnapshotPath: path, Name: self.ID, OutputDataDir: next, PeerURLs: []string{self.PeerURL()},
		InitialCluster: initialCluster(role.InitialCluster), InitialClusterToken: members.token(role.ClusterToken),
		RevisionBump: bump, MarkCompacted: true,
	})
	if err == nil {
		err = members.writeTo(ctx, filepath.Join(next, "member", "snap", "db"))
	}
	if err == nil {
		err = os.Chmod(next, 0o700)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(next, restored), []byte(role.Restore.ID), 0o600)
	}
	if err != nil {
		return fmt.Errorf("cannot restore: %w", err)
	}
	return nil
}

// ErrNotRestored says that a member was to be restored, and neither it nor what it was to be restored from is there.
var ErrNotRestored = errors.New("the restore was not completed; run `muster restore` again")

// FinishRestore puts the data of a restore where etcd finds it, if it is not there yet. It may be repeated after a crash.
func FinishRestore(dir, id string) error {
	for _, at := range []string{dir, dir + ".restored"} {
		got, err := os.ReadFile(filepath.Join(at, restored))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("cannot restore: %w", err)
		}
		if err != nil || string(got) != id {
			continue
		}
		if at == dir {
			return nil
		}
		err = os.RemoveAll(dir)
		if err == nil {
			err = os.Rename(at, dir)
		}
		if err != nil {
			return fmt.Errorf("cannot restore: %w", err)
		}
		return nil
	}
	return ErrNotRestored
}
