package voter

import (
	"context"
	"fmt"
	"slices"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/store"
)

// rosterCache is the store's roster as it was read last. The leader asks for it every few seconds, and it hardly changes.
type rosterCache struct {
	mu       sync.Mutex
	hosts    roster.Roster
	revision int64  // at which it was read, 0 for never
	cluster  uint64 // etcd's ID of the cluster, which is another after the data of a backup took its place
}

// roster is the store's roster as of now. It asks for what was written since it was read; when that is nothing, and as many
// entries are there as were, none has been removed either.
func (c *Control) roster(ctx context.Context) (roster.Roster, error) {
	c.known.mu.Lock()
	defer c.known.mu.Unlock()
	if since := c.known.revision; since > 0 {
		found, err := c.getRoster(ctx, clientv3.WithMinModRev(since+1))
		if err != nil {
			return nil, err
		}
		same := len(found.Kvs) == 0 && found.Count == int64(len(c.known.hosts))
		if same && found.Header.ClusterId == c.known.cluster {
			return slices.Clone(c.known.hosts), nil
		}
	}
	found, err := c.getRoster(ctx)
	if err != nil {
		return nil, err
	}
	hosts := make(roster.Roster, 0, len(found.Kvs))
	for _, kv := range found.Kvs {
		r, err := store.Unmarshal[store.RosterRecord](kv.Value)
		if err != nil {
			return nil, fmt.Errorf("cannot read the roster: %w", err)
		}
		hosts = append(hosts, r.Host)
	}
	c.known.hosts, c.known.revision, c.known.cluster = hosts, found.Header.Revision, found.Header.ClusterId
	return slices.Clone(hosts), nil
}

func (c *Control) getRoster(ctx context.Context, options ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	var found *clientv3.GetResponse
	err := c.do(ctx, func(ctx context.Context) (err error) {
		found, err = c.client.Get(ctx, store.PrefixRoster, append(options, clientv3.WithPrefix())...)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read the roster: %w", err)
	}
	return found, nil
}
