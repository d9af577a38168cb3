package store

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func itemOf(kv *mvccpb.KeyValue) Item {
	return Item{
		Key: string(kv.Key), Value: kv.Value,
		CreateRevision: kv.CreateRevision, ModRevision: kv.ModRevision, Session: kv.Lease,
	}
}

func eventOf(e *mvccpb.Event) Event {
	if e.Type == mvccpb.Event_DELETE {
		return Event{Item: Item{Key: string(e.Kv.Key), ModRevision: e.Kv.ModRevision}, Deleted: true}
	}
	return Event{Item: itemOf(e.Kv)}
}

func etcdGuards(guards []Guard) []clientv3.Cmp {
	cmps := make([]clientv3.Cmp, len(guards))
	for i, g := range guards {
		subject := clientv3.ModRevision(g.Key)
		if g.Kind == GuardCreateRevision {
			subject = clientv3.CreateRevision(g.Key)
		}
		cmps[i] = clientv3.Compare(subject, "=", g.Revision)
	}
	return cmps
}

func etcdOps(ops []Op) []clientv3.Op {
	result := make([]clientv3.Op, len(ops))
	for i, op := range ops {
		switch {
		case op.Prefix:
			result[i] = clientv3.OpDelete(op.Key, clientv3.WithPrefix())
		case op.Delete:
			result[i] = clientv3.OpDelete(op.Key)
		default:
			result[i] = clientv3.OpPut(op.Key, string(op.Value), clientv3.WithLease(clientv3.LeaseID(op.Session)))
		}
	}
	return result
}

// callError gives an error of etcd, gRPC or a context the sentinel that callers test for, and keeps the original.
func callError(what string, err error) error {
	if sentinel := sentinelOf(err); sentinel != nil && !errors.Is(err, sentinel) {
		return fmt.Errorf("cannot %s: %w: %w", what, sentinel, err)
	}
	return fmt.Errorf("cannot %s: %w", what, err)
}

// wireErrors are the errors of etcd that mean one of ours, by the text that comes over the wire.
var wireErrors = map[string]error{
	rpctypes.ErrorDesc(rpctypes.ErrGRPCCompacted):     ErrCompacted,
	rpctypes.ErrorDesc(rpctypes.ErrGRPCNoSpace):       ErrFull,
	rpctypes.ErrorDesc(rpctypes.ErrGRPCLeaseNotFound): ErrSessionLost,

	rpctypes.ErrorDesc(rpctypes.ErrGRPCPermissionDenied): ErrDenied,
	rpctypes.ErrorDesc(rpctypes.ErrGRPCUserEmpty):        ErrDenied,
	rpctypes.ErrorDesc(rpctypes.ErrGRPCUserNotFound):     ErrDenied,
	rpctypes.ErrorDesc(rpctypes.ErrGRPCAuthFailed):       ErrDenied,
	rpctypes.ErrorDesc(rpctypes.ErrGRPCInvalidAuthToken): ErrDenied,
}

// refusals are the errors of etcd that leave no doubt that a commit was not written, and that pass: the member refused
// it before it was proposed, or every member alike refused to apply it because users or roles changed meanwhile.
var refusals = map[string]bool{
	rpctypes.ErrorDesc(rpctypes.ErrGRPCNoLeader):               true,
	rpctypes.ErrorDesc(rpctypes.ErrGRPCRequestTooManyRequests): true,
	rpctypes.ErrorDesc(rpctypes.ErrGRPCNotCapable):             true,
	rpctypes.ErrorDesc(rpctypes.ErrGRPCNotSupportedForLearner): true,
	rpctypes.ErrorDesc(rpctypes.ErrGRPCAuthOldRevision):        true,
}

// sentinelOf returns the sentinel error for err, nil for an error that is none of them: a request too large.
func sentinelOf(err error) error {
	for _, sentinel := range []error{ErrCompacted, ErrFull, ErrDenied, ErrSessionLost, ErrUnavailable} {
		if errors.Is(err, sentinel) {
			return sentinel
		}
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return ErrUnavailable
	}
	text, code := wireError(err)
	if sentinel := wireErrors[text]; sentinel != nil {
		return sentinel
	}
	if refusals[text] {
		return ErrUnavailable
	}
	switch code {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.Aborted, codes.Internal:
		return ErrUnavailable
	}
	return nil
}

// isFinal says that trying again cannot help.
func isFinal(err error) bool { return !isUnavailable(err) }

// isUnavailable says that the failure may lie with the member or the moment, not with the request.
func isUnavailable(err error) bool { return errors.Is(sentinelOf(err), ErrUnavailable) }

// isRefused says that a commit was certainly not written, and may be when it is tried again.
func isRefused(err error) bool {
	text, _ := wireError(err)
	return refusals[text]
}

// wireError finds the text and code under whatever err was wrapped in.
func wireError(err error) (text string, code codes.Code) {
	var etcdErr rpctypes.EtcdError
	if errors.As(err, &etcdErr) {
		return etcdErr.Error(), etcdErr.Code()
	}
	var grpcErr interface{ GRPCStatus() *status.Status }
	if errors.As(err, &grpcErr) {
		return grpcErr.GRPCStatus().Message(), grpcErr.GRPCStatus().Code()
	}
	return "", codes.OK
}
