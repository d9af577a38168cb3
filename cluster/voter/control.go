package voter

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Control administers the voters' etcd as its root user: access (access.go), members (members.go), health
// (probe.go). Every method may be repeated, after an error or a crash of the caller too; a call that finds things as they
// shall be writes nothing. It is safe for concurrent use, by several voters too.
type Control struct {
	client *clientv3.Client
	conns  *conns
	known  rosterCache
	anew   map[uint64]bool // members that were defragmented since the last compaction. Maintain's
	log    *slog.Logger
}

// Bounds of one call to etcd, and of its repetition while etcd is between leaders or its users change.
const (
	callTimeout   = 3 * time.Second
	retryTimeout  = 10 * time.Second
	retryPause    = 50 * time.Millisecond
	keepAliveTime = 10 * time.Second // gRPC allows clients no shorter
)

// NewControl prepares to talk to the voters at these client URLs; it does not wait for them. config holds a voter's
// pki.MintControl certificate and verifies pki.VoterName.
func NewControl(ctx context.Context, endpoints []string, config *tls.Config, log *slog.Logger) (*Control, error) {
	client, err := clientv3.New(clientv3.Config{
		Context: ctx, Endpoints: endpoints, TLS: config, Logger: zap.NewNop(),
		DialKeepAliveTime: keepAliveTime, DialKeepAliveTimeout: callTimeout,
	})
	if err != nil {
		return nil, fmt.Errorf("cannot reach etcd: %w", err)
	}
	return &Control{client: client, conns: newConns(config), anew: map[uint64]bool{}, log: log}, nil
}

// SetEndpoints replaces the voters' client URLs.
func (c *Control) SetEndpoints(endpoints []string) { c.client.SetEndpoints(endpoints...) }

// Close gives the connections back.
func (c *Control) Close() error {
	c.conns.close()
	return c.client.Close()
}

// do makes a call that may be repeated until it succeeds, fails for good, or ctx or retryTimeout ends. Errors in done
// count as success.
func (c *Control) do(ctx context.Context, call func(context.Context) error, done ...error) error {
	ctx, cancel := context.WithTimeout(ctx, retryTimeout)
	defer cancel()
	for {
		err := once(ctx, call)
		for _, d := range done {
			if errors.Is(err, d) {
				return nil
			}
		}
		if err == nil || !passing(err) {
			return err
		}
		pause := time.NewTimer(retryPause)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return err
		}
	}
}

func once(ctx context.Context, call func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return call(ctx)
}

// passing reports whether a call may succeed when it is made again.
func passing(err error) bool {
	for _, p := range []error{
		rpctypes.ErrAuthOldRevision, rpctypes.ErrNoLeader, rpctypes.ErrLeaderChanged, rpctypes.ErrTimeout,
		rpctypes.ErrTimeoutDueToLeaderFail, rpctypes.ErrTimeoutDueToConnectionLost, rpctypes.ErrTimeoutWaitAppliedIndex,
		rpctypes.ErrTooManyRequests, rpctypes.ErrNotCapable, context.DeadlineExceeded,
	} {
		if errors.Is(err, p) {
			return true
		}
	}
	if rpctypes.ErrorDesc(err) == rpctypes.ErrorDesc(rpctypes.ErrGRPCNotSupportedForLearner) {
		return true // the next call goes to another member
	}
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded:
		return true
	}
	return false
}
