package join

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

// ServeConn serves one join request on a connection that this side dialled to a waiting host, then closes it. config is
// a TLS server's (pki.ServerConfig) whose certificate has ServerName; handler is what Handler returns.
//
// It returns ErrNotWaiting when the host does not begin to speak within a second; nil when the host was answered with
// 200; the refusal when it was refused. Whether the answer arrived cannot be known for certain: a host whose answer was
// lost waits again.
func ServeConn(ctx context.Context, conn net.Conn, config *tls.Config, handler http.Handler) error {
	defer func() { _ = conn.Close() }()
	defer interruptible(ctx, conn)()
	first, err := firstByte(ctx, conn)
	if err != nil {
		return err
	}
	setDeadline(ctx, conn, exchangeTimeout)
	secure := tls.Server(&prefixed{Conn: conn, prefix: first}, config)
	if err := handshake(ctx, secure); err != nil {
		return fmt.Errorf("cannot serve join: %w", err)
	}
	if err := serveOne(ctx, secure, handler); err != nil {
		return fmt.Errorf("cannot serve join: %w", err)
	}
	return nil
}

func firstByte(ctx context.Context, conn net.Conn) ([]byte, error) {
	setDeadline(ctx, conn, firstByteTimeout)
	first := make([]byte, 1)
	if _, err := io.ReadFull(conn, first); err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() == nil {
			return nil, ErrNotWaiting
		}
		return nil, fmt.Errorf("cannot serve join: %w", errors.Join(err, ctx.Err()))
	}
	return first, nil
}

// serveOne answers one HTTP/1.1 request. The host closes first, which tells that it has read the answer.
func serveOne(ctx context.Context, conn *tls.Conn, handler http.Handler) error {
	r, err := http.ReadRequest(bufio.NewReader(io.LimitReader(conn, maxHeader+maxRequest)))
	if err != nil {
		return err
	}
	state := conn.ConnectionState()
	r.RemoteAddr, r.TLS = conn.RemoteAddr().String(), &state
	w := &answer{header: http.Header{}}
	if r.URL.Path == Path {
		handler.ServeHTTP(w, r.WithContext(ctx))
	} else {
		respond(w, http.StatusNotFound, wireError{Message: "only " + Path + " is served here"})
	}
	if err := w.writeTo(conn, r); err != nil {
		return err
	}
	if err := conn.CloseWrite(); err != nil {
		return err
	}
	if w.status != http.StatusOK {
		return decodeRefusal(w.status, bytes.NewReader(w.body.Bytes()))
	}
	_, err = conn.Read(make([]byte, 1))
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// answer is a ResponseWriter that keeps the answer until it is complete.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *answer) Header() http.Header { return a.header }

func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}

func (a *answer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(p)
}

func (a *answer) writeTo(w io.Writer, r *http.Request) error {
	a.WriteHeader(http.StatusOK)
	resp := http.Response{
		StatusCode: a.status, ProtoMajor: 1, ProtoMinor: 1, Request: r, Header: a.header, Close: true,
		Body: io.NopCloser(bytes.NewReader(a.body.Bytes())), ContentLength: int64(a.body.Len()),
	}
	buffered := bufio.NewWriter(w)
	if err := resp.Write(buffered); err != nil {
		return err
	}
	return buffered.Flush()
}

// prefixed gives back bytes that were read ahead.
type prefixed struct {
	net.Conn
	prefix []byte
}

func (p *prefixed) Read(b []byte) (int, error) {
	if len(p.prefix) > 0 {
		n := copy(b, p.prefix)
		p.prefix = p.prefix[n:]
		return n, nil
	}
	return p.Conn.Read(b)
}

// past is a deadline that interrupts what waits.
var past = time.Unix(1, 0)

// interruptible makes ctx's end interrupt reads and writes of conn, until the function returned is called.
func interruptible(ctx context.Context, conn net.Conn) (release func()) {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(past) })
	return func() { stop() }
}

// setDeadline sets conn's deadline unless ctx has ended.
func setDeadline(ctx context.Context, conn net.Conn, d time.Duration) {
	_ = conn.SetDeadline(time.Now().Add(d))
	if ctx.Err() != nil {
		_ = conn.SetDeadline(past)
	}
}

func handshake(ctx context.Context, conn *tls.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	return conn.HandshakeContext(ctx)
}
