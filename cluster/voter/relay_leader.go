package voter

import (
	"errors"
	"io"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
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
	for {
		asked := &pb.LeaseLeasesResponse{}
		if err := stream.RecvMsg(asked); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		server := r.server.Load()
		if server == nil || server.Leader() != server.MemberID() {
			return status.Error(codes.FailedPrecondition, errNoLeader.Error())
		}
		renewed := &pb.LeaseLeasesResponse{Header: &pb.ResponseHeader{MemberId: uint64(server.MemberID())}}
		for _, l := range asked.Leases {
			if ttl, err := server.LeaseRenew(stream.Context(), lease.LeaseID(l.ID)); err == nil && ttl > 0 {
				renewed.Leases = append(renewed.Leases, l)
			}
		}
		if err := stream.SendMsg(renewed); err != nil {
			return err
		}
	}
}
