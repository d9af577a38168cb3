package voter

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"google.golang.org/grpc"

	"github.com/musterhq/muster/cluster/join"
	"github.com/musterhq/muster/cluster/membership"
	"github.com/musterhq/muster/cluster/pki"
)

// Errors of a voter.
var (
	// ErrDataLost says that this host has voted before and its data is gone. What it promised then it cannot know now, so
	// it must not vote; the host has to be replaced.
	ErrDataLost = errors.New("the voter's data is gone")
	ErrStopped  = errors.New("etcd has stopped") // by itself: its member was removed, or its disk failed
)

// transferTimeout is how long Close tries to give the leadership away. It takes milliseconds when a follower answers.
const transferTimeout = 500 * time.Millisecond

// greetTimeout is how long a client may take for its handshake. A server that stops waits for those under way, by default for
// two minutes.
const greetTimeout = 5 * time.Second

// Voter is a running etcd server.
type Voter struct {
	etcd  *embed.Etcd
	lines *lines             // nil without a relay, or without epoll
	end   context.CancelFunc // ends clients' streams, the relay, and lines
	wg    sync.WaitGroup     // the relay, and lines
	once  sync.Once
}

// Start begins to run the server and returns when it listens; see WaitReady. On a directory that holds a member's data
// the role is not looked at and the member goes on. ctx must outlive the voter: its end cuts clients' streams off.
func Start(ctx context.Context, cfg Config) (*Voter, error) {
	v, err := start(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("cannot start etcd: %w", err)
	}
	return v, nil
}

func start(ctx context.Context, cfg Config) (*Voter, error) {
	known, err := checkData(cfg.Dir)
	if err != nil {
		return nil, err
	}
	streams, end := context.WithCancel(ctx)
	options := []grpc.ServerOption{grpc.ConnectionTimeout(greetTimeout), grpc.ChainStreamInterceptor(endWith(streams))}
	passOn, front := newRelay(cfg.Relay), &gate{}
	if cfg.Relay != nil {
		options = append(options, grpc.ChainStreamInterceptor(passOn.intercept), grpc.UnknownServiceHandler(passOn.serve))
	}
	options = append(options, grpc.ChainStreamInterceptor(front.stream), grpc.ChainUnaryInterceptor(front.unary))
	ec, err := embedConfig(cfg, options...)
	if err == nil && !known {
		err = prepareFirst(ctx, cfg, ec)
	}
	v := &Voter{end: end}
	if err == nil && cfg.Relay != nil {
		if v.lines, err = addLines(streams, ec, front, passOn, cfg.Log); errors.Is(err, errors.ErrUnsupported) {
			err = nil // see epoll_other.go
		}
	}
	if err == nil {
		v.etcd, err = embed.StartEtcd(ec)
	}
	if err != nil {
		end()
		if v.lines != nil {
			v.lines.close()
		}
		return nil, err
	}
	front.server.Store(v.etcd.Server)
	if cfg.Relay != nil {
		passOn.server.Store(v.etcd.Server)
		v.wg.Go(func() { passOn.run(streams) })
	}
	if v.lines != nil {
		v.wg.Go(func() { v.lines.run(streams) })
	}
	if err := pki.WriteFile(marker(cfg.Dir), nil); err != nil {
		v.Close()
		return nil, err
	}
	return v, nil
}

// prepareFirst is for a member without data.
func prepareFirst(ctx context.Context, cfg Config, ec *embed.Config) error {
	v := membership.HostView{Joined: true, Seat: true, First: cfg.Role.State != join.StateExisting}
	if membership.NextHostStep(v) != membership.Form {
		members, err := currentMembers(ctx, cfg, ec.PeerTLSInfo)
		ec.InitialCluster = initialCluster(members)
		return err
	}
	if first := before(cfg.Role.InitialCluster, cfg.Host.ID); first != "" {
		return awaitTurn(ctx, first, ec.PeerTLSInfo, cfg.Log)
	}
	return nil
}

// marker is a file beside etcd's directory that says that the directory held data.
func marker(dir string) string { return strings.TrimSuffix(dir, "/") + ".started" }

