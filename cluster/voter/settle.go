package voter

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"slices"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/pkg/v3/traceutil"
	"go.etcd.io/etcd/server/v3/lease"
	"go.etcd.io/etcd/server/v3/storage/backend"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
	"go.uber.org/zap"

	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/store"
)

// settlement is what is written into the data of a backup before etcd starts from it: who belongs to the cluster from then on,
// and that they have access. So nobody finds there, for as long as there is no leader yet, the hosts that were: a host that took
// those for the voters would ask them for ever, and new hosts would be refused.
type settlement struct {
	keys   [][]byte // as given: the same order on every voter
	values [][]byte
}

func newSettlement(members roster.Roster) (s settlement, err error) {
	for _, h := range members {
		data, err := store.Marshal(store.RosterRecord{Host: h})
		if err != nil {
			return s, err
		}
		s.put(store.RosterKey(h.ID), data)
		s.put(accessPrefix+h.ID, []byte(accessVersion))
	}
	return s, nil
}

func (s *settlement) put(key string, value []byte) {
	s.keys, s.values = append(s.keys, []byte(key)), append(s.values, value)
}

// token is that of a cluster which begins with the settlement. Voters whose versions would write something else get another,
// and so etcd refuses to join what is not the same.
func (s settlement) token(of string) string {
	sum := sha256.New()
	for i := range s.keys {
		for _, part := range [][]byte{s.keys[i], s.values[i]} {
			_, _ = fmt.Fprintf(sum, "%d:", len(part))
			_, _ = sum.Write(part)
		}
	}
	return of + "-" + hex.EncodeToString(sum.Sum(nil))[:16]
}

// writeTo changes the database at a path, which no etcd has open. Sessions, and what else hosts wrote, stay: the leader sees to
// those of hosts that are gone.
func (s settlement) writeTo(ctx context.Context, path string) (err error) {
	defer func() { // etcd's way to say that it cannot use a database
		if p := recover(); p != nil {
			err = fmt.Errorf("cannot write the roster: %v", p)
		}
	}()
	db := backend.NewDefaultBackend(zap.NewNop(), path)
	defer closing(db, &err)
	kv := mvcc.New(zap.NewNop(), db, &lease.FakeLessor{}, mvcc.StoreConfig{})
	defer closing(kv, &err)
	tx := kv.Write(traceutil.TODO()) // one revision
	defer tx.End()
	from, to := []byte(store.PrefixRoster), []byte(clientv3.GetPrefixRangeEnd(store.PrefixRoster))
	found, err := tx.Range(ctx, from, to, mvcc.RangeOptions{})
	if err != nil {
		return err
	}
	for _, was := range found.KVs {
		if !slices.ContainsFunc(s.keys, func(key []byte) bool { return bytes.Equal(key, was.Key) }) {
			tx.DeleteRange(was.Key, nil)
		}
	}
	for i := range s.keys {
		tx.Put(s.keys[i], s.values[i], lease.NoLease)
	}
	return nil
}

func closing(c io.Closer, err *error) {
	if closeErr := c.Close(); *err == nil {
		*err = closeErr
	}
}
