package deliver

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/musterhq/muster/cluster/spec"
	"github.com/musterhq/muster/providers"
)

func newECDSA(t *testing.T) ssh.Signer {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

// certified is a host key that an authority has signed for 127.0.0.1.
func certified(t *testing.T, key, authority ssh.Signer, principal string) ssh.Signer {
	t.Helper()
	cert := &ssh.Certificate{
		Key: key.PublicKey(), CertType: ssh.HostCert, ValidPrincipals: []string{principal},
		ValidBefore: uint64(time.Now().Add(time.Hour).Unix()),
	}
	if err := cert.SignCert(rand.Reader, authority); err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewCertSigner(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

func block(keys ...ssh.Signer) string {
	text := "Welcome\r\n-----BEGIN SSH HOST KEY KEYS-----\r\n"
	for _, k := range keys {
		text += strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k.PublicKey()))) + " root@node-1\r\n"
	}
	return text + "-----END SSH HOST KEY KEYS-----\r\nlogin: "
}

// TestHostKeys tries every way in which a host's key may be vouched for, or not. To a host that nobody vouches for not
// even the user's name is sent.
func TestHostKeys(t *testing.T) {
	user, identity := newKey(t, "")
	key, _ := newKey(t, "")
	other, _ := newKey(t, "")
	second := newECDSA(t)
	authority, _ := newKey(t, "")
	signed := certified(t, key, authority, "127.0.0.1")
	const address = "HOST"
	for name, tt := range map[string]struct {
		keys    []ssh.Signer // of the host
		known   string       // HOST stands for its address
		console []string
		err     string
	}{
		"known":                {keys: []ssh.Signer{key}, known: knownLine(address, key.PublicKey())},
		"hashed":               {keys: []ssh.Signer{key}, known: knownLine("HASHED", key.PublicKey())},
		"one of several kinds": {keys: []ssh.Signer{second, key}, known: knownLine(address, key.PublicKey())},
		"by an authority":      {keys: []ssh.Signer{signed}, known: "@cert-authority " + knownLine(address, authority.PublicKey())},
		"an authority, and a plain key": {
			keys: []ssh.Signer{second}, known: "@cert-authority " + knownLine(address, authority.PublicKey()) + knownLine(address, second.PublicKey()),
		},
		"on the console":        {keys: []ssh.Signer{key}, console: []string{block(key)}},
		"on the console, later": {keys: []ssh.Signer{key}, console: []string{"", "booting\n", block(key)[:90], block(key)}},
		"on the console, while an old host is known": {
			keys: []ssh.Signer{key}, known: knownLine(address, other.PublicKey()), console: []string{"", block(key)},
		},
		"on the console, with others": {keys: []ssh.Signer{second, key}, console: []string{block(other, key)}},

		"unknown":              {keys: []ssh.Signer{key}, err: "which is not known: put it into"},
		"changed":              {keys: []ssh.Signer{key}, known: knownLine(address, other.PublicKey()), err: "it may be somebody else"},
		"another kind":         {keys: []ssh.Signer{second}, known: knownLine(address, other.PublicKey()), err: "no SSH key of the kinds"},
		"of another host":      {keys: []ssh.Signer{key}, known: knownLine("192.0.2.1", key.PublicKey()), err: "which is not known"},
		"revoked":              {keys: []ssh.Signer{key}, known: knownLine(address, key.PublicKey()) + "@revoked * " + knownLine("", key.PublicKey())[1:], err: "cannot be trusted"},
		"revoked, but printed": {keys: []ssh.Signer{key}, known: "@revoked * " + knownLine("", key.PublicKey())[1:], console: []string{block(key)}, err: "cannot be trusted"},
		"by another authority": {keys: []ssh.Signer{signed}, known: "@cert-authority " + knownLine(address, other.PublicKey()), err: "cannot be trusted"},
		"for another name": {
			keys: []ssh.Signer{certified(t, key, authority, "192.0.2.1")}, known: "@cert-authority " + knownLine(address, authority.PublicKey()),
			err: "cannot be trusted",
		},
		"others on the console":          {keys: []ssh.Signer{key}, console: []string{block(other)}, err: "which is not known"},
		"the last of the console counts": {keys: []ssh.Signer{key}, console: []string{block(key) + block(other)}, err: "which is not known"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newSSHHost(t, user.PublicKey(), tt.keys...)
			h.change(func() { h.linux("x86_64") })
			known := strings.NewReplacer("HOST", h.address(), "HASHED", knownhosts.HashHostname(h.address())).Replace(tt.known)
			p := newPushing(t, h, identity, known, func(c *Config) {
				if tt.console != nil {
					c.Consoles = map[string]providers.Consoler{"cloud": &console{texts: tt.console}}
				}
			}).open(t)
			err := p.push(t.Context())
			logins, commands := h.seen()
			if tt.err == "" {
				if err != nil || string(h.received) != string(amd64("#musterd")) {
					t.Errorf("error %v, received %d bytes", err, len(h.received))
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.err) || !strings.Contains(err.Error(), "nothing was sent") {
				t.Errorf("error %v", err)
			}
			if logins > 0 || len(commands) > 0 {
				t.Errorf("%d logins, commands %v", logins, commands)
			}
		})
	}
}

