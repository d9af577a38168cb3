package voter

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/embed"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/store"
)

// Figures of lines.
const (
	lineLag     = store.Beat / 2 // after the moments at which hosts give signs of life; they wait as long for each other
	lineHello   = 2 * time.Second
	linesOfHost = 4   // at once: sessions, and those of before
	lineEvents  = 256 // taken from the kernel at once
)

// lines are connections on which hosts only give signs of life (store.LineProtocol). They are looked at ten times a second,
// all together, and not when something comes: to be woken, which takes several threads of the process, is most of what a
// sign of life costs otherwise. So one goroutine reads them all, has the leader renew their leases in one message, and
// answers; the kernel tells it which there are to read (epoll), and tells Go's runtime nothing.
//
// A line is bound to one lease, of which its host had to show that it may keep it alive when it was opened (gate). Whose
// access is recorded no more is told to ask over gRPC, and so is everybody whose lease was not renewed.
type lines struct {
	gate  *gate
	relay *relay
	log   *slog.Logger
	ctx   context.Context // of run
	news  chan struct{}   // has one when there may be a first line

	mu     sync.Mutex
	epoll  int                 // its descriptor; -1 when run has ended
	open   map[int32]*hostLine // by descriptor
	toHost map[string]int      // how many
}

// hostLine is one of them. What does not name a lock is the goroutine's that reads.
type hostLine struct {
	host   string // its ID
	lease  int64
	conn   *tls.Conn
	socket *lineSocket
	left   int  // signs of life until its access is looked at again
	sign   byte // the last, to be answered
}

func newLines(ctx context.Context, g *gate, r *relay, log *slog.Logger) (*lines, error) {
	epoll, err := openEpoll()
	if err != nil {
		return nil, fmt.Errorf("cannot wait for hosts' signs of life: %w", err)
	}
	return &lines{
		gate: g, relay: r, log: log, ctx: ctx, news: make(chan struct{}, 1), epoll: epoll,
		open: map[int32]*hostLine{}, toHost: map[string]int{},
	}, nil
}

// lineCredentials are those of a gRPC server, which gets all connections but lines.
type lineCredentials struct {
	credentials.TransportCredentials
	lines *lines
}

// newLineCredentials makes credentials of etcd's configuration for its clients.
func newLineCredentials(config *tls.Config, l *lines) *lineCredentials {
	config = config.Clone()
	config.NextProtos = []string{"h2", store.LineProtocol}
	return &lineCredentials{TransportCredentials: credentials.NewTLS(config), lines: l}
}

// ServerHandshake implements credentials.TransportCredentials.
func (c *lineCredentials) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	socket := &lineSocket{Conn: raw, fd: -1}
	conn, auth, err := c.TransportCredentials.ServerHandshake(socket)
	if err != nil {
		return nil, nil, err
	}
	line, isTLS := conn.(*tls.Conn)
	if info, ok := auth.(credentials.TLSInfo); !ok || !isTLS || info.State.NegotiatedProtocol != store.LineProtocol {
		return conn, auth, nil
	}
	if err := c.lines.take(line, socket); err != nil {
		c.lines.log.Debug("a host has to give its signs of life over gRPC", "err", err)
		_ = conn.Close()
	}
	return nil, nil, credentials.ErrConnDispatched
}

// take opens a line that a host has asked for.
func (l *lines) take(conn *tls.Conn, socket *lineSocket) error {
	if err := socket.SetDeadline(time.Now().Add(lineHello)); err != nil {
		return err
	}
	var hello [8]byte
	if _, err := io.ReadFull(conn, hello[:]); err != nil {
		return err
	}
	h := &hostLine{lease: int64(binary.BigEndian.Uint64(hello[:])), conn: conn, socket: socket, left: relayAtMost}
	if h.host = commonName(conn.ConnectionState()); !roster.ValidID(h.host) {
		return fmt.Errorf("%q is not a host's ID", h.host)
	}
	ctx, cancel := context.WithTimeout(l.ctx, lineHello)
	defer cancel()
	known, err := l.gate.known(ctx, h.host)
	if err == nil && !known {
		err = errDenied
	}
	if err == nil {
		err = l.gate.mayBind(ctx, h.host, h.lease)
	}
	if err != nil {
		return err
	}
	if err := l.admit(h.host); err != nil {
		return err
	}
	if _, err = conn.Write([]byte{store.LineOpen}); err == nil {
		err = socket.detach()
	}
	if err == nil {
		err = l.add(h)
	}
	if err != nil {
		l.forget(h.host)
	}
	return err
}

// admit counts a host's lines.
func (l *lines) admit(host string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.toHost[host] >= linesOfHost {
		return fmt.Errorf("host %s has %d lines already", host, linesOfHost)
	}
	l.toHost[host]++
	return nil
}

func (l *lines) forget(host string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.toHost[host]--; l.toHost[host] == 0 {
		delete(l.toHost, host)
	}
}

