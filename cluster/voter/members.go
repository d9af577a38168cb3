package voter

import (
	"context"
	"errors"
	"fmt"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/musterhq/muster/cluster/join"
	"github.com/musterhq/muster/cluster/membership"
	"github.com/musterhq/muster/cluster/roster"
)

// maxLag is by how many entries of raft's log a learner may be behind the leader and count as caught up. etcd itself asks
// for nine tenths of the log when it promotes.
const maxLag = 1000

// Add makes room for a voter to come, which is in the store's roster, as a learner, and returns what it needs to start,
// but for the issuer. It returns join.ErrNotForming while membership.NextStep has it wait.
func (c *Control) Add(ctx context.Context, h roster.Host) (join.VoterRole, error) {
	role, err := c.add(ctx, h)
	if err != nil {
		return join.VoterRole{}, fmt.Errorf("cannot add voter %s: %w", h.Name, err)
	}
	return role, nil
}

func (c *Control) add(ctx context.Context, h roster.Host) (join.VoterRole, error) {
	members, err := c.members(ctx)
	if err != nil {
		return join.VoterRole{}, err
	}
	if i := slices.IndexFunc(members, func(m *pb.Member) bool { return isOf(m, h) }); i >= 0 {
		return roleAmong(members, h), nil
	}
	hosts, err := c.roster(ctx)
	if err != nil {
		return join.VoterRole{}, err
	}
	view := c.view(ctx, members, hosts)
	for i := range view.Hosts {
		view.Hosts[i].Waiting = view.Hosts[i].ID == h.ID
	}
	step := membership.NextStep(view)
	if step.Kind != membership.AddLearner || step.Host != h.ID {
		return join.VoterRole{}, fmt.Errorf("%w: %s", join.ErrNotForming, step.Reason)
	}
	c.log.Info("add voter", "host", h.Name, "id", h.ID, "reason", step.Reason)
	var added *clientv3.MemberAddResponse
	err = once(ctx, func(ctx context.Context) (err error) {
		added, err = c.client.MemberAddAsLearner(ctx, []string{h.PeerURL()})
		return err
	})
	if err != nil {
		if refused(err) {
			return join.VoterRole{}, fmt.Errorf("%w: %w", join.ErrNotForming, err)
		}
		return join.VoterRole{}, err
	}
	return roleAmong(added.Members, h), nil
}

// Step carries out the next step of membership, if it is to remove or to promote a member, and returns it. Hosts are
// added when they ask (Add). Steps that change the roster are the caller's to carry out. complete adds to the view what
// etcd does not know; nil for nothing. A caller repeats Step until the kind is membership.None, and then now and then.
func (c *Control) Step(ctx context.Context, complete func(*membership.View)) (membership.Step, error) {
	members, err := c.members(ctx)
	if err != nil {
		return membership.Step{}, fmt.Errorf("cannot look after etcd's members: %w", err)
	}
	hosts, err := c.roster(ctx)
	if err != nil {
		return membership.Step{}, fmt.Errorf("cannot look after etcd's members: %w", err)
	}
	view := c.view(ctx, members, hosts)
	if complete != nil {
		complete(&view)
	}
	step := membership.NextStep(view)
	if step.Kind == membership.None || step.Kind.OfRoster() {
		return step, nil
	}
	c.log.Info("change etcd's members", "step", step.Kind.String(), "member", fmt.Sprintf("%x", step.Member),
		"host", step.Host, "reason", step.Reason)
	switch step.Kind {
	case membership.RemoveMember:
		err = c.remove(ctx, step.Member, view, members)
	case membership.Promote:
		err = c.promote(ctx, step.Member, view, members)
	}
	if err != nil && refused(err) {
		return membership.Step{Host: step.Host, Reason: fmt.Sprintf("etcd puts off to %s: %v", step.Kind, err)}, nil
	}
	if err != nil {
		return step, fmt.Errorf("cannot %s %x: %w", step.Kind, step.Member, err)
	}
	return step, nil
}

// remove gives the leadership to another member first if the one to go has it. Without that, requests under way would be
// lost with the leader, and wait for their time-out.
func (c *Control) remove(ctx context.Context, id uint64, v membership.View, members []*pb.Member) error {
	heir := slices.IndexFunc(v.Members, func(m membership.Member) bool { return m.ID != id && m.Healthy && !m.Learner })
	if leader, ok := leaderOf(v); ok && leader == id && heir >= 0 {
		err := c.atMember(ctx, id, members, func(ctx context.Context, conn *grpc.ClientConn) error {
			_, err := pb.NewMaintenanceClient(conn).MoveLeader(ctx, &pb.MoveLeaderRequest{TargetID: v.Members[heir].ID})
			return err
		})
		if err != nil {
			return err
		}
	}
	err := once(ctx, func(ctx context.Context) error {
		_, err := c.client.MemberRemove(ctx, id)
		return err
	})
	if errors.Is(err, rpctypes.ErrMemberNotFound) {
		return nil
	}
	return err
}

