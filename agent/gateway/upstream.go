package gateway

import (
	"context"
	"errors"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/musterhq/muster/cluster/store"
)

// Voters is the way to the store, with the rights of this host. store.Etcd is one.
type Voters interface {
	// Pass calls f with a client of one voter, and again where that does no harm (store.Etcd.Pass).
	Pass(ctx context.Context, read bool, f func(context.Context, *clientv3.Client) error) error
	// Client returns a client of one voter, for streams.
	Client(ctx context.Context) (*clientv3.Client, error)
}

// maxAnswer bounds what one answer of a voter may take of this host's memory.
const maxAnswer = 64 << 20

var answerSize = grpc.MaxCallRecvMsgSize(maxAnswer)

// pass makes one call to a voter.
func pass[Q, A any](ctx context.Context, v Voters, read bool, method string, request *Q) (*A, error) {
	answer := new(A)
	err := v.Pass(ctx, read, func(ctx context.Context, c *clientv3.Client) error {
		return c.ActiveConnection().Invoke(ctx, method, request, answer, answerSize)
	})
	if err != nil {
		return nil, toCaller(err)
	}
	return answer, nil
}

// toCaller leaves what a voter answered as it is. Without a voter it says that another attempt may succeed.
func toCaller(err error) error {
	if answer := (interface{ GRPCStatus() *status.Status })(nil); errors.As(err, &answer) {
		return answer.GRPCStatus().Err()
	}
	if errors.Is(err, store.ErrUnavailable) {
		return status.Errorf(codes.Unavailable, "muster: %v", err)
	}
	return status.FromContextError(err).Err()
}

// streamEnded is what a caller's stream ends with when the voter's does: clients begin anew then.
func streamEnded(err error) error {
	if status.Code(err) == codes.Canceled {
		return status.Error(codes.Unavailable, "muster: the voter that this went through was left")
	}
	return toCaller(err)
}
