package voter

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// probeTimeout is how long a member may take to say how it is.
const probeTimeout = time.Second

// Health is what a member says of itself.
type Health struct {
	Host    string // host ID, "" for a member that has never started
	Member  uint64 // etcd's ID
	Learner bool
	Healthy bool     // it answered, and knew a leader
	Leads   bool     // it is the leader
	Applied uint64   // how far it has applied raft's log
	Alarms  []string // what it complains about: "NOSPACE", "CORRUPT"
	Err     error    // why it did not answer
}

// Health asks every member how it is, each by itself and all at the same time.
func (c *Control) Health(ctx context.Context) ([]Health, error) {
	members, err := c.members(ctx)
	if err != nil {
		return nil, err
	}
	return c.probe(ctx, members), nil
}

func (c *Control) probe(ctx context.Context, members []*pb.Member) []Health {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	c.conns.keep(members)
	all := make([]Health, len(members))
	var wg sync.WaitGroup
	for i, m := range members {
		all[i] = Health{Host: m.Name, Member: m.ID, Learner: m.IsLearner}
		wg.Go(func() { all[i].Err = c.ask(ctx, m, &all[i]) })
	}
	wg.Wait()
	return all
}

// ask fills h from one member's own answer.
func (c *Control) ask(ctx context.Context, m *pb.Member, h *Health) error {
	conn, err := c.conns.to(m)
	if err != nil {
		return err
	}
	s, err := pb.NewMaintenanceClient(conn).Status(ctx, &pb.StatusRequest{})
	if err != nil {
		return err
	}
	h.Healthy = s.Leader != 0 && s.Header.GetMemberId() == h.Member // another may have taken its address
	h.Leads = h.Healthy && s.Leader == h.Member
	h.Applied = s.RaftAppliedIndex
	h.Alarms = alarmsIn(s.Errors)
	return nil
}

// Alarms are what a member complains about: "NOSPACE", "CORRUPT".
func Alarms(s *pb.StatusResponse) []string { return alarmsIn(s.Errors) }

// alarmsIn finds alarms among the errors of a status, which are texts such as "memberID:123 alarm:NOSPACE ".
func alarmsIn(texts []string) []string {
	var alarms []string
	for _, text := range texts {
		if _, alarm, ok := strings.Cut(text, "alarm:"); ok {
			alarms = append(alarms, strings.TrimSpace(alarm))
		}
	}
	slices.Sort(alarms)
	return slices.Compact(alarms)
}