// promote asks the leader itself: a follower would pass the request on without saying who asks, be refused by the leader's
// RBAC, and repeat that without pause until the request times out (etcd 3.7.3, EtcdServer.PromoteMember).
func (c *Control) promote(ctx context.Context, id uint64, v membership.View, members []*pb.Member) error {
	leader, ok := leaderOf(v)
	if !ok {
		return rpctypes.ErrNoLeader
	}
	err := c.atMember(ctx, leader, members, func(ctx context.Context, conn *grpc.ClientConn) error {
		_, err := pb.NewClusterClient(conn).MemberPromote(ctx, &pb.MemberPromoteRequest{ID: id})
		return rpctypes.Error(err)
	})
	if errors.Is(err, rpctypes.ErrMemberNotLearner) {
		return nil
	}
	return err
}

// atMember calls one member and no other.
func (c *Control) atMember(
	ctx context.Context, id uint64, members []*pb.Member, call func(context.Context, *grpc.ClientConn) error,
) error {
	at := slices.IndexFunc(members, func(m *pb.Member) bool { return m.ID == id })
	if at < 0 {
		return rpctypes.ErrMemberNotFound
	}
	conn, err := c.conns.to(members[at])
	if err != nil {
		return err
	}
	return once(ctx, func(ctx context.Context) error { return call(ctx, conn) })
}

func leaderOf(v membership.View) (id uint64, ok bool) {
	for _, m := range v.Members {
		if m.Leader {
			return m.ID, true
		}
	}
	return 0, false
}

// refused reports whether etcd's own check found that a change has to wait.
func refused(err error) bool {
	for _, r := range []error{
		rpctypes.ErrUnhealthy, rpctypes.ErrMemberNotEnoughStarted, rpctypes.ErrMemberLearnerNotReady,
		rpctypes.ErrTooManyLearners, rpctypes.ErrNoLeader, rpctypes.ErrPeerURLExist, rpctypes.ErrMemberExist,
	} {
		if errors.Is(err, r) {
			return true
		}
	}
	return false
}

// members lists etcd's members as of now.
func (c *Control) members(ctx context.Context) ([]*pb.Member, error) {
	var list *clientv3.MemberListResponse
	err := c.do(ctx, func(ctx context.Context) (err error) {
		list, err = c.client.MemberList(ctx)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot list etcd's members: %w", err)
	}
	return list.Members, nil
}

// view is what etcd and the roster tell. That a voter's member answers is all that it knows of hosts.
func (c *Control) view(ctx context.Context, members []*pb.Member, hosts roster.Roster) membership.View {
	var v membership.View
	health := c.probe(ctx, members)
	var head uint64
	for _, h := range health {
		if h.Leads {
			head = h.Applied
		}
	}
	answers := map[string]bool{}
	for i, h := range health {
		m := membership.Member{
			ID: h.Member, Host: hostOf(members[i], hosts), Learner: h.Learner, Healthy: h.Healthy, Leader: h.Leads,
			CaughtUp: h.Learner && h.Healthy && head > 0 && h.Applied+maxLag >= head,
		}
		v.Members = append(v.Members, m)
		answers[m.Host] = m.Healthy
	}
	for _, h := range hosts {
		v.Hosts = append(v.Hosts, membership.Host{
			ID: h.ID, Name: h.Name, Provider: h.Provider, Votes: h.Voter || h.Appointed,
			Appointed: h.Appointed, Barred: h.Barred, Ready: answers[h.ID],
		})
	}
	return v
}

// Find looks for a host's member, as of now: member, that has started once, or reserved, that has not.
func (c *Control) Find(ctx context.Context, h roster.Host) (member, reserved bool, err error) {
	members, err := c.members(ctx)
	for _, m := range members {
		member = member || m.Name == h.ID
		reserved = reserved || m.Name == "" && isOf(m, h)
	}
	return member, reserved, err
}

// hostOf is the host of a member: its name, or, until it has started and has one, the voter that has its peer URL.
func hostOf(m *pb.Member, hosts roster.Roster) string {
	if m.Name != "" {
		return m.Name
	}
	for _, h := range hosts {
		if (h.Voter || h.Appointed) && isOf(m, h) {
			return h.ID
		}
	}
	return ""
}

func isOf(m *pb.Member, h roster.Host) bool {
	return m.Name == h.ID || m.Name == "" && slices.Contains(m.PeerURLs, h.PeerURL())
}

// roleAmong is what host h needs to start as one of members.
func roleAmong(members []*pb.Member, h roster.Host) join.VoterRole {
	role := join.VoterRole{State: join.StateExisting, InitialCluster: map[string]string{}}
	for _, m := range members {
		name := m.Name
		switch {
		case isOf(m, h):
			name = h.ID
		case name == "": // has not started; etcd wants some name
			name = fmt.Sprintf("member-%x", m.ID)
		}
		if len(m.PeerURLs) > 0 {
			role.InitialCluster[name] = m.PeerURLs[0]
		}
	}
	return role
}
