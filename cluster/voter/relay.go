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

	"github.com/musterhq/muster/cluster/store"
)

// Figures of the relay.
const (
	relayGather   = 50 * time.Millisecond  // that keep-alives wait for others; a small part of the shortest session
	relayPatience = 400 * time.Millisecond // with the leader, for all that were gathered
	relayAtMost   = 30                     // keep-alives of one session in a row, until etcd looks at its holder's rights again
)

// relay passes the keep-alives of hosts that are connected to a follower, and have no line to it (lines), on to the leader,
// many in one message. etcd would make a request over HTTP for each of them, which takes several times what it takes to
// answer one.
//
// It gives no rights: a stream's first keep-alive of a lease, and every thirtieth, goes etcd's own way, which looks
// whether the caller may write what is bound to it. So do all that the leader does not renew.
type relay struct {
	tls      *tls.Config
	server   atomic.Pointer[etcdserver.EtcdServer] // nil until it runs
	requests chan keepAlive
}

// keepAlive is one that waits. answer has room for one; nil says that etcd shall see to it.
type keepAlive struct {
	id     int64
	answer chan *pb.ResponseHeader // the leader's
}

func newRelay(config *tls.Config) *relay {
	return &relay{tls: config, requests: make(chan keepAlive)}
}

// intercept is a grpc.StreamServerInterceptor.
func (r *relay) intercept(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if info.FullMethod == pb.Lease_LeaseKeepAlive_FullMethodName {
		stream = &relayedStream{ServerStream: stream, relay: r, known: map[int64]relayed{}}
	}
	return handler(srv, stream)
}

// relayedStream answers keep-alives itself that the relay sees to. etcd gets the others. One goroutine receives and sends.
type relayedStream struct {
	grpc.ServerStream
	relay *relay
	known map[int64]relayed // by lease
}

// relayed is what etcd itself said of a lease last, and how many more keep-alives of it the relay may see to.
type relayed struct {
	ttl  int64
	left int
}

// RecvMsg implements grpc.ServerStream.
func (s *relayedStream) RecvMsg(m any) error {
	for {
		if err := s.ServerStream.RecvMsg(m); err != nil {
			return err
		}
		req, ok := m.(*pb.LeaseKeepAliveRequest)
		if !ok || s.known[req.ID].left == 0 {
			return nil
		}
		by := s.relay.renew(s.Context(), req.ID)
		if by == nil {
			return nil
		}
		lease := s.known[req.ID]
		lease.left--
		s.known[req.ID] = lease
		resp := &pb.LeaseKeepAliveResponse{Header: by, ID: req.ID, TTL: lease.ttl}
		if err := s.ServerStream.SendMsg(resp); err != nil {
			return err
		}
	}
}

// SendMsg implements grpc.ServerStream. What etcd itself has kept alive the caller may keep alive.
func (s *relayedStream) SendMsg(m any) error {
	if resp, ok := m.(*pb.LeaseKeepAliveResponse); ok {
		delete(s.known, resp.ID)
		if resp.TTL > 0 && s.relay.leader() != "" {
			s.known[resp.ID] = relayed{ttl: resp.TTL, left: relayAtMost}
		}
	}
	return s.ServerStream.SendMsg(m)
}

// renew keeps a lease alive and returns the leader's header, or nil. The leader needs no relay.
func (r *relay) renew(ctx context.Context, id int64) *pb.ResponseHeader {
	if r.leader() == "" {
		return nil
	}
	k := keepAlive{id: id, answer: make(chan *pb.ResponseHeader, 1)}
	select {
	case r.requests <- k:
	case <-ctx.Done():
		return nil
	}
	select {
	case by := <-k.answer:
		return by
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
	stream   grpc.ClientStream
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
	client, err := clientv3.New(clientv3.Config{
		Context: ctx, Endpoints: []string{endpoint}, TLS: config, Logger: zap.NewNop(), DialOptions: store.StaticWindows(),
	})
	if err != nil {
		end()
		return err
	}
	*l = relayLine{endpoint: endpoint, client: client, end: end}
	patience := time.AfterFunc(relayPatience, end)
	defer patience.Stop()
	both := &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}
	if l.stream, err = client.ActiveConnection().NewStream(ctx, both, renewMethod); err != nil {
		l.close()
	}
	return err
}

// pass hands out the leader's answers. It returns those that the leader did not renew.
func (l *relayLine) pass(batch []keepAlive) (left []keepAlive) {
	asked := make([]*pb.LeaseStatus, len(batch))
	for i, k := range batch {
		asked[i] = &pb.LeaseStatus{ID: k.id}
	}
	renewed, err := l.ask(asked)
	if err != nil {
		return batch
	}
	lives := make(map[int64]bool, len(batch))
	for _, lease := range renewed.Leases {
		lives[lease.ID] = true
	}
	for _, k := range batch {
		if lives[k.id] {
			k.answer <- renewed.Header
		} else {
			left = append(left, k)
		}
	}
	return left
}

// ask has the leader renew leases, all in one message, and returns those that it has renewed.
func (l *relayLine) ask(asked []*pb.LeaseStatus) (*pb.LeaseLeasesResponse, error) {
	patience := time.AfterFunc(relayPatience, l.end)
	defer patience.Stop()
	renewed := &pb.LeaseLeasesResponse{}
	err := l.stream.SendMsg(&pb.LeaseLeasesResponse{Leases: asked})
	if err == nil {
		err = l.stream.RecvMsg(renewed)
	}
	if err != nil {
		l.close()
		return nil, err
	}
	return renewed, nil
}

func (l *relayLine) close() {
	if l.endpoint != "" {
		l.end()
		_ = l.client.Close()
		*l = relayLine{}
	}
}
