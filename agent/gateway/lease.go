package gateway

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
)

// leases is etcd's service Lease on those that were granted through gateways.
type leases struct {
	pb.UnimplementedLeaseServer
	voters Voters
}

// named is the store's ID of a lease that a caller must name.
func named(id int64) (int64, error) {
	if id == 0 {
		return 0, rpctypes.ErrGRPCLeaseNotFound
	}
	return leaseIn(id)
}

// LeaseGrant implements pb.LeaseServer.
func (s *leases) LeaseGrant(ctx context.Context, r *pb.LeaseGrantRequest) (*pb.LeaseGrantResponse, error) {
	if g := grantsOf(ctx); g != nil && len(g) == 0 {
		return nil, refused("have leases where they may not write")
	}
	known(r)
	for r.ID == 0 {
		r.ID = rand.Int64()
	}
	id, err := leaseIn(r.ID)
	if err != nil {
		return nil, rpctypes.ErrGRPCLeaseExist
	}
	r.ID = id
	resp, err := pass[pb.LeaseGrantRequest, pb.LeaseGrantResponse](ctx, s.voters, false, pb.Lease_LeaseGrant_FullMethodName, r)
	if err == nil {
		resp.ID = leaseOut(resp.ID)
	}
	return resp, err
}

// LeaseRevoke implements pb.LeaseServer.
func (s *leases) LeaseRevoke(ctx context.Context, r *pb.LeaseRevokeRequest) (*pb.LeaseRevokeResponse, error) {
	id, err := named(r.ID)
	if err == nil {
		err = s.held(ctx, id)
	}
	if err != nil {
		return nil, err
	}
	r = &pb.LeaseRevokeRequest{ID: id}
	return pass[pb.LeaseRevokeRequest, pb.LeaseRevokeResponse](ctx, s.voters, false, pb.Lease_LeaseRevoke_FullMethodName, r)
}

// held asks whether the caller may write all that hangs on a lease.
func (s *leases) held(ctx context.Context, id int64) error {
	g := grantsOf(ctx)
	if g == nil {
		return nil
	}
	r := &pb.LeaseTimeToLiveRequest{ID: id, Keys: true}
	resp, err := pass[pb.LeaseTimeToLiveRequest, pb.LeaseTimeToLiveResponse](ctx, s.voters, true, pb.Lease_LeaseTimeToLive_FullMethodName, r)
	if err != nil {
		return err
	}
	for _, key := range resp.Keys {
		name, _ := slashed.out(key)
		if err := g.key(name, nil); err != nil {
			return err
		}
	}
	return nil
}

// LeaseTimeToLive implements pb.LeaseServer.
func (s *leases) LeaseTimeToLive(ctx context.Context, r *pb.LeaseTimeToLiveRequest) (*pb.LeaseTimeToLiveResponse, error) {
	id, err := named(r.ID)
	if err != nil {
		return nil, err
	}
	asked := r.ID
	r = &pb.LeaseTimeToLiveRequest{ID: id, Keys: r.Keys}
	resp, err := pass[pb.LeaseTimeToLiveRequest, pb.LeaseTimeToLiveResponse](ctx, s.voters, true, pb.Lease_LeaseTimeToLive_FullMethodName, r)
	if err != nil {
		return nil, err
	}
	resp.ID = asked
	var names [][]byte
	for _, key := range resp.Keys {
		if name, ok := slashed.out(key); ok {
			names = append(names, name)
		}
	}
	resp.Keys = names
	return resp, nil
}

// LeaseLeases implements pb.LeaseServer.
func (s *leases) LeaseLeases(ctx context.Context, _ *pb.LeaseLeasesRequest) (*pb.LeaseLeasesResponse, error) {
	r := &pb.LeaseLeasesRequest{}
	resp, err := pass[pb.LeaseLeasesRequest, pb.LeaseLeasesResponse](ctx, s.voters, true, pb.Lease_LeaseLeases_FullMethodName, r)
	if err != nil {
		return nil, err
	}
	var own []*pb.LeaseStatus
	for _, l := range resp.Leases {
		if id := leaseOut(l.ID); id != 0 {
			own = append(own, &pb.LeaseStatus{ID: id})
		}
	}
	resp.Leases = own
	return resp, nil
}

// LeaseKeepAlive implements pb.LeaseServer.
func (s *leases) LeaseKeepAlive(caller grpc.BidiStreamingServer[pb.LeaseKeepAliveRequest, pb.LeaseKeepAliveResponse]) error {
	ctx, cancel := context.WithCancel(caller.Context())
	defer cancel()
	client, err := s.voters.Client(ctx)
	if err != nil {
		return toCaller(err)
	}
	voter, err := pb.NewLeaseClient(client.ActiveConnection()).LeaseKeepAlive(ctx)
	if err != nil {
		return streamEnded(err)
	}
	keeper := keeper{leases: s, may: map[int64]bool{}}
	for {
		r, err := caller.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		resp, err := keeper.keep(ctx, voter, r.ID)
		if err != nil {
			return err
		}
		if err := caller.Send(resp); err != nil {
			return err
		}
	}
}

// keeper keeps the leases of one stream alive, one after the other: a voter answers in order.
type keeper struct {
	leases *leases
	may    map[int64]bool // store's IDs that the caller was found to hold
}

func (k keeper) keep(ctx context.Context, voter pb.Lease_LeaseKeepAliveClient, asked int64) (*pb.LeaseKeepAliveResponse, error) {
	id, err := named(asked)
	if err != nil { // as etcd answers for leases that do not exist
		return &pb.LeaseKeepAliveResponse{Header: &pb.ResponseHeader{}, ID: asked}, nil
	}
	if !k.may[id] {
		if err := k.leases.held(ctx, id); err != nil {
			return nil, err
		}
		if len(k.may) >= maxOps {
			clear(k.may)
		}
		k.may[id] = true
	}
	if err := voter.Send(&pb.LeaseKeepAliveRequest{ID: id}); err != nil {
		_, err = voter.Recv() // which knows why
		return nil, streamEnded(err)
	}
	resp, err := voter.Recv()
	if err != nil {
		return nil, streamEnded(err)
	}
	resp.ID = asked
	return resp, nil
}
