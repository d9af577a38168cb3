package libvirt

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/musterhq/muster/providers"
)

// serve accepts connections until the test ends and waits for all that it began.
func serve(t *testing.T, network, address string, handle func(net.Conn)) net.Addr {
	t.Helper()
	listener, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer func() { _ = conn.Close() }()
				handle(conn)
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		all.Wait()
	})
	return listener.Addr()
}

// join copies between two connections until one of them ends.
func join(a, b io.ReadWriteCloser) {
	var both sync.WaitGroup
	for _, pair := range [][2]io.ReadWriteCloser{{a, b}, {b, a}} {
		both.Go(func() {
			_, _ = io.Copy(pair[0], pair[1])
			_, _ = pair[0].Close(), pair[1].Close()
		})
	}
	both.Wait()
}

// echoSocket is a unix socket that says everything back.
func echoSocket(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "echo")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "socket")
	serve(t, "unix", path, func(conn net.Conn) { _, _ = io.Copy(conn, conn) })
	return path
}

func writeFile(t *testing.T, path string, data []byte) string {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func newKey(t *testing.T) (ssh.Signer, []byte) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		t.Fatal(err)
	}
	return signer, pem.EncodeToMemory(block)
}

// sshServer is an SSH server that lets a key in and connects to sockets (PROTOCOL of OpenSSH, 2.4). It returns what a
// provider needs to reach it.
func sshServer(t *testing.T, socket string) Config {
	t.Helper()
	hostKey, _ := newKey(t)
	userKey, userPEM := newKey(t)
	config := &ssh.ServerConfig{PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		if string(key.Marshal()) != string(userKey.PublicKey().Marshal()) {
			return nil, errors.New("unknown key")
		}
		return nil, nil
	}}
	config.AddHostKey(hostKey)
	address := serve(t, "tcp", "127.0.0.1:0", func(conn net.Conn) { serveSSH(conn, config) })
	c := *NewConfig()
	c.URI = "qemu+ssh://root@" + address.String() + "/system?socket=" + socket
	c.SSH.Key = writeFile(t, filepath.Join(t.TempDir(), "key"), userPEM)
	c.SSH.HostKeys = []string{strings.TrimSpace(string(ssh.MarshalAuthorizedKey(hostKey.PublicKey())))}
	return c
}

func serveSSH(conn net.Conn, config *ssh.ServerConfig) {
	server, channels, requests, err := ssh.NewServerConn(conn, config)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	var all sync.WaitGroup
	defer all.Wait()
	all.Go(func() { ssh.DiscardRequests(requests) })
	for each := range channels {
		var target struct {
			Path     string
			Reserved string
			Port     uint32
		}
		if each.ChannelType() != "direct-streamlocal@openssh.com" || ssh.Unmarshal(each.ExtraData(), &target) != nil {
			_ = each.Reject(ssh.UnknownChannelType, "")
			continue
		}
		inner, err := net.Dial("unix", target.Path)
		if err != nil {
			_ = each.Reject(ssh.ConnectionFailed, err.Error())
			continue
		}
		channel, channelRequests, err := each.Accept()
		if err != nil {
			continue
		}
		all.Go(func() { ssh.DiscardRequests(channelRequests) })
		all.Go(func() { join(channel, inner) })
	}
}

// tlsServer is what libvirtd is over TLS: it wants a certificate, says 1 when it likes it, and goes on as on its socket.
func tlsServer(t *testing.T, socket string) Config {
	t.Helper()
	dir := t.TempDir()
	ca, caKey := certificate(t, dir, "ca", nil, nil)
	certificate(t, dir, "server", ca, caKey)
	certificate(t, dir, "client", ca, caKey)
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "servercert.pem"), filepath.Join(dir, "serverkey.pem"))
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert}
	address := serve(t, "tcp", "127.0.0.1:0", func(conn net.Conn) {
		secure := tls.Server(conn, config)
		if secure.Handshake() != nil {
			return
		}
		if inner, err := net.Dial("unix", socket); err == nil {
			_, _ = secure.Write([]byte{1})
			join(secure, inner)
		}
	})
	c := *NewConfig()
	c.URI, c.TLS.Dir = "qemu+tls://"+address.String()+"/system", dir
	return c
}