// known is a host with a known key, and a delivery that may push to it.
func known(t *testing.T, mend func(*sshHost), configure func(*Config)) (*sshHost, *pushing) {
	t.Helper()
	user, identity := newKey(t, "")
	key, _ := newKey(t, "")
	h := newSSHHost(t, user.PublicKey(), key)
	h.change(func() {
		h.linux("x86_64")
		if mend != nil {
			mend(h)
		}
	})
	return h, newPushing(t, h, identity, knownLine(h.address(), key.PublicKey()), configure).open(t)
}

// TestPushGivesUp is about what does not become better by waiting.
func TestPushGivesUp(t *testing.T) {
	for name, tt := range map[string]struct {
		mend func(*sshHost)
		err  string
	}{
		"no musterd for it": {func(h *sshHost) { h.linux("aarch64") }, `there is no musterd for it, an "aarch64": put musterd-ARCH for it beside muster`},
		"sudo asks": {func(h *sshHost) {
			h.answer = func(command string, _ io.Reader) (string, uint32) {
				if command == "id -u" {
					return "1000", 0
				}
				return "sudo: a password is required\n", 1
			}
		}, "sudo: a password is required"},
		"login refused": {func(h *sshHost) {
			h.config.PublicKeyCallback = func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, io.EOF }
		}, "unable to authenticate"},
		"the sum is never right": {func(h *sshHost) {
			plain := h.answer
			h.answer = func(command string, in io.Reader) (string, uint32) {
				if strings.Contains(command, "cat >") {
					_, _ = io.Copy(io.Discard, in)
					return "what arrived is not the musterd that was sent", 1
				}
				return plain(command, in)
			}
		}, "what arrived is not the musterd that was sent"},
		"it talks without end": {func(h *sshHost) {
			h.answer = func(command string, _ io.Reader) (string, uint32) {
				if command == "id -u" {
					return strings.Repeat("0", 4<<20), 0
				}
				return strings.Repeat("\x1b", 1<<20), 7
			}
		}, "cannot bring musterd over SSH to root@127.0.0.1"},
	} {
		t.Run(name, func(t *testing.T) {
			_, p := known(t, tt.mend, nil)
			err := p.push(t.Context())
			if err == nil || !strings.Contains(err.Error(), tt.err) || len(err.Error()) > 4<<10 || strings.Contains(err.Error(), "\x1b") {
				t.Errorf("error %.1000v", err)
			}
		})
	}
}

// after calls something when so much has been logged.
type after struct {
	slog.Handler
	left *atomic.Int32
	call func()
}