// add has the goroutine read a line from now on, whose it is then.
func (l *lines) add(h *hostLine) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.epoll < 0 {
		return errNotReady
	}
	fd := int32(h.socket.fd)
	if err := addToEpoll(l.epoll, h.socket.fd); err != nil {
		return err
	}
	l.open[fd] = h
	select {
	case l.news <- struct{}{}:
	default:
	}
	return nil
}

// drop ends a line.
func (l *lines) drop(h *hostLine) {
	l.mu.Lock()
	delete(l.open, int32(h.socket.fd))
	l.mu.Unlock()
	l.forget(h.host)
	_ = h.conn.Close()
}

// run reads and answers until ctx ends.
func (l *lines) run(ctx context.Context) {
	var leader relayLine
	defer leader.close()
	defer l.close()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var next <-chan time.Time
		if l.any() {
			timer.Reset(untilBeat(time.Now()))
			next = timer.C
		}
		select {
		case <-next:
			l.answer(ctx, &leader, l.read(ctx))
		case <-l.news:
		case <-ctx.Done():
			return
		}
	}
}

// untilBeat is how long it is until lines are looked at next.
func untilBeat(now time.Time) time.Duration {
	return now.Add(-lineLag).Truncate(store.Beat).Add(store.Beat + lineLag).Sub(now)
}

func (l *lines) any() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.open) > 0
}

func (l *lines) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, h := range l.open {
		_ = h.conn.Close()
	}
	_ = unix.Close(l.epoll)
	l.open, l.epoll = nil, -1
}

// read returns the lines with a sign of life.
func (l *lines) read(ctx context.Context) (signs []*hostLine) {
	var sockets [lineEvents]int32
	for {
		n, err := toRead(l.epoll, sockets[:])
		if err != nil { // EINTR: the next look is soon
			return signs
		}
		for _, fd := range sockets[:n] {
			l.mu.Lock()
			h := l.open[fd]
			l.mu.Unlock()
			signed, err := h.receive()
			if err == nil && signed {
				err = l.check(ctx, h)
			}
			switch {
			case err != nil:
				l.drop(h)
			case signed:
				signs = append(signs, h)
			}
		}
		if n < len(sockets) {
			return signs
		}
	}
}

// check looks now and then whether a host still has access.
func (l *lines) check(ctx context.Context, h *hostLine) error {
	if h.left--; h.left > 0 {
		return nil
	}
	h.left = relayAtMost
	version, err := l.gate.recorded(ctx, h.host)
	if err == nil && version != accessVersion {
		err = errDenied
	}
	return err
}

// answer has leases renewed and tells their hosts.
func (l *lines) answer(ctx context.Context, leader *relayLine, signs []*hostLine) {
	if len(signs) == 0 {
		return
	}
	asked := make([]*pb.LeaseStatus, len(signs))
	for i, h := range signs {
		asked[i] = &pb.LeaseStatus{ID: h.lease}
	}
	lives := map[int64]bool{}
	renewed, err := l.renew(ctx, leader, asked)
	if err != nil {
		l.log.Debug("hosts have to give their signs of life over gRPC", "hosts", len(signs), "err", err)
	}
	for _, lease := range renewed.GetLeases() {
		lives[lease.ID] = true
	}
	for _, h := range signs {
		says := store.LineAsk
		if lives[h.lease] {
			says = store.LineRenewed
		}
		if _, err := h.conn.Write([]byte{h.sign, says}); err != nil {
			l.drop(h)
		}
	}
}

// renew returns those of the leases that the leader has renewed.
func (l *lines) renew(ctx context.Context, leader *relayLine, asked []*pb.LeaseStatus) (*pb.LeaseLeasesResponse, error) {
	server := l.relay.server.Load()
	if server == nil {
		return nil, errNotReady
	}
	if server.Leader() == server.MemberID() {
		ctx, cancel := context.WithTimeout(as(ctx, rootName), relayPatience)
		defer cancel()
		return renewHere(ctx, server, asked)
	}
	if err := leader.open(ctx, l.relay.leader(), l.relay.tls); err != nil {
		return nil, err
	}
	return leader.ask(asked)
}

// receive reads what has come.
func (h *hostLine) receive() (signed bool, err error) {
	var buffer [64]byte
	for {
		n, err := h.conn.Read(buffer[:])
		if n > 0 {
			h.sign, signed = buffer[n-1], true
		}
		switch {
		case errors.Is(err, errDrained):
			return signed, nil
		case err != nil:
			return false, err
		}
	}
}

// addLines has a server's client port know lines.
func addLines(ctx context.Context, ec *embed.Config, g *gate, r *relay, log *slog.Logger) (*lines, error) {
	info := ec.ClientTLSInfo
	info.MinVersion = tls.VersionTLS13
	config, err := info.ServerConfig()
	if err != nil {
		return nil, err
	}
	l, err := newLines(ctx, g, r, log)
	if err == nil {
		ec.GRPCAdditionalServerOptions = append(ec.GRPCAdditionalServerOptions, grpc.Creds(newLineCredentials(config, l)))
	}
	return l, err
}
