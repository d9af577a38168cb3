package gateway

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// kv is etcd's service KV on the subtree.
type kv struct {
	pb.UnimplementedKVServer
	voters Voters
}

// Range implements pb.KVServer.
func (k *kv) Range(ctx context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error) {
	s, err := moveRange(r)
	if err != nil {
		return nil, err
	}
	resp, err := pass[pb.RangeRequest, pb.RangeResponse](ctx, k.voters, true, pb.KV_Range_FullMethodName, r)
	if err == nil {
		s.show(resp.Kvs...)
	}
	return resp, err
}

// Put implements pb.KVServer.
func (k *kv) Put(ctx context.Context, r *pb.PutRequest) (*pb.PutResponse, error) {
	if err := grantsOf(ctx).key(r.GetKey(), nil); err != nil {
		return nil, err
	}
	s, err := movePut(r)
	if err != nil {
		return nil, err
	}
	resp, err := pass[pb.PutRequest, pb.PutResponse](ctx, k.voters, false, pb.KV_Put_FullMethodName, r)
	if err == nil {
		s.show(resp.PrevKv)
	}
	return resp, err
}

// DeleteRange implements pb.KVServer.
func (k *kv) DeleteRange(ctx context.Context, r *pb.DeleteRangeRequest) (*pb.DeleteRangeResponse, error) {
	if err := grantsOf(ctx).key(r.GetKey(), r.GetRangeEnd()); err != nil {
		return nil, err
	}
	s, err := moveDelete(r)
	if err != nil {
		return nil, err
	}
	resp, err := pass[pb.DeleteRangeRequest, pb.DeleteRangeResponse](ctx, k.voters, false, pb.KV_DeleteRange_FullMethodName, r)
	if err == nil {
		s.show(resp.PrevKvs...)
	}
	return resp, err
}

// Txn implements pb.KVServer.
func (k *kv) Txn(ctx context.Context, r *pb.TxnRequest) (*pb.TxnResponse, error) {
	if err := grantsOf(ctx).txn(r, maxDepth); err != nil {
		return nil, err
	}
	asked, err := moveTxn(r)
	if err != nil {
		return nil, err
	}
	resp, err := pass[pb.TxnRequest, pb.TxnResponse](ctx, k.voters, false, pb.KV_Txn_FullMethodName, r)
	if err == nil {
		asked.show(resp)
	}
	return resp, err
}

// Compact implements pb.KVServer. History is the whole cluster's; voters forget it by themselves.
func (*kv) Compact(context.Context, *pb.CompactionRequest) (*pb.CompactionResponse, error) {
	return nil, refused("compact the store, which voters do by themselves")
}
