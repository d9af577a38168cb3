package gateway

import (
	"context"
	"hash/fnv"
	"net"
	"net/http"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// register adds etcd's services. What a service does not implement is refused.
func register(s *grpc.Server, host string, voters Voters) {
	pb.RegisterKVServer(s, &kv{voters: voters})
	pb.RegisterWatchServer(s, &watches{voters: voters})
	pb.RegisterLeaseServer(s, &leases{voters: voters})
	pb.RegisterClusterServer(s, &members{host: host})
	pb.RegisterMaintenanceServer(s, &maintenance{voters: voters})
	pb.RegisterAuthServer(s, &auth{})
	healthpb.RegisterHealthServer(s, &health{voters: voters})
}

// members is etcd's service Cluster. The only member is this gateway, since clients turn to the members that they are told.
type members struct {
	pb.UnimplementedClusterServer
	host string // name
}

// MemberList implements pb.ClusterServer.
func (s *members) MemberList(ctx context.Context, _ *pb.MemberListRequest) (*pb.MemberListResponse, error) {
	own := &pb.Member{ID: memberID(s.host), Name: s.host}
	if at, ok := ctx.Value(http.LocalAddrContextKey).(net.Addr); ok {
		own.ClientURLs = []string{"http://" + at.String()}
	}
	return &pb.MemberListResponse{Header: &pb.ResponseHeader{MemberId: own.ID}, Members: []*pb.Member{own}}, nil
}

// memberID is a number for a host that clients can tell from others'.
func memberID(host string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(host)) // never fails
	return h.Sum64()
}

// maintenance is what clients ask of a member's health.
type maintenance struct {
	pb.UnimplementedMaintenanceServer
	voters Voters
}

// Status implements pb.MaintenanceServer with that of the voter in use.
func (s *maintenance) Status(ctx context.Context, _ *pb.StatusRequest) (*pb.StatusResponse, error) {
	return pass[pb.StatusRequest, pb.StatusResponse](ctx, s.voters, true, pb.Maintenance_Status_FullMethodName, &pb.StatusRequest{})
}

// Alarm implements pb.MaintenanceServer: alarms can be looked at.
func (s *maintenance) Alarm(ctx context.Context, r *pb.AlarmRequest) (*pb.AlarmResponse, error) {
	if r.Action != pb.AlarmRequest_GET {
		return nil, refused("raise or disarm alarms")
	}
	r = &pb.AlarmRequest{Action: pb.AlarmRequest_GET, Alarm: r.Alarm}
	return pass[pb.AlarmRequest, pb.AlarmResponse](ctx, s.voters, true, pb.Maintenance_Alarm_FullMethodName, r)
}

// auth tells clients that they need no password.
type auth struct{ pb.UnimplementedAuthServer }

// AuthStatus implements pb.AuthServer.
func (*auth) AuthStatus(context.Context, *pb.AuthStatusRequest) (*pb.AuthStatusResponse, error) {
	return &pb.AuthStatusResponse{Header: &pb.ResponseHeader{}}, nil
}

// Authenticate implements pb.AuthServer.
func (*auth) Authenticate(context.Context, *pb.AuthenticateRequest) (*pb.AuthenticateResponse, error) {
	return nil, rpctypes.ErrGRPCAuthNotEnabled
}

// health is gRPC's own health service.
type health struct {
	healthpb.UnimplementedHealthServer
	voters Voters
}

// Check implements healthpb.HealthServer: the gateway is as well as its way to the voters.
func (s *health) Check(ctx context.Context, _ *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	answer := &healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_SERVING}
	if _, err := s.voters.Client(ctx); err != nil {
		answer.Status = healthpb.HealthCheckResponse_NOT_SERVING
	}
	return answer, nil
}
