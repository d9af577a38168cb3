package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	grpctls "google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/musterhq/muster/agent/fleet"
	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/voter"
)

// probeTimeout is how long a voter may take to say how it is.
const probeTimeout = time.Second

// prober asks every voter's etcd how it is, each by itself: the answers of one that has lost the others count too.
// Connections are kept from one probe to the next.
type prober struct {
	tls *tls.Config

	mu    sync.Mutex
	conns map[string]*grpc.ClientConn // by host:port
}

// newProber makes a prober whose credentials config holds; any user of etcd may ask.
func newProber(config *tls.Config) *prober {
	return &prober{tls: config, conns: map[string]*grpc.ClientConn{}}
}

// probe returns the health of each voter in the order given.
func (p *prober) probe(ctx context.Context, voters roster.Roster) []fleet.VoterHealth {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	p.prune(voters)
	health := make([]fleet.VoterHealth, len(voters))
	var wg sync.WaitGroup
	for i, h := range voters {
		wg.Go(func() { health[i] = p.one(ctx, h) })
	}
	wg.Wait()
	return health
}

func (p *prober) one(ctx context.Context, h roster.Host) fleet.VoterHealth {
	health := fleet.VoterHealth{Host: h}
	conn, err := p.conn(clientAddress(h))
	if err != nil {
		health.Err = err
		return health
	}
	s, err := pb.NewMaintenanceClient(conn).Status(ctx, &pb.StatusRequest{})
	if err != nil {
		health.Err = brief(err)
		return health
	}
	health.Learner, health.Alarms = s.IsLearner, voter.Alarms(s)
	health.Leaderless = s.Leader == 0
	health.Leads = s.Leader != 0 && s.Leader == s.Header.GetMemberId()
	return health
}

func clientAddress(h roster.Host) string { return strings.TrimPrefix(h.ClientURL(), "https://") }

// brief says in a few words why a voter did not answer.
func brief(err error) error {
	s := status.Convert(err)
	_, reason, dialled := strings.Cut(s.Message(), "connect: ")
	switch {
	case s.Code() == codes.DeadlineExceeded:
		return errors.New("no answer within " + probeTimeout.String())
	case dialled:
		return errors.New(strings.TrimSuffix(reason, `"`))
	}
	return errors.New(s.Message())
}

// conn returns the connection to a voter. One that is lost is made again by gRPC, soon after the voter is back.
func (p *prober) conn(address string) (*grpc.ClientConn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if conn, ok := p.conns[address]; ok {
		return conn, nil
	}
	conn, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(grpctls.NewTLS(p.tls)),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.5, MaxDelay: 500 * time.Millisecond},
			MinConnectTimeout: probeTimeout,
		}))
	if err != nil {
		return nil, err
	}
	p.conns[address] = conn
	return conn, nil
}

// prune closes the connections to those that vote no more.
func (p *prober) prune(voters roster.Roster) {
	keep := make(map[string]bool, len(voters))
	for _, h := range voters {
		keep[clientAddress(h)] = true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for address, conn := range p.conns {
		if !keep[address] {
			_ = conn.Close()
			delete(p.conns, address)
		}
	}
}

// close ends all connections.
func (p *prober) close() { p.prune(nil) }
