package libvirt

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"
	"github.com/digitalocean/go-libvirt/socket/dialers"

	"github.com/musterhq/muster/providers"
)

// client is one connection to the daemon, used by one call to the provider.
type client struct {
	*golibvirt.Libvirt
}

// session opens a connection, does something with it and closes it. The end of ctx closes it too, which ends every call
// that is under way: go-libvirt's calls know no context.
func (p *Provider) session(ctx context.Context, do func(context.Context, *client) error) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	conn, err := p.dial(ctx)
	if err != nil {
		return dialError(ctx, p.at, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	c := &client{golibvirt.NewWithDialer(dialers.NewAlreadyConnected(newFrames(conn)))}
	if err := c.ConnectToURI(golibvirt.QEMUSystem); err != nil {
		return sessionError(ctx, fmt.Errorf("cannot open %s: %w", golibvirt.QEMUSystem, err))
	}
	defer func() {
		_ = conn.Close()
		<-c.Disconnected()
	}()
	return sessionError(ctx, do(ctx, c))
}

// sessionError is what a session answers: why ctx ended, when that is why its calls failed.
func sessionError(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && err != nil {
		return cause
	}
	if says(err, "authentication", "Authentication") {
		return fmt.Errorf("%w: %w", err, providers.ErrAuth)
	}
	return classified(err)
}

// dial connects to where the URI says.
func (p *Provider) dial(ctx context.Context) (net.Conn, error) {
	switch p.at.transport {
	case overTLS:
		options := []dialers.TLSOption{dialers.UseTLSPort(cmp.Or(p.at.port, "16514"))}
		if p.config.TLS.Dir != "" {
			options = append(options, dialers.UsePKIPath(p.config.TLS.Dir))
		}
		return dialAbandonable(ctx, dialers.NewTLS(p.at.host, options...))
	case overSSH:
		return p.dialSSH(ctx)
	default:
		return dialAbandonable(ctx, dialers.NewLocal(dialers.WithSocket(p.socket()), dialers.WithLocalTimeout(dialTimeout)))
	}
}

// dialTimeout is how long one try to connect may take.
const dialTimeout = 20 * time.Second

// standardSocket is where the system daemon listens.
const standardSocket = "/var/run/libvirt/libvirt-sock"

func (p *Provider) socket() string { return cmp.Or(p.at.socket, standardSocket) }

// dialAbandonable dials with a dialer that knows no context. When ctx ends first, the dialer goes on until its own
// timeout at most and what it gets is closed.
func dialAbandonable(ctx context.Context, dialer interface{ Dial() (net.Conn, error) }) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	dialled := make(chan result, 1)
	go func() {
		conn, err := dialer.Dial()
		dialled <- result{conn, err}
	}()
	select {
	case r := <-dialled:
		return r.conn, r.err
	case <-ctx.Done():
		go func() {
			if r := <-dialled; r.conn != nil {
				_ = r.conn.Close()
			}
		}()
		return nil, context.Cause(ctx)
	}
}

// isTLSRefusal tells whether a connection failed because one side does not trust the other's certificate.
func isTLSRefusal(err error) bool {
	var verification *tls.CertificateVerificationError
	var unknown x509.UnknownAuthorityError
	var hostname x509.HostnameError
	var alert tls.AlertError
	return errors.As(err, &verification) || errors.As(err, &unknown) || errors.As(err, &hostname) || errors.As(err, &alert) ||
		strings.Contains(err.Error(), "server verification (of our certificate")
}

// absorb takes what a stream brings. It never fails, since go-libvirt would wait forever for a writer that does: after
// an error of the function behind it the rest is dropped.
type absorb struct {
	write func([]byte) error
	err   error
}

func (a *absorb) Write(data []byte) (int, error) {
	if a.err == nil {
		a.err = a.write(data)
	}
	return len(data), nil
}
