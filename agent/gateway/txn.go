package gateway

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// asked is how the operations of a transaction spell their keys, in the order of their answers.
type asked struct {
	spelling  spelling
	then, els []asked // of a transaction
}

// moveTxn moves a transaction and those nested in it.
func moveTxn(r *pb.TxnRequest) (asked, error) {
	left := maxOps
	return moveTxnAt(r, maxDepth, &left)
}

func moveTxnAt(r *pb.TxnRequest, depth int, left *int) (a asked, err error) {
	*left -= len(r.GetCompare()) + len(r.GetSuccess()) + len(r.GetFailure())
	if *left < 0 || depth == 0 || r == nil {
		return a, rpctypes.ErrGRPCTooManyOps
	}
	known(r)
	for _, c := range r.Compare {
		if err := moveCompare(c); err != nil {
			return a, err
		}
	}
	if a.then, err = moveOps(r.Success, depth, left); err == nil {
		a.els, err = moveOps(r.Failure, depth, left)
	}
	return a, err
}

func moveOps(ops []*pb.RequestOp, depth int, left *int) ([]asked, error) {
	all := make([]asked, len(ops))
	for i, op := range ops {
		var err error
		if all[i], err = moveOp(op, depth, left); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func moveOp(op *pb.RequestOp, depth int, left *int) (a asked, err error) {
	err = rpctypes.ErrGRPCKeyNotFound // as etcd answers an operation that is none
	if op == nil {
		return a, err
	}
	known(op)
	switch r := op.Request.(type) {
	case *pb.RequestOp_RequestRange:
		a.spelling, err = moveRange(r.RequestRange)
	case *pb.RequestOp_RequestPut:
		a.spelling, err = movePut(r.RequestPut)
	case *pb.RequestOp_RequestDeleteRange:
		a.spelling, err = moveDelete(r.RequestDeleteRange)
	case *pb.RequestOp_RequestTxn:
		return moveTxnAt(r.RequestTxn, depth-1, left)
	}
	return a, err
}

// show gives everything that a transaction read the caller's names.
func (a asked) show(r *pb.TxnResponse) {
	ops := a.els
	if r.GetSucceeded() {
		ops = a.then
	}
	for i, op := range r.GetResponses() {
		var of asked
		if i < len(ops) {
			of = ops[i]
		}
		switch r := op.Response.(type) {
		case *pb.ResponseOp_ResponseRange:
			of.spelling.show(r.ResponseRange.GetKvs()...)
		case *pb.ResponseOp_ResponsePut:
			of.spelling.show(r.ResponsePut.GetPrevKv())
		case *pb.ResponseOp_ResponseDeleteRange:
			of.spelling.show(r.ResponseDeleteRange.GetPrevKvs()...)
		case *pb.ResponseOp_ResponseTxn:
			of.show(r.ResponseTxn)
		}
	}
}
