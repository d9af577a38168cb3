package voter

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/musterhq/muster/cluster/store"
)

// streams are the streams that a host may open. What it may call else is what changesOf knows.
var streams = map[string]bool{
	pb.Watch_Watch_FullMethodName:          true,
	pb.Lease_LeaseKeepAlive_FullMethodName: true,
}

// span are the keys from the first up to the second, without that one.
type span struct{ from, to string }

// spanOf is what etcd takes a key and the end of a range for. ok is false where the range has no end.
func spanOf(key, end []byte) (s span, ok bool) {
	switch {
	case len(end) == 0:
		return span{string(key), string(key) + "\x00"}, true
	case len(end) == 1 && end[0] == 0:
		return span{}, false
	}
	return span{string(key), string(end)}, true
}

// spansOf is all that a host may write: the keys that are its own, the parts of its states, and the applications' keys.
func spansOf(id string) []span {
	parts := store.StatesKey(id) + "/"
	spans := []span{{store.FirstApp, store.EndApp}, {parts, clientv3.GetPrefixRangeEnd(parts)}}
	for _, key := range writable(id) {
		spans = append(spans, span{key, key + "\x00"})
	}
	return spans
}

// mayWrite reports whether a host may write a key, or all keys of a range, as etcd's requests name them.
func mayWrite(id string, key, end []byte) bool {
	wanted, ok := spanOf(key, end)
	if !ok {
		return false
	}
	for _, s := range spansOf(id) {
		if s.from <= wanted.from && wanted.to <= s.to {
			return true
		}
	}
	return false
}

// mayBind reports whether a host may renew or end a lease that these keys are bound to, or bind another key to it.
func mayBind(id string, keys [][]byte) bool {
	for _, key := range keys {
		if !mayWrite(id, key, nil) {
			return false
		}
	}
	return true
}

// changesOf reports whether a host may make a request, and of which leases it depends besides: those that it binds keys
// to or ends. What it may read is for etcd to say, which knows it of all hosts alike (access.go), as it knows what no
// host may write. Requests that are not listed are refused, whatever etcd would say of them.
func changesOf(id string, request any) (leases []int64, ok bool) {
	switch r := request.(type) {
	case *pb.RangeRequest, *pb.LeaseGrantRequest, *pb.LeaseTimeToLiveRequest, *pb.LeaseLeasesRequest,
		*pb.MemberListRequest, *pb.StatusRequest, *healthpb.HealthCheckRequest:
		return nil, true
	case *pb.AlarmRequest:
		return nil, r.Action == pb.AlarmRequest_GET
	case *pb.LeaseRevokeRequest:
		return []int64{r.ID}, true
	case *pb.PutRequest:
		return bound(r), mayWrite(id, r.Key, nil)
	case *pb.DeleteRangeRequest:
		return nil, mayWrite(id, r.Key, r.RangeEnd)
	case *pb.TxnRequest:
		return changesOfTxn(id, r)
	}
	return nil, false
}

// bound is the lease that a key is bound to. That of a key that keeps its own has been looked at.
func bound(r *pb.PutRequest) []int64 {
	if r.Lease == 0 {
		return nil
	}
	return []int64{r.Lease}
}

// changesOfTxn looks at both branches, whichever etcd will take.
func changesOfTxn(id string, r *pb.TxnRequest) (leases []int64, ok bool) {
	for _, branch := range [][]*pb.RequestOp{r.Success, r.Failure} {
		for _, op := range branch {
			more, ok := changesOfOp(id, op)
			if !ok {
				return nil, false
			}
			leases = append(leases, more...)
		}
	}
	return leases, true
}

func changesOfOp(id string, op *pb.RequestOp) (leases []int64, ok bool) {
	switch r := op.GetRequest().(type) {
	case *pb.RequestOp_RequestRange:
		return nil, true
	case *pb.RequestOp_RequestPut:
		return changesOf(id, r.RequestPut)
	case *pb.RequestOp_RequestDeleteRange:
		return changesOf(id, r.RequestDeleteRange)
	case *pb.RequestOp_RequestTxn:
		return changesOf(id, r.RequestTxn)
	}
	return nil, false
}