// checkData prepares the directory and reports whether it holds a member's data. It refuses one whose data was there and
// is not.
func checkData(dir string) (known bool, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return false, err
	}
	logs, err := filepath.Glob(filepath.Join(dir, "member", "wal", "*.wal"))
	if err != nil || len(logs) > 0 {
		return len(logs) > 0, err
	}
	_, err = os.Stat(marker(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return false, fmt.Errorf("%w: %s is empty and was not; replace the host", ErrDataLost, dir)
}

// HasData reports whether a member's data is in a directory.
func HasData(dir string) bool {
	logs, _ := filepath.Glob(filepath.Join(dir, "member", "wal", "*.wal"))
	return len(logs) > 0
}

// Remove removes the data of a member that is no more, and the memory of it. It may be repeated. Whoever calls it has made
// sure that the host will not start as the member that it was.
func Remove(dir string) error {
	for _, path := range []string{dir, marker(dir)} {
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("cannot remove the data of etcd: %w", err)
		}
	}
	return nil
}

// WaitReady returns when the server has joined the others, knows a leader and serves clients.
func (v *Voter) WaitReady(ctx context.Context) error {
	select {
	case <-v.etcd.Server.ReadyNotify():
		return nil
	case <-v.etcd.Server.StopNotify():
		return ErrStopped
	case err := <-v.etcd.Err():
		return errors.Join(ErrStopped, err)
	case <-ctx.Done():
		return fmt.Errorf("cannot wait for etcd: %w", ctx.Err())
	}
}

// Done is closed when the server has stopped, by Close or by itself.
func (v *Voter) Done() <-chan struct{} { return v.etcd.Server.StopNotify() }

// MemberID is etcd's ID of this member.
func (v *Voter) MemberID() uint64 { return uint64(v.etcd.Server.MemberID()) }

// Leads reports whether this member is etcd's leader.
func (v *Voter) Leads() bool { return v.etcd.Server.Leader() == v.etcd.Server.MemberID() }

// Close gives the leadership away, ends clients' streams and stops. It returns when everything is on disk.
func (v *Voter) Close() {
	v.once.Do(func() {
		v.giveAway()
		v.end()
		v.wg.Wait()
		closed, stopped := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(stopped)
			v.hardStop(closed)
		}()
		v.etcd.Close()
		close(closed)
		<-stopped
	})
}

// giveAway passes the leadership on while everything still runs, so that writes hardly wait. etcd does that only after its
// clients have hung up, which may take longer than the leadership lasts. It fails when all voters stop at once.
func (v *Voter) giveAway() {
	done := make(chan struct{})
	go func() { // ends with the server at the latest
		defer close(done)
		_ = v.etcd.Server.TryTransferLeadershipOnShutdown() // Close tries again, and tells
	}()
	patience := time.NewTimer(transferTimeout)
	defer patience.Stop()
	select {
	case <-done:
	case <-patience.C:
	}
}

// hardStop ends an attempt to give the leadership away that takes too long, as when all voters stop at once.
func (v *Voter) hardStop(closed <-chan struct{}) {
	patience := time.NewTimer(transferTimeout)
	defer patience.Stop()
	select {
	case <-patience.C:
		v.etcd.Server.HardStop()
	case <-closed:
	}
}

// endWith ends streams (watches, keep-alives) when ctx does. Without it etcd would wait for its clients to hang up, up
// to 5 s and two elections.
func endWith(ctx context.Context) grpc.StreamServerInterceptor {
	return func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		ending, cancel := context.WithCancel(stream.Context())
		defer cancel()
		defer context.AfterFunc(ctx, cancel)()
		return handler(srv, &endingStream{ServerStream: stream, ctx: ending})
	}
}

// endingStream is a stream under another context.
type endingStream struct {
	grpc.ServerStream
	ctx context.Context
}

// Context implements grpc.ServerStream.
func (s *endingStream) Context() context.Context { return s.ctx }

// RecvMsg implements grpc.ServerStream. A message that comes after the end must not reach a server that may have closed
// its database.
func (s *endingStream) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	return s.ctx.Err()
}