// certificate writes NAMEcert.pem and NAMEkey.pem. Without an issuer it is an authority.
func certificate(t *testing.T, dir, name string, issuer *x509.Certificate, issuerKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if issuer == nil {
		template.IsCA, issuer, issuerKey = true, template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, &key.PublicKey, issuerKey)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, name+"cert.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	writeFile(t, filepath.Join(dir, name+"key.pem"), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER}))
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func TestTransports(t *testing.T) {
	socket := echoSocket(t)
	unix := *NewConfig()
	unix.URI += "?socket=" + socket
	for name, config := range map[string]Config{"unix": unix, "tls": tlsServer(t, socket), "ssh": sshServer(t, socket)} {
		t.Run(name, func(t *testing.T) {
			p, err := New("cloud-a", config, providers.Environment{})
			if err != nil {
				t.Fatal(err)
			}
			conn, err := p.dial(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			if _, err := conn.Write([]byte("hello")); err != nil {
				t.Fatal(err)
			}
			got := make([]byte, 5)
			if _, err := io.ReadFull(conn, got); err != nil || string(got) != "hello" {
				t.Errorf("read %q, %v", got, err)
			}
		})
	}
}

func TestRefusedConnections(t *testing.T) {
	socket := echoSocket(t)
	_, strangerPEM := newKey(t)
	otherHost, _ := newKey(t)
	other := string(ssh.MarshalAuthorizedKey(otherHost.PublicKey()))
	stranger := writeFile(t, filepath.Join(t.TempDir(), "stranger"), strangerPEM)
	empty := writeFile(t, filepath.Join(t.TempDir(), "known_hosts"), nil)
	for _, tt := range []struct {
		name   string
		config Config
		change func(*Config)
		want   error
		text   string
	}{
		{"another host key", sshServer(t, socket), func(c *Config) { c.SSH.HostKeys = []string{other} }, providers.ErrAuth, "another key"},
		{"an unknown host", sshServer(t, socket), func(c *Config) { c.SSH.HostKeys, c.SSH.KnownHosts = nil, empty }, providers.ErrAuth, "add it to `ssh.host_keys`"},
		{"no known hosts", sshServer(t, socket), func(c *Config) { c.SSH.HostKeys, c.SSH.KnownHosts = nil, "/nowhere" }, providers.ErrNotFound, "set `ssh.known_hosts`"},
		{"another user key", sshServer(t, socket), func(c *Config) { c.SSH.Key = stranger }, providers.ErrAuth, "refuses the login"},
		{"no user key", sshServer(t, socket), func(c *Config) { c.SSH.Key = "/nowhere" }, providers.ErrNotFound, "`ssh.key`"},
		{"no socket behind SSH", sshServer(t, "/nowhere"), func(*Config) {}, providers.ErrUnavailable, "/nowhere"},
		{"another authority", tlsServer(t, socket), func(c *Config) { c.TLS.Dir = tlsServer(t, socket).TLS.Dir }, providers.ErrAuth, "certificate"},
		{"no certificates", tlsServer(t, socket), func(c *Config) { c.TLS.Dir = t.TempDir() }, providers.ErrNotFound, "clientcert.pem"},
		{"nobody listens", *NewConfig(), func(c *Config) { c.URI = "qemu+tls://127.0.0.1:1/system"; c.TLS.Dir = tlsServer(t, socket).TLS.Dir }, providers.ErrUnavailable, "refused"},
		{"no libvirtd", *NewConfig(), func(c *Config) { c.URI += "?socket=/nowhere" }, providers.ErrNotFound, "is libvirtd installed and running?"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			config := tt.config
			tt.change(&config)
			p, err := New("cloud-a", config, providers.Environment{})
			if err != nil {
				t.Fatal(err)
			}
			_, err = p.List(t.Context(), testCluster)
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("error %v, want %q of class %q", err, tt.text, tt.want)
			}
		})
	}
}
