package voter

import (
	"context"
	"errors"
	"io"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"go.etcd.io/etcd/server/v3/lease"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// renewMethod is the one method that voters have beside etcd's: a stream of messages that list leases, each answered by
// one that lists those of them that were renewed. Both are pb.LeaseLeasesResponse, which is etcd's list of leases.
const renewMethod = "/muster.Voter/RenewLeases"

// serve is the grpc.StreamHandler of what etcd does not know. Each renewal is etcd's own, which looks whether the caller
// may write what is bound to the lease: any user may call this, and gains nothing by it.
func (r *relay) serve(_ any, stream grpc.ServerStream) error {
	if method, _ := grpc.MethodFromServerStream(stream); method != renewMethod {
		return status.Error(codes.Unimplemented, "there is no method "+method)
	}
	all := receive(stream)
	for {
		var asked received
		select {
		case asked = <-all:
		case <-stream.Context().Done():
			return status.FromContextError(stream.Context().Err()).Err()
		}
		if errors.Is(asked.err, io.EOF) {
			return nil
		}
		if asked.err != nil {
			return asked.err
		}
		server := r.server.Load()
		if server == nil || server.Leader() != server.MemberID() {
			return status.Error(codes.FailedPrecondition, errNoLeader.Error())
		}
		renewed, err := renewHere(stream.Context(), server, asked.leases)
		if err != nil {
			return err
		}
		if err := stream.SendMsg(renewed); err != nil {
			return err
		}
	}
}

// received are the leases of one message, or the end of the messages.
type received struct {
	leases []*pb.LeaseStatus
	err    error
}

// receive hands on what comes on a stream. Its context ends before the stream does when the server stops (endWith), and the
// goroutine with the call, when its handler has returned.
func receive(stream grpc.ServerStream) <-chan received {
	all := make(chan received)
	go func() {
		for {
			message := &pb.LeaseLeasesResponse{}
			err := stream.RecvMsg(message)
			select {
			case all <- received{leases: message.Leases, err: err}:
			case <-stream.Context().Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return all
}

// renewHere renews leases at a server that leads. It is one of the server's own goroutines that does: the server waits for
// those before it closes its database, and not for streams that outlive it.
func renewHere(ctx context.Context, server *etcdserver.EtcdServer, asked []*pb.LeaseStatus) (*pb.LeaseLeasesResponse, error) {
	done := make(chan *pb.LeaseLeasesResponse, 1)
	server.GoAttach(func() {
		renewed := &pb.LeaseLeasesResponse{Header: &pb.ResponseHeader{MemberId: uint64(server.MemberID())}}
		for _, l := range asked {
			if ttl, err := server.LeaseRenew(ctx, lease.LeaseID(l.ID)); err == nil && ttl > 0 {
				renewed.Leases = append(renewed.Leases, l)
			}
		}
		done <- renewed
	})
	select {
	case renewed := <-done:
		return renewed, nil
	case <-server.StoppingNotify():
		return nil, status.Error(codes.Unavailable, "the server stops")
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
}
