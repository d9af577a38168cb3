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
	observed
	store   *Etcd
	id      clientv3.LeaseID
	ttl     time.Duration
	renewed time.Time // when the last request that succeeded was sent; monotonic; owned by run
	line    line      // owned by run
	life    lifeline  // owned by run

	ctx    context.Context // ends with Revoke, or the client
	cancel context.CancelFunc
	done   chan struct{}
}

func (l *etcdSession) ID() int64             { return int64(l.id) }
func (l *etcdSession) Done() <-chan struct{} { return l.done }

// run renews the lease in time (rhythm). It trusts only its own monotonic clock, and counts from the moment a request was
// sent: whatever the server believes, it believes it longer. Done is closed when that runs out.
func (l *etcdSession) run() {
	defer close(l.done)
	defer l.cancel()
	defer l.hangUp()
	l.life.lease = int64(l.id)
	defer l.life.hangUp()
	r := rhythm{ttl: l.ttl}
	next, troubled := r.next(l.renewed, true), false
	for {
		if !pause(l.ctx, time.Until(next)) {
			return
		}
		switch err := l.renew(r.patience()); {
		case err == nil:
			next, troubled = r.next(l.renewed, troubled), false
		case l.ctx.Err() != nil:
			return
		case errors.Is(err, ErrSessionLost), time.Since(l.renewed) >= l.ttl:
			l.store.log.Warn("session ended", "id", fmt.Sprintf("%x", int64(l.id)), "err", err)
			return
		default:
			next, troubled = time.Now().Add(retryPause), true
		}
	}
}

// renew gives one sign of life and waits for its answer, but never past the end of what is left of the session. A member
// that answers needs no probe besides, and one that does not is left.
func (l *etcdSession) renew(patience time.Duration) error {
	ctx, cancel := context.WithDeadline(l.ctx, l.renewed.Add(l.ttl))
	defer cancel()
	m, err := l.store.member(ctx)
	if err != nil {
		return err
	}
	succeeded := l.sends()
	sent := time.Now()
	renewed, err := l.life.renew(ctx, m, patience)
	switch {
	case err != nil:
		m.unanswered()
		return err
	case !renewed:
		if err := l.renewByStream(ctx, m, patience-time.Since(sent)); err != nil {
			return err
		}
		l.life.beside(l.ctx, l.store)
	}
	l.renewed = sent
	m.answered()
	succeeded()
	return nil
}

// renewByStream does it over gRPC.
func (l *etcdSession) renewByStream(ctx context.Context, m *member, patience time.Duration) error {
	resp, err := l.keepAlive(ctx, m, patience)
	switch {
	case err != nil && isUnavailable(err):
		l.hangUp()
		m.suspect()
		return err
	case err != nil:
		l.hangUp()
		return callError("keep session alive", err)
	case resp.TTL <= 0:
		return ErrSessionLost
	}
	return nil
}

// line is the stream on which a session is kept alive while there is no lifeline: one as long as the member stays the same, since to open it takes
// the member longer than to answer.
type line struct {
	member *member
	stream pb.Lease_LeaseKeepAliveClient
	end    context.CancelFunc
}

func (l *etcdSession) keepAlive(ctx context.Context, m *member, patience time.Duration) (*pb.LeaseKeepAliveResponse, error) {
	if err := l.dial(m); err != nil {
		return nil, err
	}
	end := l.line.end // the line itself may be another by the time that the answer is overdue
	timeout := time.AfterFunc(patience, func() {
		m.unanswered()
		end()
	})
	defer timeout.Stop()
	defer context.AfterFunc(ctx, end)()
	if err := l.line.stream.Send(&pb.LeaseKeepAliveRequest{ID: int64(l.id)}); err != nil {
		_, err = l.line.stream.Recv() // Send's error says only that the stream has ended; this one says why
		return nil, err
	}
	return l.line.stream.Recv()
}

// dial opens a stream to the member, unless there is one.
func (l *etcdSession) dial(m *member) error {
	if l.line.member == m {
		return nil
	}
	l.hangUp()
	ctx, end := context.WithCancel(clientv3.WithRequireLeader(l.ctx))
	stream, err := pb.NewLeaseClient(m.client.ActiveConnection()).LeaseKeepAlive(ctx)
	if err != nil {
		end()
		return err
	}
	l.line = line{member: m, stream: stream, end: end}
	return nil
}

func (l *etcdSession) hangUp() {
	if l.line.member != nil {
		l.line.end()
		l.line = line{}
	}
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
