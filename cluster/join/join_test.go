package join

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/cluster/pki"
	"github.com/musterhq/muster/cluster/roster"
)

func TestJoin(t *testing.T) {
	directions(t, func(t *testing.T, join func(*world, Config, *ecdsa.PrivateKey, *tls.Config) (Reply, error, error)) {
		w := newWorld(t)
		cfg, key := w.invite(time.Hour)
		reply, err, served := join(w, cfg, key, w.serverTLS())
		if err != nil || served != nil {
			t.Fatalf("Run: %v, ServeConn: %v", err, served)
		}
		if len(reply.Roster) != 1 || reply.Roster[0].Address != "127.0.0.1" || reply.Roster[0].Ports != roster.DefaultPorts() {
			t.Errorf("roster = %+v", reply.Roster)
		}
		again, err, _ := join(w, cfg, key, w.serverTLS())
		if err != nil {
			t.Fatalf("repeated with the same key: %v", err)
		}
		if err := again.Check(cfg, &key.PublicKey, time.Now()); err != nil {
			t.Error(err)
		}
	})
}

func TestRefusals(t *testing.T) {
	cases := map[string]struct {
		change func(w *world, cfg *Config, key *ecdsa.PrivateKey)
		want   error
	}{
		"wrong token": {func(_ *world, cfg *Config, _ *ecdsa.PrivateKey) { cfg.Token, _ = NewToken() }, ErrTokenUnknown},
		"expired token": {func(w *world, cfg *Config, _ *ecdsa.PrivateKey) {
			tok := w.tokens[HashToken(cfg.Token)]
			tok.Expires = time.Now()
			w.tokens[HashToken(cfg.Token)] = tok
		}, ErrTokenExpired},
		"token used with another key": {func(w *world, cfg *Config, _ *ecdsa.PrivateKey) {
			tok := w.tokens[HashToken(cfg.Token)]
			tok.UsedBy = strings.Repeat("0", 64)
			w.tokens[HashToken(cfg.Token)] = tok
		}, ErrTokenUsed},
		"token of another host": {func(_ *world, cfg *Config, _ *ecdsa.PrivateKey) {
			cfg.HostID = strings.Repeat("f", 32)
		}, ErrTokenHost},
		"token of another name": {func(_ *world, cfg *Config, _ *ecdsa.PrivateKey) { cfg.Host = "n2" }, ErrTokenHost},
		"no token":              {func(_ *world, cfg *Config, _ *ecdsa.PrivateKey) { cfg.Token = "" }, ErrBadRequest},
		"no host name":          {func(_ *world, cfg *Config, _ *ecdsa.PrivateKey) { cfg.Host = "voter" }, ErrBadRequest},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			directions(t, func(t *testing.T, join func(*world, Config, *ecdsa.PrivateKey, *tls.Config) (Reply, error, error)) {
				w := newWorld(t)
				cfg, key := w.invite(time.Hour)
				c.change(w, &cfg, key)
				_, err, served := join(w, cfg, key, w.serverTLS())
				if !errors.Is(err, c.want) {
					t.Errorf("Run: %v, want %v", err, c.want)
				}
				if served != nil && !errors.Is(served, c.want) {
					t.Errorf("ServeConn: %v, want %v", served, c.want)
				}
				if strings.Contains(err.Error(), cfg.Token) && cfg.Token != "" {
					t.Errorf("the error shows the token: %v", err)
				}
			})
		})
	}
}

// TestRetries has an admitter that cannot admit at first, and a dead and a foreign endpoint before it.
func TestRetries(t *testing.T) {
	for name, failure := range map[string]error{"not forming": ErrNotForming, "internal": errors.New("disk full")} {
		t.Run(name, func(t *testing.T) {
			w, foreign := newWorld(t), newWorld(t)
			cfg, key := w.invite(time.Hour)
			dead := listen(t)
			_ = dead.Close()
			w.fail = failure
			cfg.Endpoints = []string{dead.Addr().String(), foreign.voterAPI(foreign.serverTLS()), w.voterAPI(w.serverTLS())}
			log := slog.New(slog.NewTextHandler(writerFunc(func(p []byte) {
				if bytes.Contains(p, []byte(cfg.Endpoints[2])) {
					w.mu.Lock()
					w.fail = nil
					w.mu.Unlock()
				}
			}), nil))
			if _, err := Run(t.Context(), cfg, key, roster.Facts{}, listen(t), log); err != nil {
				t.Fatal(err)
			}
			if w.calls != 2 || foreign.calls != 0 {
				t.Errorf("admitter was called %d times, the foreign one %d times; want 2 and 0", w.calls, foreign.calls)
			}
		})
	}
}

type writerFunc func(p []byte)

func (f writerFunc) Write(p []byte) (int, error) { f(p); return len(p), nil }

