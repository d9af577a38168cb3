package deliver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
	"unicode"

	"golang.org/x/crypto/ssh"
)

// Bounds of a conversation with a host.
const (
	dialTimeout = 10 * time.Second
	silence     = time.Minute // a host that says and takes nothing for so long is left
	maxAnswer   = 2 << 10     // bytes of what a command prints that are kept
)

// remote is a host that one is logged in to.
type remote struct {
	raw    net.Conn
	client *ssh.Client
	stop   func() bool
	sudo   bool
}

// dial logs in to a host that has a key of one of the kinds.
func dial(ctx context.Context, l *login, address string, kinds []string, console []ssh.PublicKey) (*remote, error) {
	raw, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	r := &remote{raw: raw, stop: context.AfterFunc(ctx, func() { _ = raw.Close() })}
	r.extend()
	conn, channels, requests, err := ssh.NewClientConn(raw, address, &ssh.ClientConfig{
		User: l.User, HostKeyCallback: l.keys.callback(console), HostKeyAlgorithms: kinds,
		Auth: []ssh.AuthMethod{ssh.PublicKeys(l.signers...)},
	})
	if err != nil {
		r.stop()
		_ = raw.Close()
		return nil, err
	}
	r.client = ssh.NewClient(conn, channels, requests)
	id, err := r.output("id -u", nil)
	if err != nil {
		r.close()
		return nil, err
	}
	r.sudo = id != "0"
	return r, nil
}

func (r *remote) close() {
	r.stop()
	_ = r.client.Close()
}

// extend gives the host time for the next answer.
func (r *remote) extend() { _ = r.raw.SetDeadline(time.Now().Add(silence)) }

// root runs a script as root. It has no single quotes, so that any login shell passes it on as it is.
func (r *remote) root(script string, input io.Reader) (string, error) {
	command := "sh -c '" + script + "'"
	if r.sudo {
		command = "sudo -n " + command
	}
	return r.output(command, input)
}

// output runs a command and returns what it prints, without the last line's end.
func (r *remote) output(command string, input io.Reader) (string, error) {
	r.extend()
	session, err := r.client.NewSession()
	if err != nil {
		return "", err
	}
	defer session.Close()
	var out, complaint bounded
	session.Stdout, session.Stderr = &out, &complaint
	if input != nil {
		session.Stdin = &lively{Reader: input, extend: r.extend}
	}
	err = session.Run(command)
	var exit *ssh.ExitError
	if errors.As(err, &exit) {
		return "", &remoteError{Status: exit.ExitStatus(), Text: printable(complaint.String())}
	}
	return out.String(), err
}

// remoteError is a command that ended badly on the host.
type remoteError struct {
	Status int
	Text   string
}

func (e *remoteError) Error() string {
	if e.Text == "" {
		return "it ended with status " + strconv.Itoa(e.Status)
	}
	return e.Text
}

// bounded keeps the beginning of what is written to it.
type bounded struct{ kept []byte }

func (b *bounded) Write(p []byte) (int, error) {
	b.kept = append(b.kept, p[:min(len(p), maxAnswer-len(b.kept))]...)
	return len(p), nil
}

func (b *bounded) String() string { return strings.TrimSpace(string(b.kept)) }

// printable is for an operator's terminal: a host may say anything.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
}

// lively extends the host's time whenever it takes something.
type lively struct {
	io.Reader
	extend func()
}

func (l *lively) Read(p []byte) (int, error) {
	l.extend()
	return l.Reader.Read(p)
}

// refusedLogin reports whether a host knows none of the keys.
func refusedLogin(err error) bool {
	return err != nil && strings.Contains(err.Error(), "unable to authenticate")
}

// noCommonKind reports whether a host has no key of the kinds that were asked for.
func noCommonKind(err error) bool {
	var negotiation *ssh.AlgorithmNegotiationError
	return errors.As(err, &negotiation) && strings.Contains(err.Error(), "host key")
}

var errNoKind = errors.New("it has no SSH key of the kinds that are known of it; nothing was sent")

func asNoKind(err error) error { return fmt.Errorf("%w: %w", errNoKind, err) }
