package control

import (
	"context"
	"fmt"
	"log/slog"
	"slices"

	"github.com/musterhq/muster/cluster/join"
	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/store"
)

// Bootstrap writes the first records of a cluster: what the operator told its first hosts when they joined.
type Bootstrap struct {
	Store   store.Store
	Cluster store.Cluster
	Roster  roster.Roster
	Restore *join.Restore // nil where the voters did not begin from a backup
	Log     *slog.Logger
}

// Run does it once in the life of the cluster. The cluster's own record comes last: as long as it is missing the work is
// done again from the beginning.
func (b *Bootstrap) Run(ctx context.Context, fence store.Guard) error {
	item, err := b.Store.Get(ctx, store.KeyCluster)
	if err == nil && item.ModRevision != 0 && b.Restore != nil {
		err = b.restore(ctx, fence, item)
	}
	if err != nil || item.ModRevision != 0 {
		return err
	}
	first := store.Guard{Key: store.KeyCluster, Kind: store.GuardModRevision}
	for chunk := range slices.Chunk(b.Roster, store.MaxOps) {
		c := store.Commit{Guards: []store.Guard{fence, first}}
		for _, h := range chunk {
			data, err := store.Marshal(store.RosterRecord{Host: h})
			if err != nil {
				return err
			}
			c.Ops = append(c.Ops, store.Put(store.RosterKey(h.ID), data))
		}
		if _, err := b.Store.Commit(ctx, c); err != nil {
			return fmt.Errorf("cannot write the first roster: %w", err)
		}
	}
	cluster := b.Cluster
	cluster.Fresh = true
	data, err := store.Marshal(cluster)
	if err != nil {
		return err
	}
	c := store.Commit{Guards: []store.Guard{fence, first}, Ops: []store.Op{store.Put(store.KeyCluster, data)}}
	if _, err := b.Store.Commit(ctx, c); err != nil {
		return fmt.Errorf("cannot write the cluster's record: %w", err)
	}
	b.Log.Info("wrote the first records of the cluster", "cluster", b.Cluster.Name, "hosts", len(b.Roster))
	return nil
}

// restore has the cluster's record say that the records are those of a backup. Who belongs to the cluster was settled before
// etcd started (voter.PrepareRestore).
func (b *Bootstrap) restore(ctx context.Context, fence store.Guard, item store.Item) error {
	cluster, err := store.Unmarshal[store.Cluster](item.Value)
	if err != nil || cluster.Restored == b.Restore.ID {
		return err
	}
	cluster.Fresh = true // units of Singleton=strict may have moved since the backup
	cluster.Restored, cluster.ID, cluster.Name, cluster.LeaseMillis = b.Restore.ID, b.Cluster.ID, b.Cluster.Name, b.Cluster.LeaseMillis
	data, err := store.Marshal(cluster)
	if err != nil {
		return err
	}
	c := store.Commit{
		Guards: []store.Guard{fence, unmodified(store.KeyCluster, item)}, Ops: []store.Op{store.Put(store.KeyCluster, data)},
	}
	if _, err := b.Store.Commit(ctx, c); err != nil {
		return fmt.Errorf("cannot write the cluster's record after a restore: %w", err)
	}
	b.Log.Info("the records are those of a backup", "restore", b.Restore.ID, "hosts", len(b.Restore.Roster))
	return nil
}
