package join

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"golang.org/x/sync/errgroup"

	"github.com/musterhq/muster/cluster/membership"
	"github.com/musterhq/muster/cluster/pki"
	"github.com/musterhq/muster/cluster/roster"
)

// maxWaiting bounds how many peers that dialled a waiting host are spoken to at once.
const maxWaiting = 16

// Run joins the cluster, however long it takes, and returns the reply, checked (Reply.Check). With Endpoints in the
// configuration it dials them in turn, from the listener's address, so that the voter sees where the host listens;
// without, it waits on the listener to be dialled. The listener must have SetDeadline; it is left open and ready for
// further use.
//
// A refusal for good (ErrToken*, ErrBadRequest) ends it; peers that are away, foreign, silent or talk nonsense do not. A
// process that joins again after a crash passes the same key.
func Run(
	ctx context.Context, cfg Config, key *ecdsa.PrivateKey, facts roster.Facts, listener net.Listener, log *slog.Logger,
) (Reply, error) {
	c, err := newClient(cfg, key, facts)
	if err != nil {
		return Reply{}, fmt.Errorf("cannot join: %w", err)
	}
	var reply Reply
	if membership.NextHostStep(membership.HostView{Endpoints: len(cfg.Endpoints) > 0}) == membership.Join {
		reply, err = c.dial(ctx, cfg.Endpoints, listener.Addr(), log)
	} else {
		reply, err = c.wait(ctx, listener, log)
	}
	if err != nil {
		return Reply{}, fmt.Errorf("cannot join: %w", err)
	}
	return reply, nil
}

// client asks for one host's admission. body is the same for every attempt.
type client struct {
	cfg  Config
	key  *ecdsa.PublicKey
	tls  *tls.Config
	body []byte
}

func newClient(cfg Config, key *ecdsa.PrivateKey, facts roster.Facts) (*client, error) {
	root, err := pki.ParseCert([]byte(cfg.CA))
	if err != nil {
		return nil, fmt.Errorf("cannot use the cluster's root certificate: %w", err)
	}
	csr, err := pki.NewCSR(key, cfg.HostID)
	if err != nil {
		return nil, err
	}
	req := Request{Host: cfg.Host, HostID: cfg.HostID, Token: cfg.Token, CSR: string(csr), Facts: facts}
	body, err := json.Marshal(req)
	if err != nil {
		return nil, fmt.Errorf("cannot render the request: %w", err)
	}
	config := pki.ClientConfig(root, nil, ServerName)
	config.NextProtos = []string{"http/1.1"}
	return &client{cfg: cfg, key: &key.PublicKey, tls: config, body: body}, nil
}

// dial asks the endpoints in turn, with a pause after each round.
func (c *client) dial(ctx context.Context, endpoints []string, local net.Addr, log *slog.Logger) (Reply, error) {
	dialer := net.Dialer{Timeout: handshakeTimeout, LocalAddr: sourceOf(local)}
	pause := newPause()
	for {
		for _, endpoint := range endpoints {
			reply, err := c.dialOne(ctx, dialer, endpoint)
			if err == nil || final(err) {
				return reply, err
			}
			if ctx.Err() != nil {
				return Reply{}, ctx.Err()
			}
			log.Warn("cannot join yet", "endpoint", endpoint, "error", err)
		}
		if err := rest(ctx, pause.NextBackOff()); err != nil {
			return Reply{}, err
		}
	}
}

func (c *client) dialOne(ctx context.Context, dialer net.Dialer, endpoint string) (Reply, error) {
	conn, err := dialer.DialContext(ctx, "tcp", endpoint)
	if err != nil {
		return Reply{}, err
	}
	return c.ask(ctx, conn)
}

// sourceOf is the address to dial from: the listener's own, if it has just one.
func sourceOf(listening net.Addr) net.Addr {
	tcp, ok := listening.(*net.TCPAddr)
	if !ok || tcp.IP == nil || tcp.IP.IsUnspecified() {
		return nil
	}
	return &net.TCPAddr{IP: tcp.IP, Zone: tcp.Zone}
}