func (a after) Enabled(context.Context, slog.Level) bool { return true }

func (a after) Handle(context.Context, slog.Record) error {
	if a.left.Add(-1) == 0 {
		a.call()
	}
	return nil
}

// TestPushWaits is about hosts that are not ready yet, until the caller has waited enough.
func TestPushWaits(t *testing.T) {
	for name, tt := range map[string]struct {
		mend func(h *sshHost, enough func())
		err  string
	}{
		"silent":  {func(h *sshHost, enough func()) { h.silent = enough }, "cannot bring musterd"},
		"closed":  {func(h *sshHost, _ func()) { _ = h.listener.Close() }, "connection refused"},
		"booting": {func(h *sshHost, _ func()) { h.linux("booting") }, "its first boot is not over"},
	} {
		t.Run(name, func(t *testing.T) {
			cause := errors.New("waited enough")
			ctx, cancel := context.WithCancelCause(t.Context())
			enough := func() { cancel(cause) }
			attempts := new(atomic.Int32)
			attempts.Store(3)
			_, p := known(t, func(h *sshHost) { tt.mend(h, enough) }, func(c *Config) {
				c.Log = slog.New(after{Handler: slog.DiscardHandler, left: attempts, call: enough})
			})
			err := p.push(ctx)
			if !errors.Is(err, cause) || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("error %v", err)
			}
		})
	}
}

// TestPushIsRepeatable goes on after a connection that broke in the middle, and finds what an earlier push has done.
func TestPushIsRepeatable(t *testing.T) {
	h, p := known(t, func(h *sshHost) {
		plain, broken := h.answer, new(atomic.Bool)
		h.answer = func(command string, in io.Reader) (string, uint32) {
			if strings.Contains(command, "cat >") && broken.CompareAndSwap(false, true) {
				_, _ = io.CopyN(io.Discard, in, 10)
				return "", 1
			}
			return plain(command, in)
		}
	}, nil)
	if err := p.push(t.Context()); err != nil || string(h.received) != string(amd64("#musterd")) {
		t.Fatalf("%v, %d bytes", err, len(h.received))
	}
	h.change(func() {
		h.answer = func(command string, _ io.Reader) (string, uint32) {
			switch {
			case command == "id -u":
				return "0", 0
			case strings.Contains(command, "uname"):
				return "x86_64\n" + p.binaries[0].SHA256 + "  -", 0
			case command == "sh -c 'systemctl start --no-block musterd.service'":
				return "", 0
			}
			return "unexpected " + command, 1
		}
	})
	if err := p.push(t.Context()); err != nil {
		t.Errorf("again: %v", err)
	}
}

