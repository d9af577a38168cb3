package voter

import (
	"errors"
	"slices"
	"sync"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/musterhq/muster/cluster/store"
)

// TestRelay keeps a host's lease alive through a follower, which has the leader answer all but the first and every
// thirtieth; keeps another host from doing the same; and goes on after the leader was lost.
func TestRelay(t *testing.T) {
	c := newCluster(t, 3, 2)
	voters := c.form(t.Context())
	if err := c.control().EnsureAuth(t.Context(), c.hosts); err != nil {
		t.Fatal(err)
	}
	leader := slices.IndexFunc(voters, (*Voter).Leads)
	follower := (leader + 1) % len(voters)
	client := c.client(c.tls(c.hostPair(c.hosts[3])), c.hosts[follower].ClientURL())
	lease, err := client.Grant(t.Context(), 60)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Put(t.Context(), store.AliveKey(c.hosts[3].ID), "x", clientv3.WithLease(lease.ID)); err != nil {
		t.Fatal(err)
	}
	stream := keepAliveStream(t, client)
	relayed := 0
	for i := range 2*relayAtMost + 2 {
		resp, err := again(stream, lease.ID)
		if err != nil || resp.TTL <= 0 {
			t.Fatalf("keep-alive %d: %v, %v", i, resp, err)
		}
		if resp.Header.MemberId == voters[leader].MemberID() {
			relayed++
		} else if i > 0 && i <= relayAtMost {
			t.Logf("keep-alive %d was not passed on", i) // the leader was too busy
		}
	}
	if relayed == 0 || relayed > 2*relayAtMost {
		t.Errorf("%d of %d keep-alives were passed on", relayed, 2*relayAtMost+2)
	}

	other := keepAliveStream(t, c.client(c.tls(c.hostPair(c.hosts[4])), c.hosts[follower].ClientURL()))
	if resp, err := again(other, lease.ID); !errors.Is(rpctypes.Error(err), rpctypes.ErrPermissionDenied) {
		t.Errorf("another host keeps the lease alive: %v, %v", resp, err)
	}

	voters[leader].Close()
	for {
		if resp, err := again(keepAliveStream(t, client), lease.ID); err == nil && resp.TTL > 0 {
			break
		} else if t.Context().Err() != nil {
			t.Fatal(resp, err)
		}
	}
	if _, err := client.Revoke(t.Context(), lease.ID); err != nil {
		t.Fatal(err)
	}
	if resp, err := again(keepAliveStream(t, client), lease.ID); err != nil || resp.TTL > 0 {
		t.Errorf("a lease that was revoked: %v, %v", resp, err)
	}
}

// TestRenewalsWhileStopping asks a leader to renew leases until it is gone: it answers or refuses, and its database is not
// looked at any more once it is closed.
func TestRenewalsWhileStopping(t *testing.T) {
	c := newCluster(t, 1, 1)
	leader := c.form(t.Context())[0]
	if err := c.control().EnsureAuth(t.Context(), c.hosts); err != nil {
		t.Fatal(err)
	}
	client := c.client(c.controlTLS(0), c.hosts[0].ClientURL())
	granted, err := client.Grant(t.Context(), 60)
	if err != nil {
		t.Fatal(err)
	}
	asked := &pb.LeaseLeasesResponse{Leases: slices.Repeat([]*pb.LeaseStatus{{ID: int64(granted.ID)}}, 1000)}
	var asking sync.WaitGroup
	begun := make(chan struct{}, 8)
	for range cap(begun) {
		stream, err := client.ActiveConnection().NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, renewMethod)
		if err != nil {
			t.Fatal(err)
		}
		asking.Go(func() {
			for n := 0; stream.SendMsg(asked) == nil && stream.RecvMsg(&pb.LeaseLeasesResponse{}) == nil; n++ {
				if n == 0 {
					begun <- struct{}{}
				}
			}
		})
	}
	for range cap(begun) {
		<-begun
	}
	leader.etcd.Server.HardStop()
	leader.Close()
	asking.Wait()
}

func keepAliveStream(t *testing.T, client *clientv3.Client) pb.Lease_LeaseKeepAliveClient {
	t.Helper()
	stream, err := pb.NewLeaseClient(client.ActiveConnection()).LeaseKeepAlive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

func again(stream pb.Lease_LeaseKeepAliveClient, id clientv3.LeaseID) (*pb.LeaseKeepAliveResponse, error) {
	if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: int64(id)}); err != nil {
		_, err = stream.Recv()
		return nil, err
	}
	return stream.Recv()
}
