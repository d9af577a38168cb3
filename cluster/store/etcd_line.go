package store

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"time"
)

// LineProtocol is what a host asks a voter's client port for, by ALPN, to have a line: a connection on which it only gives
// signs of life for one session. A gRPC stream takes the voter several times the work (voter.lines), and a voter that knows
// no lines refuses the handshake. Each message is read at once:
//
//	host: the lease's ID, 8 bytes, big endian     voter: LineOpen, 1 byte
//	host: any byte, a sign of life                voter: the same byte, and LineRenewed or LineAsk
//
// LineAsk says that the session is to be kept alive over gRPC this time, where etcd itself says why it cannot be.
const LineProtocol = "muster-line/1"

// What a voter says on a line.
const (
	LineOpen    byte = 1
	LineRenewed byte = 1
	LineAsk     byte = 0
)

const (
	// lineAfter is how many signs of life are given over gRPC at least before a line is opened. When a voter has failed, its
	// hosts turn to another at the same time, and shake hands with it: this spreads the second time.
	lineAfter = 3
	lineRetry = 200 // signs of life until a line is asked for again that was refused
)

// lifeline is a session's line to the member in use, as far as there is one. One goroutine uses it.
type lifeline struct {
	lease  int64
	member *member // that the rest is about
	left   int     // signs of life until one is opened
	opened chan net.Conn
	end    context.CancelFunc // of the one that is open, or being opened; nil without
	conn   net.Conn           // nil unless it is open
	last   byte               // sign of life
}

var errSilent = fmt.Errorf("%w: no answer to a sign of life", ErrUnavailable)

// renew gives a sign of life to a member. It returns false if that is left to gRPC, and errSilent if the member does not
// answer.
func (l *lifeline) renew(ctx context.Context, m *member, patience time.Duration) (renewed bool, err error) {
	l.turn(m)
	if !l.ready() {
		return false, nil
	}
	conn := l.conn
	l.last++
	var answer [2]byte
	if err = conn.SetDeadline(time.Now().Add(patience)); err == nil {
		defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
		if _, err = conn.Write([]byte{l.last}); err == nil {
			_, err = io.ReadFull(conn, answer[:])
		}
	}
	switch {
	case err == nil && answer[0] == l.last:
		return answer[1] == LineRenewed, nil
	case ctx.Err() != nil:
		err = ctx.Err()
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = errSilent
	default: // the member may be well all the same
		err = nil
	}
	l.hangUp()
	return false, err
}

// turn forgets another member's line.
func (l *lifeline) turn(m *member) {
	if l.member == m {
		return
	}
	l.hangUp()
	l.member, l.left = m, lineAfter+rand.IntN(lineAfter)
}

// ready takes over a line that has been opened meanwhile, and reports whether there is one.
func (l *lifeline) ready() bool {
	if l.opened != nil {
		select {
		case l.conn = <-l.opened:
			l.opened = nil
			if l.conn == nil {
				l.hangUp()
			}
		default:
		}
	}
	return l.conn != nil
}

// beside opens a line, when it is time, while signs of life are given over gRPC.
func (l *lifeline) beside(ctx context.Context, s *Etcd) {
	if l.end != nil || s.cfg.TLS == nil {
		return
	}
	if l.left--; l.left > 0 {
		return
	}
	m, lease, opened := l.member, l.lease, make(chan net.Conn, 1)
	ctx, l.end = context.WithCancel(ctx)
	context.AfterFunc(m.client.Ctx(), l.end)
	l.opened = opened
	s.spawn(func() {
		conn, err := dialLine(ctx, m.endpoint, s.cfg.TLS, lease)
		if err != nil {
			s.log.Debug("sessions are kept alive over gRPC alone", "endpoint", m.endpoint, "err", err)
			opened <- nil
			return
		}
		context.AfterFunc(ctx, func() { _ = conn.Close() })
		opened <- conn
	})
}

// hangUp ends the line, or the attempt to open one. The next is not opened soon.
func (l *lifeline) hangUp() {
	if l.end != nil {
		l.end()
	}
	l.opened, l.end, l.conn, l.left = nil, nil, nil, lineRetry
}

// dialLine opens a line for a lease. It lives until it is closed.
func dialLine(ctx context.Context, endpoint string, config *tls.Config, lease int64) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	at, err := url.Parse(endpoint)
	if err != nil {
		return nil, err
	}
	config = config.Clone()
	config.NextProtos = []string{LineProtocol}
	conn, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", at.Host)
	if err != nil {
		return nil, err
	}
	until, _ := ctx.Deadline()
	var open [1]byte
	if err = conn.SetDeadline(until); err == nil {
		if _, err = conn.Write(binary.BigEndian.AppendUint64(nil, uint64(lease))); err == nil {
			_, err = io.ReadFull(conn, open[:])
		}
	}
	if err == nil && open[0] != LineOpen {
		err = errors.New("the line is refused")
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}
