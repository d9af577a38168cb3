//go:build lab

package image

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kdomanski/iso9660"
	"golang.org/x/crypto/ssh"

	"github.com/musterhq/muster/cloudconfig"
	"github.com/musterhq/muster/cluster/join"
	"github.com/musterhq/muster/cluster/pki"
)

const (
	clusterID = "0b9f9a52-7a0d-4f7e-9d4c-3d1b8f0a6c11"
	token     = "canary-token"
)

// guest is a host that the operator, who is this test, asked for.
type guest struct {
	root     *pki.Authority
	operator tls.Certificate
	key      ssh.Signer // of its account ops
	userData []byte
}

// newGuest renders user-data as `muster up` does, the document at path laid over it.
func newGuest(t *testing.T, path string) guest {
	t.Helper()
	root, err := pki.NewRoot(clusterID, "lab", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := root.NewIssuer(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pair, err := issuer.MintOperator(clusterID, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	g := guest{root: root}
	if g.operator, err = tls.X509KeyPair(pair.CertPEM, pair.KeyPEM); err != nil {
		t.Fatal(err)
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err == nil {
		g.key, err = ssh.NewSignerFromKey(private)
	}
	if err != nil {
		t.Fatal(err)
	}
	g.userData = g.render(t, path)
	return g
}

func (g guest) render(t *testing.T, path string) []byte {
	t.Helper()
	config, err := json.Marshal(join.Config{
		Version: 1, ClusterID: clusterID, ClusterName: "lab", Host: "node-1", HostID: strings.Repeat("0a", 16), Generation: 1,
		Provider: "lab", CA: string(g.root.CertPEM()), Token: token, LeaseMillis: 5000, Runtime: "systemd",
	})
	if err != nil {
		t.Fatal(err)
	}
	var operator cloudconfig.Document
	if path != "" {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		public := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(g.key.PublicKey())))
		if operator, err = cloudconfig.Parse(path, bytes.ReplaceAll(text, []byte("@key@"), []byte(public))); err != nil {
			t.Fatal(err)
		}
	}
	text, err := cloudconfig.UserData(cloudconfig.FirstBoot{Hostname: "node-1", ConfigPath: join.ConfigPath, Config: config}, operator)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

const metaData = "instance-id: i-1\nlocal-hostname: node-1\n"

// seed is a NoCloud disk.
func (g guest) seed(t *testing.T) string {
	t.Helper()
	return volume(t, "cidata", map[string]string{"user-data": string(g.userData), "meta-data": metaData})
}

// volume is a disk in ISO 9660.
func volume(t *testing.T, label string, files map[string]string) string {
	t.Helper()
	w, err := iso9660.NewWriter()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Cleanup() }()
	for name, content := range files {
		if err := w.AddFile(strings.NewReader(content), name); err != nil {
			t.Fatal(err)
		}
	}
	var image bytes.Buffer
	if err := w.WriteTo(&image, label); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), label+".iso")
	if err := os.WriteFile(path, image.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// answers dials the host as the operator does and waits until it asks to join: it has the operator's root, its identity
// and its token then.
func (g guest) answers(m *machine) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), patience)
	defer cancel()
	again := time.NewTicker(200 * time.Millisecond)
	defer again.Stop()
	for {
		request, err := g.joinRequest(ctx, m.api)
		if err == nil {
			if !strings.HasPrefix(request, "POST "+join.Path+" HTTP/1.1\r\n") {
				m.t.Fatalf("the host asked for %q", request)
			}
			m.t.Logf("the API port answers after %.1f s of processor time", m.cpu())
			return
		}
		select {
		case <-again.C:
		case <-m.ended:
			m.t.Fatalf("the machine ended, the API port did not answer: %v", err)
		case <-ctx.Done():
			m.t.Fatalf("the API port does not answer: %v", err)
		}
	}
}

func (g guest) joinRequest(ctx context.Context, address string) (string, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	const silence = 20 * time.Second
	_ = conn.SetDeadline(time.Now().Add(silence))
	server := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{g.operator}, MinVersion: tls.VersionTLS13})
	if err := server.HandshakeContext(ctx); err != nil {
		return "", err
	}
	head := make([]byte, 512)
	n, err := server.Read(head)
	return string(head[:n]), err
}

// shell runs a script on the guest as root, by way of ops, whose key is in the user-data, and of sudo. The server must show
// the key that the console told of.
func (g guest) shell(m *machine, script string) string {
	m.t.Helper()
	line := m.await(`-----BEGIN SSH HOST KEY KEYS-----\n(ssh-ed25519 \S+ root@node-1)\n-----END SSH HOST KEY KEYS-----\n`)[1]
	pinned, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
	if err != nil {
		m.t.Fatal(err)
	}
	config := &ssh.ClientConfig{
		User: "ops", Auth: []ssh.AuthMethod{ssh.PublicKeys(g.key)}, HostKeyCallback: ssh.FixedHostKey(pinned), Timeout: time.Minute,
	}
	again, late := time.NewTicker(time.Second), time.NewTimer(patience)
	defer again.Stop()
	defer late.Stop()
	for {
		client, err := ssh.Dial("tcp", m.ssh, config)
		if err == nil {
			defer client.Close()
			return session(m.t, client, script)
		}
		if strings.Contains(err.Error(), "unable to authenticate") || strings.Contains(err.Error(), "host key mismatch") {
			m.t.Fatal(err)
		}
		select {
		case <-again.C:
		case <-late.C:
			m.t.Fatal(err)
		}
	}
}

func session(t *testing.T, client *ssh.Client, script string) string {
	t.Helper()
	s, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.Stdin = strings.NewReader(script)
	out, err := s.CombinedOutput("sudo sh -s")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}
