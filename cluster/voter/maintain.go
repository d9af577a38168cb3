package voter

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/musterhq/muster/cluster/membership"
)

// defragTimeout bounds the time of one defragmentation, of a database as large as the quota on a slow disk.
const defragTimeout = 5 * time.Minute

// Maintain does the next thing for etcd's databases, if there is one (membership.NextUpkeep), and returns it. compacted says
// that a caller has been told to compact since the alarm; the caller repeats Maintain until there is nothing to do. It must not
// be called twice at the same time.
func (c *Control) Maintain(ctx context.Context, compacted bool) (membership.Upkeep, error) {
	members, err := c.members(ctx)
	if err != nil {
		return membership.Upkeep{}, fmt.Errorf("cannot look after etcd's databases: %w", err)
	}
	next := membership.NextUpkeep(c.databases(ctx, members), compacted)
	switch next.Kind {
	case membership.Compact:
		err = c.compact(ctx)
	case membership.Defragment:
		if err = c.defragment(ctx, next.Member, members); err == nil {
			c.anew[next.Member] = true
		}
	case membership.Disarm:
		_, err = c.client.AlarmDisarm(ctx, &clientv3.AlarmMember{})
	}
	if err != nil {
		return next, fmt.Errorf("cannot look after etcd's databases: %w", err)
	}
	if next.Kind != membership.UpkeepNone {
		c.log.Info("looked after etcd's databases", "member", fmt.Sprintf("%x", next.Member), "reason", next.Reason)
	}
	return next, nil
}

func (c *Control) databases(ctx context.Context, members []*pb.Member) []membership.Database {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	all := make([]membership.Database, len(members))
	var wg sync.WaitGroup
	for i, m := range members {
		wg.Go(func() {
			all[i].Member = m.ID
			conn, err := c.conns.to(m)
			if err != nil {
				return
			}
			s, err := pb.NewMaintenanceClient(conn).Status(ctx, &pb.StatusRequest{})
			if err != nil {
				return
			}
			all[i] = membership.Database{
				Member: m.ID, Healthy: s.Leader != 0, Leader: s.Leader == m.ID, Size: s.DbSize, Used: s.DbSizeInUse,
				Quota: s.DbSizeQuota, Defragmented: c.anew[m.ID], Full: slices.Contains(alarmsIn(s.Errors), pb.AlarmType_NOSPACE.String()),
			}
		})
	}
	wg.Wait()
	return all
}

// compact forgets all revisions but the last.
func (c *Control) compact(ctx context.Context) error {
	return c.do(ctx, func(ctx context.Context) error {
		now, err := c.client.Get(ctx, accessKey)
		if err != nil {
			return err
		}
		_, err = c.client.Compact(ctx, now.Header.Revision, clientv3.WithCompactPhysical())
		if errors.Is(err, rpctypes.ErrCompacted) {
			return nil
		}
		clear(c.anew)
		return err
	})
}

func (c *Control) defragment(ctx context.Context, id uint64, members []*pb.Member) error {
	at := slices.IndexFunc(members, func(m *pb.Member) bool { return m.ID == id })
	if at < 0 {
		return rpctypes.ErrMemberNotFound
	}
	conn, err := c.conns.to(members[at])
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, defragTimeout)
	defer cancel()
	_, err = pb.NewMaintenanceClient(conn).Defragment(ctx, &pb.DefragmentRequest{}, grpc.WaitForReady(true))
	return err
}
