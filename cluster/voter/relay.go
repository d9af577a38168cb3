package voter

import (
	"context"
	"crypto/tls"
	"errors"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"go.uber.org/zap"
	"google.golang.org/grpc"
)

// Figures of the relay.
const (
	relayGather   = 50 * time.Millisecond  // that keep-alives wait for others; a small part of the shortest session
	relayPatience = 400 * time.Millisecond // with the leader, for all that were gathered
	relayAtMost   = 30                     // keep-alives of one session in a row, until etcd looks at its holder's rights again
)

// relay passes the keep-alives of hosts that are connected to a follower on to the leader, many at a time over one stream.
// etcd would make a request over HTTP for each of them, which takes several times what it takes to answer one, and most of
// what idle hosts cost (agent.TestIdle).
//
// It gives no rights: a stream's first keep-alive of a lease, and every thirtieth, goes etcd's own way, which looks
// whether the caller may write what is bound to it. So do all that the leader does not answer with a time to live.
type relay struct {
	tls      *tls.Config
	server   atomic.Pointer[etcdserver.EtcdServer] // nil until it runs
	requests chan keepAlive
}

// keepAlive is one that waits. answer has room for one; nil says that etcd shall see to it.
type keepAlive struct {
	id     int64
	answer chan *pb.LeaseKeepAliveResponse
}

func newRelay(config *tls.Config) *relay {
	return &relay{tls: config, requests: make(chan keepAlive)}
}

// intercept is a grpc.StreamServerInterceptor.
func (r *relay) intercept(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if info.FullMethod == pb.Lease_LeaseKeepAlive_FullMethodName {
		stream = &relayedStream{ServerStream: stream, relay: r, left: map[int64]int{}}
	}
	return handler(srv, stream)
}

// relayedStream answers keep-alives itself that the relay sees to. etcd gets the others. One goroutine receives and sends.
type relayedStream struct {
	grpc.ServerStream
	relay *relay
	left  map[int64]int // lease → how many more the relay may see to
}

// RecvMsg implements grpc.ServerStream.
func (s *relayedStream) RecvMsg(m any) error {
	for {
		if err := s.ServerStream.RecvMsg(m); err != nil {
			return err
		}
		req, ok := m.(*pb.LeaseKeepAliveRequest)
		if !ok || s.left[req.ID] == 0 {
			return nil
		}
		resp := s.relay.renew(s.Context(), req.ID)
		if resp == nil {
			return nil
		}
		s.left[req.ID]--
		if err := s.ServerStream.SendMsg(resp); err != nil {
			return err
		}
	}
}

// SendMsg implements grpc.ServerStream. What etcd itself has kept alive the caller may keep alive.
func (s *relayedStream) SendMsg(m any) error {
	if resp, ok := m.(*pb.LeaseKeepAliveResponse); ok {
		delete(s.left, resp.ID)
		if resp.TTL > 0 && s.relay.leader() != "" {
			s.left[resp.ID] = relayAtMost
		}
	}
	return s.ServerStream.SendMsg(m)
}

// renew keeps a lease alive, or returns nil. The leader needs no relay.
func (r *relay) renew(ctx context.Context, id int64) *pb.LeaseKeepAliveResponse {
	if r.leader() == "" {
		return nil
	}
	k := keepAlive{id: id, answer: make(chan *pb.LeaseKeepAliveResponse, 1)}
	select {
	case r.requests <- k:
	case <-ctx.Done():
		return nil
	}
	select {
	case resp := <-k.answer:
		return resp
	case <-ctx.Done():
		return nil
	}
}

// leader is the leader's client URL, "" while there is none or it is this member.
func (r *relay) leader() string {
	server := r.server.Load()
	if server == nil || server.Leader() == server.MemberID() {
		return ""
	}
	member := server.Cluster().Member(server.Leader())
	if member == nil || len(member.ClientURLs) == 0 {
		return ""
	}
	return member.ClientURLs[0]
}

// run passes on until ctx ends.
func (r *relay) run(ctx context.Context) {
	var l relayLine
	defer l.close()
	for {
		var batch []keepAlive
		select {
		case k := <-r.requests:
			batch = r.gather(ctx, k)
		case <-ctx.Done():
			return
		}
		if err := l.open(ctx, r.leader(), r.tls); err == nil {
			batch = l.pass(batch)
		}
		for _, k := range batch {
			k.answer <- nil
		}
	}
}

// gather waits for more of them.
func (r *relay) gather(ctx context.Context, first keepAlive) []keepAlive {
	batch := []keepAlive{first}
	timer := time.NewTimer(relayGather)
	defer timer.Stop()
	for {
		select {
		case k := <-r.requests:
			batch = append(batch, k)
		case <-timer.C:
			return batch
		case <-ctx.Done():
			return batch
		}
	}
}

// relayLine is the stream to the leader.
type relayLine struct {
	endpoint string // "" without one
	client   *clientv3.Client
	stream   pb.Lease_LeaseKeepAliveClient
	end      context.CancelFunc
}

var errNoLeader = errors.New("another member has to lead")

// open makes a stream to the leader, unless there is one.
func (l *relayLine) open(ctx context.Context, endpoint string, config *tls.Config) error {
	if endpoint == "" {
		return errNoLeader
	}
	if l.endpoint == endpoint {
		return nil
	}
	l.close()
	ctx, end := context.WithCancel(ctx)
	client, err := clientv3.New(clientv3.Config{Context: ctx, Endpoints: []string{endpoint}, TLS: config, Logger: zap.NewNop()})
	if err != nil {
		end()
		return err
	}
	*l = relayLine{endpoint: endpoint, client: client, end: end}
	patience := time.AfterFunc(relayPatience, end)
	defer patience.Stop()
	if l.stream, err = pb.NewLeaseClient(client.ActiveConnection()).LeaseKeepAlive(ctx); err != nil {
		l.close()
	}
	return err
}

// pass sends all and hands out the answers, which come in the same order. It returns those that got none.
func (l *relayLine) pass(batch []keepAlive) (left []keepAlive) {
	patience := time.AfterFunc(relayPatience, l.end)
	defer patience.Stop()
	for _, k := range batch {
		if err := l.stream.Send(&pb.LeaseKeepAliveRequest{ID: k.id}); err != nil {
			l.close()
			return batch
		}
	}
	for i, k := range batch {
		resp, err := l.stream.Recv()
		if err != nil {
			l.close()
			return batch[i:]
		}
		if resp.TTL <= 0 || resp.ID != k.id {
			resp = nil
		}
		k.answer <- resp
	}
	return nil
}

func (l *relayLine) close() {
	if l.endpoint != "" {
		l.end()
		_ = l.client.Close()
		*l = relayLine{}
	}
}