// TestDialledByStrangers dials a waiting host with everything but the operator first: the host gives none of them its
// token and still joins.
func TestDialledByStrangers(t *testing.T) {
	w, foreign := newWorld(t), newWorld(t)
	cfg, key := w.invite(time.Hour)
	pub := &key.PublicKey
	h := roster.Host{ID: strings.Repeat("a", 32), Name: "other", Address: "127.0.0.1", Ports: roster.DefaultPorts()}
	chain, err := w.issuer.SignHost(pub, h, testCluster, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	member := pki.Pair{CertPEM: chain, KeyPEM: pki.EncodeKey(key)}
	h.Voter = true
	peer, err := w.issuer.MintPeer(h, testCluster, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	strangers := map[string]func(addr string) error{
		"foreign CA": func(addr string) error {
			return operate(t.Context(), addr, foreign.serverTLS(), Handler(foreign, quiet()))
		},
		"host that does not vote": func(addr string) error {
			return operate(t.Context(), addr, w.configOf(member), Handler(foreign, quiet()))
		},
		"etcd peer": func(addr string) error {
			return operate(t.Context(), addr, w.configOf(peer), Handler(foreign, quiet()))
		},
		"plain HTTP": func(addr string) error {
			return speak(addr, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		},
		"garbage": func(addr string) error { return speak(addr, strings.Repeat("\x16\x03\x01\xff", 1000)) },
		"silence": func(addr string) error { return speak(addr, "") },
		"wrong path": func(addr string) error {
			return operate(t.Context(), addr, w.serverTLS(), http.NotFoundHandler())
		},
		"endless answer": func(addr string) error {
			return operate(t.Context(), addr, w.serverTLS(), http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
				_, _ = rw.Write(bytes.Repeat([]byte(" "), maxReply+1))
			}))
		},
		"reply for another key": func(addr string) error {
			return operate(t.Context(), addr, w.serverTLS(), http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
				respond(rw, http.StatusOK, Reply{Certificate: string(chain)})
			}))
		},
	}
	l := listen(t)
	type result struct {
		reply Reply
		err   error
	}
	joined := make(chan result, 1)
	go func() {
		reply, err := Run(t.Context(), cfg, key, roster.Facts{}, l, quiet())
		joined <- result{reply, err}
	}()
	for name, stranger := range strangers {
		if err := stranger(l.Addr().String()); err == nil && name != "silence" && name != "reply for another key" && name != "endless answer" {
			t.Errorf("%s: no error", name)
		}
	}
	if foreign.calls != 0 {
		t.Error("the host sent its request to a stranger")
	}
	if err := operate(t.Context(), l.Addr().String(), w.serverTLS(), Handler(w, quiet())); err != nil {
		t.Fatal(err)
	}
	if got := <-joined; got.err != nil {
		t.Fatal(got.err)
	}
	// The listener is as good as new.
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	_ = accepted.Close()
}

// speak sends raw bytes, then closes.
func speak(addr, text string) error {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	_, _ = conn.Write([]byte(text))
	if text == "" {
		return nil
	}
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := conn.Read(make([]byte, 1<<16)); err != nil { // ClientHello
		return err
	}
	_, err = conn.Read(make([]byte, 1)) // the host's alert, or its end
	if err == nil {
		err = errors.New("refused with an alert")
	}
	return err
}

func TestNotWaiting(t *testing.T) {
	l := listen(t) // nobody accepts, as a TLS server that waits for a ClientHello
	w := newWorld(t)
	err := operate(t.Context(), l.Addr().String(), w.serverTLS(), Handler(w, quiet()))
	if !errors.Is(err, ErrNotWaiting) {
		t.Errorf("got %v, want ErrNotWaiting", err)
	}
}

func TestServeConnRefusesNonsense(t *testing.T) {
	w := newWorld(t)
	for name, text := range map[string]string{
		"garbage":       strings.Repeat("x", 100),
		"closed at one": "x",
	} {
		t.Run(name, func(t *testing.T) {
			here, there := net.Pipe()
			go func() {
				_, _ = there.Write([]byte(text))
				_ = there.Close()
			}()
			if err := ServeConn(t.Context(), here, w.serverTLS(), Handler(w, quiet())); err == nil {
				t.Error("no error")
			}
		})
	}
}

// TestCancel ends a join in each of the places where it may hang.
func TestCancel(t *testing.T) {
	silent := listen(t) // accepts in the kernel, never answers
	w := newWorld(t)
	cfg, key := w.invite(time.Hour)
	for name, endpoints := range map[string][]string{
		"waiting to be dialled":   nil,
		"in a handshake":          {silent.Addr().String()},
		"between rounds of dials": {"127.0.0.1:1"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg.Endpoints = endpoints
			ctx, cancel := context.WithCancel(t.Context())
			l := listen(t)
			if endpoints == nil { // with a peer that says nothing
				conn, err := net.Dial("tcp", l.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = conn.Close() }()
			}
			time.AfterFunc(50*time.Millisecond, cancel)
			if _, err := Run(ctx, cfg, key, roster.Facts{}, l, quiet()); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want context.Canceled", err)
			}
		})
	}
	t.Run("serving", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(50*time.Millisecond, cancel)
		if err := operate(ctx, silent.Addr().String(), w.serverTLS(), Handler(w, quiet())); err == nil || errors.Is(err, ErrNotWaiting) {
			t.Errorf("got %v, want the cancellation", err)
		}
	})
}

func TestListenerWithoutDeadline(t *testing.T) {
	w := newWorld(t)
	cfg, key := w.invite(time.Hour)
	l := listen(t)
	if _, err := Run(t.Context(), cfg, key, roster.Facts{}, struct{ net.Listener }{l}, quiet()); err == nil {
		t.Error("no error")
	}
}
