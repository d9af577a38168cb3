package voter

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"sync/atomic"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/pkg/v3/traceutil"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"go.etcd.io/etcd/server/v3/lease"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/musterhq/muster/cluster/roster"
)

// gate stands between etcd and its clients, and says of hosts which keys are their own (permit.go), which etcd would
// have to learn anew of every host that joins: it works out the rights of all users again at each change of any, so that a
// thousand joins cost a million of such works.
//
// A host whose access is recorded below accessKey passes as the user sharedUser, whose rights are those that all hosts
// have together, and etcd decides the rest. So etcd still keeps hosts from everything that no host may do. Everybody
// else passes as who he is: to etcd a host without a record is a user that it does not know.
type gate struct {
	server atomic.Pointer[etcdserver.EtcdServer] // nil until it runs
}

var (
	errDenied   = rpctypes.ErrGRPCPermissionDenied
	errNotReady = status.Error(codes.Unavailable, "etcd does not run yet, or no more")
)

// unary is a grpc.UnaryServerInterceptor.
func (g *gate) unary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	id, err := g.host(ctx)
	if err != nil {
		return nil, err
	}
	if id == "" {
		return handler(ctx, req)
	}
	leases, ok := changesOf(id, req)
	if !ok {
		return nil, errDenied
	}
	for _, l := range leases {
		if err := g.mayBind(ctx, id, l); err != nil {
			return nil, err
		}
	}
	return handler(as(ctx, sharedUser), req)
}

// stream is a grpc.StreamServerInterceptor.
func (g *gate) stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	id, err := g.host(stream.Context())
	if err != nil {
		return err
	}
	if id == "" {
		return handler(srv, stream)
	}
	if !streams[info.FullMethod] {
		return errDenied
	}
	return handler(srv, &gatedStream{
		ServerStream: stream, ctx: as(stream.Context(), sharedUser), gate: g, id: id, left: map[int64]int{},
	})
}

// gatedStream asks again, with what a host sends, whether it may. One goroutine receives.
type gatedStream struct {
	grpc.ServerStream
	ctx  context.Context
	gate *gate
	id   string
	left map[int64]int // by lease: keep-alives until its holder's rights are looked at again
}

// Context implements grpc.ServerStream.
func (s *gatedStream) Context() context.Context { return s.ctx }

// RecvMsg implements grpc.ServerStream.
func (s *gatedStream) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	switch r := m.(type) {
	case *pb.WatchRequest:
		if r.GetCreateRequest() == nil {
			return nil
		}
		return s.stays()
	case *pb.LeaseKeepAliveRequest:
		return s.keeps(r.ID)
	}
	return errDenied
}

// stays asks whether the host still has access.
func (s *gatedStream) stays() error {
	known, err := s.gate.known(s.ctx, s.id)
	if err == nil && !known {
		err = errDenied
	}
	return err
}

// keeps asks whether the host may keep a lease alive. On the leader it may for a while then; elsewhere, where the relay sees
// to most of them, few keep-alives come here.
func (s *gatedStream) keeps(lease int64) error {
	if server := s.gate.server.Load(); s.left[lease] > 0 && server.Leader() == server.MemberID() {
		s.left[lease]--
		return nil
	}
	if err := s.stays(); err != nil {
		return err
	}
	if err := s.gate.mayBind(s.ctx, s.id, lease); err != nil {
		return err
	}
	s.left[lease] = relayAtMost
	return nil
}

// host is the ID of a caller that is a host with recorded access, "" for another whom etcd itself shall judge.
func (g *gate) host(ctx context.Context) (id string, err error) {
	name := callerName(ctx)
	if name == sharedUser {
		return "", errDenied // nobody is issued such a certificate
	}
	if !roster.ValidID(name) {
		return "", nil
	}
	known, err := g.known(ctx, name)
	if err != nil || !known {
		return "", err
	}
	return name, nil
}

// known reports whether a host's access is recorded. One that nothing is known of here may be elsewhere: this member may lag.
func (g *gate) known(ctx context.Context, id string) (bool, error) {
	version, err := g.recorded(ctx, id)
	if err != nil || version != "" {
		return version == accessVersion, err
	}
	if err := g.server.Load().LinearizableReadNotify(ctx); err != nil {
		return false, status.Error(codes.Unavailable, err.Error())
	}
	version, err = g.recorded(ctx, id)
	return version == accessVersion, err
}

// recorded is what this member itself has of a host's access, "" for nothing.
func (g *gate) recorded(ctx context.Context, id string) (version string, err error) {
	return attached(g, func(server *etcdserver.EtcdServer) (string, error) {
		tx := server.KV().Read(mvcc.SharedBufReadTxMode, traceutil.TODO())
		defer tx.End()
		found, err := tx.Range(ctx, []byte(accessPrefix+id), nil, mvcc.RangeOptions{})
		if err != nil || len(found.KVs) == 0 {
			return "", err
		}
		return string(found.KVs[0].Value), nil
	})
}

// mayBind asks the leader what is bound to a lease.
func (g *gate) mayBind(ctx context.Context, id string, l int64) error {
	found, err := attached(g, func(server *etcdserver.EtcdServer) (*pb.LeaseTimeToLiveResponse, error) {
		return server.LeaseTimeToLive(as(ctx, rootName), &pb.LeaseTimeToLiveRequest{ID: l, Keys: true})
	})
	switch {
	case errors.Is(err, lease.ErrLeaseNotFound):
		return nil
	case err != nil:
		return status.Error(codes.Unavailable, "cannot tell whose lease it is: "+err.Error())
	case !mayBind(id, found.Keys):
		return errDenied
	}
	return nil
}

// attached has one of the server's own goroutines ask it something: the server waits for those before it closes its
// database, and not for streams that outlive it.
func attached[T any](g *gate, ask func(*etcdserver.EtcdServer) (T, error)) (answer T, err error) {
	server := g.server.Load()
	if server == nil {
		return answer, errNotReady
	}
	type result struct {
		answer T
		err    error
	}
	done := make(chan result, 1)
	server.GoAttach(func() {
		answer, err := ask(server)
		done <- result{answer, err}
	})
	select {
	case r := <-done:
		return r.answer, r.err
	case <-server.StoppingNotify():
		return answer, errNotReady
	}
}

// callerName is the common name of a caller's certificate, as etcd reads it (auth.AuthInfoFromTLS).
func callerName(ctx context.Context) string {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return ""
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok {
		return ""
	}
	return commonName(info.State)
}

func commonName(state tls.ConnectionState) string {
	for _, chain := range state.VerifiedChains {
		if len(chain) > 0 {
			return chain[0].Subject.CommonName
		}
	}
	return ""
}

// as is ctx of a caller whom etcd takes for a user.
func as(ctx context.Context, user string) context.Context {
	leaf := &x509.Certificate{Subject: pkix.Name{CommonName: user}}
	info := credentials.TLSInfo{State: tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{leaf}}}}
	is := &peer.Peer{AuthInfo: info}
	if p, ok := peer.FromContext(ctx); ok {
		is.Addr, is.LocalAddr = p.Addr, p.LocalAddr
	}
	if _, ok := metadata.FromIncomingContext(ctx); !ok { // without which etcd knows nobody
		ctx = metadata.NewIncomingContext(ctx, metadata.MD{})
	}
	return peer.NewContext(ctx, is)
}
