package deliver

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/musterhq/muster/cluster/spec"
	"github.com/musterhq/muster/providers"
)

// sshHost is an SSH server in this process: one that behaves, or one that does not.
type sshHost struct {
	listener net.Listener
	config   *ssh.ServerConfig
	answer   func(command string, in io.Reader) (out string, status uint32)
	silent   func() // instead of a word, when somebody connects

	wg       sync.WaitGroup
	mu       sync.Mutex
	conns    []net.Conn
	logins   int // attempts
	commands []string
	received []byte
}

// newKey is a key pair, also as a file that OpenSSH reads; with a passphrase when that is not "".
func newKey(t *testing.T, passphrase string) (ssh.Signer, []byte) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if passphrase != "" {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(private, "", []byte(passphrase))
	}
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return signer, pem.EncodeToMemory(block)
}

// newSSHHost starts a server with host keys that lets a user's key in.
func newSSHHost(t *testing.T, user ssh.PublicKey, hostKeys ...ssh.Signer) *sshHost {
	t.Helper()
	h := &sshHost{config: new(ssh.ServerConfig), answer: func(string, io.Reader) (string, uint32) { return "", 0 }}
	h.config.PublicKeyCallback = func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.logins++
		if user == nil || string(key.Marshal()) != string(user.Marshal()) {
			return nil, io.ErrUnexpectedEOF
		}
		return nil, nil
	}
	for _, key := range hostKeys {
		h.config.AddHostKey(key)
	}
	var err error
	if h.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	h.wg.Go(h.accept)
	t.Cleanup(h.close)
	return h
}

func (h *sshHost) close() {
	_ = h.listener.Close()
	h.mu.Lock()
	for _, c := range h.conns {
		_ = c.Close()
	}
	h.mu.Unlock()
	h.wg.Wait()
}

func (h *sshHost) accept() {
	for {
		conn, err := h.listener.Accept()
		if err != nil {
			return
		}
		h.mu.Lock()
		h.conns = append(h.conns, conn)
		silent := h.silent
		h.mu.Unlock()
		if silent != nil {
			silent()
			continue
		}
		h.wg.Go(func() { h.talk(conn) })
	}
}

func (h *sshHost) talk(raw net.Conn) {
	conn, channels, requests, err := ssh.NewServerConn(raw, h.config)
	if err != nil {
		_ = raw.Close()
		return
	}
	defer conn.Close()
	go ssh.DiscardRequests(requests)
	for ch := range channels {
		channel, in, err := ch.Accept()
		if err != nil {
			return
		}
		h.wg.Go(func() { h.session(channel, in) })
	}
}

func (h *sshHost) session(channel ssh.Channel, requests <-chan *ssh.Request) {
	defer channel.Close()
	for r := range requests {
		if r.Type != "exec" {
			_ = r.Reply(false, nil)
			continue
		}
		_ = r.Reply(true, nil)
		var exec struct{ Command string }
		_ = ssh.Unmarshal(r.Payload, &exec)
		h.mu.Lock()
		h.commands = append(h.commands, exec.Command)
		answer := h.answer
		h.mu.Unlock()
		out, status := answer(exec.Command, channel)
		if status == 0 {
			_, _ = io.WriteString(channel, out)
		} else {
			_, _ = io.WriteString(channel.Stderr(), out)
		}
		_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{status}))
		return
	}
}

// change changes how the server behaves, while it runs.
func (h *sshHost) change(mend func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	mend()
}

func (h *sshHost) seen() (logins int, commands []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.logins, h.commands
}

func (h *sshHost) port() int { return h.listener.Addr().(*net.TCPAddr).Port }

// address is how a known_hosts file names the server.
func (h *sshHost) address() string { return "[127.0.0.1]:" + strconv.Itoa(h.port()) }

// linux answers as a host does whose first boot is over and that has no musterd yet.
func (h *sshHost) linux(machine string) {
	h.answer = func(command string, in io.Reader) (string, uint32) {
		switch {
		case command == "id -u":
			return "0\n", 0
		case strings.Contains(command, "uname"):
			return machine + "\n", 0
		case strings.Contains(command, "cat >"):
			data, _ := io.ReadAll(in)
			h.mu.Lock()
			defer h.mu.Unlock()
			h.received = data
		}
		return "", 0
	}
}

// pushing is a delivery that pushes to the host of a test, and has been opened.
type pushing struct {
	*Delivery
	home  string
	known string // the known_hosts file
	way   spec.Push
	host  providers.Instance
}

// newPushing makes an operator with an identity; mend may change what it is opened with.
func newPushing(t *testing.T, h *sshHost, identity []byte, known string, mend func(*Config)) *pushing {
	t.Helper()
	home := t.TempDir()
	p := &pushing{home: home, known: filepath.Join(home, "known_hosts"), way: spec.Push{User: "root", Port: h.port()}}
	p.way.KnownHosts = writeFile(t, p.known, []byte(known))
	if identity != nil {
		p.way.Identity = writeFile(t, filepath.Join(home, "id"), identity)
	}
	config := Config{
		Ways: map[string]spec.Musterd{"cloud": {Push: &p.way}}, Home: home, Log: discard,
		Musterd: writeFile(t, filepath.Join(home, "musterd"), amd64("#musterd")),
	}
	if mend != nil {
		mend(&config)
	}
	var err error
	if p.Delivery, err = New(config); err != nil {
		t.Fatal(err)
	}
	p.firstPause, p.consolePause = time.Millisecond, 0
	p.host = instanceAt("127.0.0.1")
	return p
}

func instanceAt(address string) providers.Instance {
	return providers.Instance{
		Identity: providers.Identity{Cluster: "c", Host: "node-1", Generation: 1}, ID: "i-1",
		State: providers.StateRunning, Addresses: []netip.Addr{netip.MustParseAddr(address)},
	}
}

func (p *pushing) open(t *testing.T) *pushing {
	t.Helper()
	if err := p.Open(t.Context(), filepath.Join(p.home, "copies"), nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(nil); err != nil {
			t.Error(err)
		}
	})
	return p
}

func (p *pushing) push(ctx context.Context) error { return p.Push(ctx, "cloud", p.host) }

// knownLine is a line of a known_hosts file.
func knownLine(host string, key ssh.PublicKey) string {
	return host + " " + strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))) + "\n"
}

// console is what a provider keeps of what a host printed.
type console struct {
	mu    sync.Mutex
	texts []string // one after the other, as it is read
}

func (c *console) Console(_ context.Context, i providers.Instance, follow bool, w io.Writer) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i.ID != "i-1" || follow {
		return os.ErrInvalid
	}
	_, err := io.WriteString(w, c.texts[0])
	if len(c.texts) > 1 {
		c.texts = c.texts[1:]
	}
	return err
}
