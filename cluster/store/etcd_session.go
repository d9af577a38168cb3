package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// NewSession makes a session that lives while it is kept alive. etcd counts leases in whole seconds, and grants none
// shorter than one and a half election timeouts, so the cluster may believe in a silent holder longer than ttl; the
// holder never does.
func (s *Etcd) NewSession(ctx context.Context, ttl time.Duration) (Session, error) {
	if ttl <= 0 {
		return nil, fmt.Errorf("cannot make session: ttl %s is not positive", ttl)
	}
	seconds := int64((ttl + time.Second - 1) / time.Second)
	session := &etcdSession{store: s, ttl: ttl, done: make(chan struct{})}
	// A grant whose answer was lost leaves a lease that nobody keeps alive, so it may be tried again.
	err := s.read(ctx, func(ctx context.Context, m *member) error {
		session.renewed = time.Now()
		resp, err := m.client.Grant(clientv3.WithRequireLeader(ctx), seconds)
		if err == nil {
			session.id = resp.ID
		}
		return err
	})
	if err != nil {
		return nil, callError("make session", err)
	}
	session.ctx, session.cancel = context.WithCancel(s.ctx)
	if !s.spawn(session.run) {
		session.cancel()
		return nil, fmt.Errorf("cannot make session: %w", errClosed)
	}
	return session, nil
}

type etcdSession struct {
	store   *Etcd
	id      clientv3.LeaseID
	ttl     time.Duration
	renewed time.Time // when the last request that succeeded was sent; monotonic; owned by run

	ctx    context.Context // ends with Revoke, or the client
	cancel context.CancelFunc
	done   chan struct{}
}

func (l *etcdSession) ID() int64             { return int64(l.id) }
func (l *etcdSession) Done() <-chan struct{} { return l.done }

// run renews the lease every third of its life. It trusts only its own monotonic clock, and counts from the moment a
// request was sent: whatever the server believes, it believes it longer. Done is closed when that runs out.
func (l *etcdSession) run() {
	defer close(l.done)
	defer l.cancel()
	next := l.renewed.Add(l.ttl / 3)
	for {
		if !pause(l.ctx, time.Until(next)) {
			return
		}
		switch err := l.renew(); {
		case err == nil:
			next = l.renewed.Add(l.ttl / 3)
		case l.ctx.Err() != nil:
			return
		case errors.Is(err, ErrSessionLost), time.Since(l.renewed) >= l.ttl:
			l.store.log.Warn("session ended", "id", fmt.Sprintf("%x", int64(l.id)), "err", err)
			return
		default:
			next = time.Now().Add(retryPause)
		}
	}
}

// renew sends one keep-alive and waits for its answer, but never past the end of what is left of the session.
func (l *etcdSession) renew() error {
	ctx, cancel := context.WithDeadline(clientv3.WithRequireLeader(l.ctx), l.renewed.Add(l.ttl))
	defer cancel()
	m, err := l.store.member(ctx)
	if err != nil {
		return err
	}
	sent := time.Now()
	resp, err := keepAlive(ctx, m, l.id)
	switch {
	case err != nil && isUnavailable(err):
		m.suspect()
		return err
	case err != nil:
		return callError("keep session alive", err)
	case resp.TTL <= 0:
		return ErrSessionLost
	}
	l.renewed = sent
	return nil
}

func keepAlive(ctx context.Context, m *member, id clientv3.LeaseID) (*pb.LeaseKeepAliveResponse, error) {
	ctx, cancel := context.WithCancel(ctx) // ends the stream
	defer cancel()
	stream, err := pb.NewLeaseClient(m.client.ActiveConnection()).LeaseKeepAlive(ctx)
	if err != nil {
		return nil, err
	}
	if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: int64(id)}); err != nil {
		_, err = stream.Recv() // Send's error says only that the stream has ended; this one says why
		return nil, err
	}
	return stream.Recv()
}

// Revoke ends the session and deletes its keys.
func (l *etcdSession) Revoke(ctx context.Context) error {
	l.cancel()
	select {
	case <-l.done:
	case <-ctx.Done():
		return callError("revoke session", ctx.Err())
	}
	err := l.store.read(ctx, func(ctx context.Context, m *member) error {
		_, err := m.client.Revoke(clientv3.WithRequireLeader(ctx), l.id)
		return err
	})
	if err != nil && !errors.Is(sentinelOf(err), ErrSessionLost) {
		return callError("revoke session", err)
	}
	return nil
}
