package store

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/musterhq/muster/cluster/pki"
	"github.com/musterhq/muster/cluster/roster"
)

// lineVoter is a voter that knows nothing but lines, and those only if protocol says so. says is what it answers to a sign
// of life: nothing for nil, and it hangs up for what is empty.
func lineVoter(t *testing.T, protocol string, says func(lease uint64, sign byte) []byte) *Etcd {
	t.Helper()
	const id = "6f4f0a3e-91c1-4a65-9d0c-0b52f0a7a001"
	root, err := pki.NewRoot(id, "demo", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := root.NewIssuer(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	chain, err := issuer.SignHost(&key.PublicKey, roster.Host{
		ID: "00000000000000000000000000000001", Name: "a", Generation: 1, Provider: "p", Address: "127.0.0.1",
		Ports: roster.Ports{API: 7400, Client: 7401, Peer: 7402}, Voter: true,
	}, id, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	source, err := pki.NewStaticSource(pki.Pair{CertPEM: chain, KeyPEM: pki.EncodeKey(key)})
	if err != nil {
		t.Fatal(err)
	}
	config := pki.ServerConfig(root.Cert, source, tls.NoClientCert)
	config.NextProtos = []string{protocol}
	l, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go serveLine(conn.(*tls.Conn), says)
		}
	}()
	s := &Etcd{
		cfg: EtcdConfig{TLS: pki.ClientConfig(root.Cert, nil, pki.VoterName)}, ctx: t.Context(), log: slog.New(slog.DiscardHandler),
		endpoints: []string{"https://" + l.Addr().String()},
	}
	t.Cleanup(s.wg.Wait)
	return s
}

func serveLine(conn *tls.Conn, says func(lease uint64, sign byte) []byte) {
	defer func() { _ = conn.Close() }()
	var hello [8]byte
	var sign [1]byte
	if _, err := io.ReadFull(conn, hello[:]); err != nil {
		return
	}
	answer := []byte{LineOpen}
	for {
		if _, err := conn.Write(answer); err != nil {
			return
		}
		if _, err := io.ReadFull(conn, sign[:]); err != nil {
			return
		}
		answer = says(binary.BigEndian.Uint64(hello[:]), sign[0])
		if answer != nil && len(answer) == 0 {
			return
		}
	}
}

// TestLifeline opens a line after some signs of life were given without, and goes by what the voter says on it.
func TestLifeline(t *testing.T) {
	const lease = 0x123456789abcdef
	honest := func(says byte) func(uint64, byte) []byte {
		return func(is uint64, sign byte) []byte {
			if is != lease {
				return []byte{sign, LineAsk}
			}
			return []byte{sign, says}
		}
	}
	for _, c := range []struct {
		name     string
		protocol string
		says     func(lease uint64, sign byte) []byte
		patience time.Duration
		opens    bool
		renewed  bool
		err      error
		goesOn   bool // the line
	}{
		{name: "renewed", protocol: LineProtocol, says: honest(LineRenewed), patience: time.Minute, opens: true, renewed: true, goesOn: true},
		{name: "over gRPC this time", protocol: LineProtocol, says: honest(LineAsk), patience: time.Minute, opens: true, goesOn: true},
		{name: "another sign's answer", protocol: LineProtocol, patience: time.Minute, opens: true, says: func(_ uint64, sign byte) []byte {
			return []byte{sign + 1, LineRenewed}
		}},
		{name: "hung up", protocol: LineProtocol, patience: time.Minute, opens: true, says: func(uint64, byte) []byte { return []byte{} }},
		{name: "silent", protocol: LineProtocol, patience: time.Millisecond, opens: true, err: errSilent, says: func(uint64, byte) []byte { return nil }},
		{name: "knows no lines", protocol: "h2", says: honest(LineRenewed)},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := lineVoter(t, c.protocol, c.says)
			m, err := s.open(s.endpoints[0])
			if err != nil {
				t.Fatal(err)
			}
			defer m.close()
			l := &lifeline{lease: lease}
			defer l.hangUp()
			if n := signsUntilOpening(t, l, s, m); n < lineAfter || n > 2*lineAfter {
				t.Errorf("a line is asked for after %d signs of life", n)
			}
			opened := <-l.opened
			if l.opened <- opened; (opened != nil) != c.opens {
				t.Fatalf("that a line is opened is %v", opened != nil)
			}
			renewed, err := l.renew(t.Context(), m, c.patience)
			if renewed != c.renewed || !errors.Is(err, c.err) {
				t.Errorf("a sign of life: %v, %v", renewed, err)
			}
			if l.ready() != c.goesOn {
				t.Errorf("that the line goes on is %v", l.ready())
			}
			if !c.goesOn && l.left != lineRetry {
				t.Errorf("the next line is asked for after %d signs of life", l.left)
			}
		})
	}
}

func signsUntilOpening(t *testing.T, l *lifeline, s *Etcd, m *member) (n int) {
	for l.opened == nil && n <= 2*lineAfter {
		if renewed, err := l.renew(t.Context(), m, time.Minute); renewed || err != nil {
			t.Fatalf("a sign of life without a line: %v, %v", renewed, err)
		}
		l.beside(t.Context(), s)
		n++
	}
	return n
}

// TestLifelineEnds with what waits for it, and with the member that it leads to.
func TestLifelineEnds(t *testing.T) {
	for _, leaves := range []bool{false, true} {
		s := lineVoter(t, LineProtocol, func(uint64, byte) []byte { return nil })
		m, err := s.open(s.endpoints[0])
		if err != nil {
			t.Fatal(err)
		}
		defer m.close()
		l := &lifeline{}
		defer l.hangUp()
		signsUntilOpening(t, l, s, m)
		l.conn, l.opened = <-l.opened, nil
		ctx, end := context.WithCancel(t.Context())
		defer end()
		ends := end
		if leaves {
			ends = m.close
		}
		time.AfterFunc(time.Millisecond, ends)
		renewed, err := l.renew(ctx, m, time.Hour)
		if renewed || l.ready() || errors.Is(err, context.Canceled) == leaves {
			t.Errorf("that the member is left is %v: %v, %v", leaves, renewed, err)
		}
	}
}
