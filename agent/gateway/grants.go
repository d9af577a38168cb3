package gateway

import (
	"bytes"
	"context"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// grants is what a caller may write. nil is everything.
type grants []string

type grantsKey struct{}

// withGrants has calls under ctx bounded by g.
func withGrants(ctx context.Context, g grants) context.Context {
	return context.WithValue(ctx, grantsKey{}, g)
}

// grantsOf is what was bounded. A context that knows nothing of it may write nothing.
func grantsOf(ctx context.Context) grants {
	g, known := ctx.Value(grantsKey{}).(grants)
	if !known {
		return grants{}
	}
	return g
}

func refused(what string) error {
	return status.Error(codes.PermissionDenied, "muster: programs may not "+what)
}

// covers reports whether a grant covers a key: the granted one and those below it.
func (g grants) covers(key string) bool {
	if g == nil {
		return true
	}
	for _, prefix := range g {
		if key == prefix || strings.HasPrefix(key, strings.TrimSuffix(prefix, "/")+"/") {
			return true
		}
	}
	return false
}

// key asks whether the key, or all from it to the end of a range, may be written.
func (g grants) key(key, end []byte) error {
	if g == nil {
		return nil
	}
	s := spellingOf(key)
	first, _ := slashed.out(s.in(key))
	if len(end) == 0 && g.covers(string(first)) {
		return nil
	}
	last, _ := slashed.out(s.inEnd(end)) // nothing for that of the subtree itself
	for _, prefix := range g {
		from := []byte(strings.TrimSuffix(prefix, "/") + "/")
		to := bytes.Clone(from)
		to[len(to)-1]++
		if bytes.Compare(from, first) <= 0 && bytes.Compare(first, last) < 0 && bytes.Compare(last, to) <= 0 {
			return nil
		}
	}
	return refused("write this key from behind the bridge; `keys: grants:` of the cluster file grants a prefix")
}

// txn asks whether everything may be written that a transaction might write.
func (g grants) txn(r *pb.TxnRequest, depth int) error {
	if g == nil {
		return nil
	}
	if depth == 0 {
		return refused("nest transactions so deep")
	}
	for _, ops := range [][]*pb.RequestOp{r.GetSuccess(), r.GetFailure()} {
		for _, op := range ops {
			if err := g.op(op, depth); err != nil {
				return err
			}
		}
	}
	return nil
}

func (g grants) op(op *pb.RequestOp, depth int) error {
	switch r := op.GetRequest().(type) {
	case *pb.RequestOp_RequestPut:
		return g.key(r.RequestPut.GetKey(), nil)
	case *pb.RequestOp_RequestDeleteRange:
		return g.key(r.RequestDeleteRange.GetKey(), r.RequestDeleteRange.GetRangeEnd())
	case *pb.RequestOp_RequestTxn:
		return g.txn(r.RequestTxn, depth-1)
	}
	return nil
}