// ask makes the request on a connection, whoever opened it, and closes it.
func (c *client) ask(ctx context.Context, conn net.Conn) (Reply, error) {
	defer func() { _ = conn.Close() }()
	defer interruptible(ctx, conn)()
	setDeadline(ctx, conn, exchangeTimeout)
	secure := tls.Client(conn, c.tls)
	if err := handshake(ctx, secure); err != nil {
		return Reply{}, fmt.Errorf("cannot verify the peer: %w", err)
	}
	reply, err := c.exchange(ctx, secure)
	if err != nil {
		return Reply{}, err
	}
	if err := reply.Check(c.cfg, c.key, time.Now()); err != nil {
		return Reply{}, err
	}
	_ = secure.Close() // tells the peer that the answer has arrived
	return reply, nil
}

func (c *client) exchange(ctx context.Context, conn net.Conn) (Reply, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+ServerName+Path, bytes.NewReader(c.body))
	if err != nil {
		return Reply{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Connection", "close")
	if err := req.Write(conn); err != nil {
		return Reply{}, fmt.Errorf("cannot send the request: %w", err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(io.LimitReader(conn, maxHeader+maxReply)), req)
	if err != nil {
		return Reply{}, fmt.Errorf("cannot read the answer: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	return decodeReply(resp.StatusCode, resp.Body)
}

// deadliner is what the listener must be able to do, so that waiting can end without closing it.
type deadliner interface{ SetDeadline(time.Time) error }

// outcome is the first reply or refusal for good among several peers.
type outcome struct {
	once  sync.Once
	reply Reply
	err   error
}

// wait speaks to every peer that dials until one answers for good.
func (c *client) wait(ctx context.Context, listener net.Listener, log *slog.Logger) (Reply, error) {
	limited, ok := listener.(deadliner)
	if !ok {
		return Reply{}, fmt.Errorf("cannot wait on a %T: it has no deadline", listener)
	}
	waiting, done := context.WithCancel(ctx)
	defer done()
	var result outcome
	settle := func(reply Reply, err error) {
		result.once.Do(func() { result.reply, result.err = reply, err })
		done()
	}
	var g errgroup.Group
	g.Go(func() error {
		<-waiting.Done()
		return limited.SetDeadline(past)
	})
	c.accept(waiting, listener, settle, log)
	interrupted := g.Wait()
	if err := errors.Join(interrupted, limited.SetDeadline(time.Time{})); err != nil {
		return Reply{}, fmt.Errorf("cannot give the listener back: %w", err)
	}
	settle(Reply{}, ctx.Err()) // unless a peer did
	return result.reply, result.err
}

// accept returns when ctx ends and every peer has been left.
func (c *client) accept(ctx context.Context, listener net.Listener, settle func(Reply, error), log *slog.Logger) {
	var peers errgroup.Group
	peers.SetLimit(maxWaiting)
	defer func() { _ = peers.Wait() }()
	pause := newPause()
	for ctx.Err() == nil {
		conn, err := listener.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				settle(Reply{}, err)
			} else if ctx.Err() == nil {
				log.Warn("cannot accept a connection", "error", err)
				_ = rest(ctx, pause.NextBackOff())
			}
			continue
		}
		peers.Go(func() error {
			reply, err := c.ask(ctx, conn)
			if err == nil || final(err) {
				settle(reply, err)
			} else if ctx.Err() == nil {
				log.Warn("was dialled and could not join", "remote", conn.RemoteAddr().String(), "error", err)
			}
			return nil
		})
	}
}

// newPause grows from 100 ms to 5 s, half of it random.
func newPause() *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval = 100*time.Millisecond, 5*time.Second
	return b
}

// rest lets d pass, or less when ctx ends.
func rest(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
