package store

import (
	"context"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Pass calls f with a client of the member in use, for callers that need more of etcd than a Store has. It repeats f on a
// member that answers, until ctx or Timeout ends: a read after every failure that may pass, anything else only if it was
// certainly not done. The error is f's own, or wraps ErrUnavailable when there was no member.
func (s *Etcd) Pass(ctx context.Context, read bool, f func(context.Context, *clientv3.Client) error) error {
	again := isRefused
	if read {
		again = isUnavailable
	}
	return s.call(ctx, func(ctx context.Context, m *member) error {
		return f(clientv3.WithRequireLeader(ctx), m.client)
	}, again)
}

// Client returns a client of the member in use, waiting for one until ctx or Timeout ends. What goes on over it, as a watch
// does, ends when the member is left.
func (s *Etcd) Client(ctx context.Context) (*clientv3.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	m, err := s.member(ctx)
	if err != nil {
		return nil, err
	}
	return m.client, nil
}