// TestSudo goes through sudo for every account that is not root.
func TestSudo(t *testing.T) {
	h, p := known(t, func(h *sshHost) {
		plain := h.answer
		h.answer = func(command string, in io.Reader) (string, uint32) {
			if command == "id -u" {
				return "1000\n", 0
			}
			return plain(command, in)
		}
	}, nil)
	if err := p.push(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, commands := h.seen()
	for _, c := range commands[1:] {
		if !strings.HasPrefix(c, "sudo -n sh -c '") || strings.Count(c, "'") != 2 {
			t.Errorf("command %s", c)
		}
	}
}

// TestIdentities logs in with keys of files and of an SSH agent.
func TestIdentities(t *testing.T) {
	user, plain := newKey(t, "")
	locked, lockedFile := newKey(t, "secret")
	private, err := ssh.ParseRawPrivateKeyWithPassphrase(lockedFile, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	ring := agent.NewKeyring()
	if err := ring.Add(agent.AddedKey{PrivateKey: private}); err != nil {
		t.Fatal(err)
	}
	socket := serveAgent(t, ring)
	for name, tt := range map[string]struct {
		user     ssh.Signer
		identity []byte
		usual    []byte // ~/.ssh/id_ed25519
		socket   string
		err      string
	}{
		"a file":                             {user: user, identity: plain},
		"the usual file":                     {user: user, usual: plain},
		"the agent":                          {user: locked, socket: socket},
		"a file with a passphrase, by agent": {user: locked, identity: lockedFile, socket: socket},
		"a file with a passphrase alone":     {user: locked, identity: lockedFile, err: "it has a passphrase, for which muster does not ask: run `ssh-add "},
		"the usual file with a passphrase":   {user: locked, usual: lockedFile, err: "there is no key to log in to hosts with"},
		"none":                               {user: user, err: "name one as `identity`, or give one to the SSH agent"},
		"no key":                             {user: user, identity: []byte("x"), err: "cannot log in with"},
	} {
		t.Run(name, func(t *testing.T) {
			key, _ := newKey(t, "")
			h := newSSHHost(t, tt.user.PublicKey(), key)
			h.change(func() { h.linux("x86_64") })
			p := newPushing(t, h, tt.identity, knownLine(h.address(), key.PublicKey()), func(c *Config) { c.AgentSocket = tt.socket })
			if err := os.Mkdir(filepath.Join(p.home, ".ssh"), 0o700); err != nil {
				t.Fatal(err)
			}
			if tt.usual != nil {
				writeFile(t, filepath.Join(p.home, ".ssh", "id_ed25519"), tt.usual)
			}
			if tt.err != "" {
				err := p.Open(t.Context(), t.TempDir(), nil)
				if err == nil || !strings.Contains(err.Error(), tt.err) || strings.Contains(err.Error(), "secret") {
					t.Errorf("error %v", err)
				}
				return
			}
			if err := p.open(t).push(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

func serveAgent(t *testing.T, ring agent.Agent) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "agent")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _ = agent.ServeAgent(ring, conn) }()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	return socket
}

func TestKnownHostsFile(t *testing.T) {
	for text, want := range map[string]string{
		"":                        "",
		"# nothing\n":             "",
		"127.0.0.1 ssh-ed25519\n": "cannot use the known hosts in",
	} {
		file := writeFile(t, filepath.Join(t.TempDir(), "known"), []byte(text))
		if _, err := openKeyring(file, true); want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v", text, err)
		}
	}
	none := filepath.Join(t.TempDir(), "none")
	if _, err := openKeyring(none, false); err != nil {
		t.Errorf("no usual file: %v", err)
	}
	if _, err := openLogin(spec.Push{KnownHosts: none}, t.TempDir(), ""); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file of that name: %v", err)
	}
}

func TestKeysOnConsole(t *testing.T) {
	a, _ := newKey(t, "")
	b := newECDSA(t)
	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(a.PublicKey())))
	for name, tt := range map[string]struct {
		text string
		want int
	}{
		"nothing":            {"", 0},
		"no block":           {line, 0},
		"a block":            {block(a, b), 2},
		"not yet whole":      {"-----BEGIN SSH HOST KEY KEYS-----\n" + line + "\n", 0},
		"two boots":          {block(a, b) + block(b), 1},
		"behind a prefix":    {"-----BEGIN SSH HOST KEY KEYS-----\n[   12.3] cloud-init[5]: " + line + "\n-----END SSH HOST KEY KEYS-----\n", 1},
		"with a word inside": {"-----BEGIN SSH HOST KEY KEYS-----\n" + line[:40] + "[  3.1] eth0 up" + line[40:] + "\n-----END SSH HOST KEY KEYS-----\n", 0},
		"fingerprints alone": {"-----BEGIN SSH HOST KEY FINGERPRINTS-----\n256 SHA256:abc root (ED25519)\n-----END SSH HOST KEY FINGERPRINTS-----\n", 0},
		"binary":             {"\x00\xff" + block(a), 1},
	} {
		keys, err := keysOnConsole(strings.NewReader(tt.text))
		if err != nil || len(keys) != tt.want {
			t.Errorf("%s: %d keys, %v", name, len(keys), err)
		}
	}
}
