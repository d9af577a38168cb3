package deliver

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/musterhq/muster/cluster/deliver/opensshtest"
	"github.com/musterhq/muster/cluster/spec"
	"github.com/musterhq/muster/providers"
)

// openSSH is a genuine SSH server on loopback, run by the user of the test. systemctl is a stand-in in it that notes how
// it is called: there is no systemd to ask.
type openSSH struct {
	dir  string
	port int
	user string
}

// startOpenSSH makes host keys and starts a server that lets the user's key in. With an authority it shows a certificate.
func startOpenSSH(t *testing.T, publicKey []byte, authority bool) openSSH {
	t.Helper()
	for _, program := range []string{opensshtest.SSHD, "ssh-keygen", "unshare"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is missing: install openssh-server and util-linux", program)
		}
	}
	self, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	s := openSSH{dir: t.TempDir(), user: self.Username}
	if _, err := fmt.Sscanf(freeAddress(t), "127.0.0.1:%d", &s.port); err != nil {
		t.Fatal(err)
	}
	s.keygen(t, "-t", "ed25519", "-f", "host")
	config := fmt.Sprintf("ListenAddress 127.0.0.1\nPort %d\nHostKey %[2]s/host\nPidFile none\nAuthorizedKeysFile %[2]s/authorized\n"+
		"StrictModes no\nSetEnv PATH=%[2]s/bin:/usr/local/bin:/usr/bin:/bin\n", s.port, s.dir)
	if authority {
		s.keygen(t, "-t", "ed25519", "-f", "ca")
		s.keygen(t, "-s", "ca", "-I", "host", "-h", "-n", "127.0.0.1", "host.pub")
		config += "HostCertificate " + s.dir + "/host-cert.pub\n"
	}
	if err := os.Mkdir(filepath.Join(s.dir, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(s.dir, "bin", "systemctl"), []byte("#!/bin/sh\necho \"$*\" >>"+s.dir+"/calls\n"))
	writeFile(t, filepath.Join(s.dir, "authorized"), publicKey)
	writeFile(t, filepath.Join(s.dir, "config"), []byte(config))
	opensshtest.Start(t, filepath.Join(s.dir, "config"))
	return s
}

func (s openSSH) keygen(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "ssh-keygen", append([]string{"-q", "-N", ""}, args...)...)
	if args[0] == "-s" {
		cmd.Args = append([]string{"ssh-keygen", "-q"}, args...)
	}
	cmd.Dir = s.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v\n%s", err, out)
	}
}

func (s openSSH) read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(data)
}

// operator is a delivery that logs in to the server with a new key.
func (s openSSH) operator(t *testing.T, identity []byte, known string, consoles map[string]providers.Consoler) *pushing {
	t.Helper()
	home := t.TempDir()
	p := &pushing{home: home, way: spec.Push{User: s.user, Port: s.port}, host: instanceAt("127.0.0.1")}
	p.way.Identity, p.way.KnownHosts = writeFile(t, filepath.Join(home, "id"), identity), writeFile(t, filepath.Join(home, "known"), []byte(known))
	var err error
	p.Delivery, err = New(Config{
		Ways: map[string]spec.Musterd{"cloud": {Push: &p.way}}, Home: home, Log: discard, Consoles: consoles,
		Musterd: writeFile(t, filepath.Join(home, "musterd"), amd64(strings.Repeat("#musterd", 1<<20))),
	})
	if err != nil {
		t.Fatal(err)
	}
	p.target = filepath.Join(s.dir, "opt", "bin", "musterd")
	return p
}

func TestOpenSSH(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("the musterd of this test is for amd64")
	}
	signer, identity := newKey(t, "")
	s := startOpenSSH(t, []byte(knownLine("", signer.PublicKey())[1:]), false)
	place := fmt.Sprintf("[127.0.0.1]:%d ", s.port)
	printed := "-----BEGIN SSH HOST KEY KEYS-----\n" + s.read(t, "host.pub") + "-----END SSH HOST KEY KEYS-----\n"
	p := s.operator(t, identity, "", map[string]providers.Consoler{"cloud": &console{texts: []string{"booting", printed}}})
	p.consolePause = 0
	p.open(t)
	const enabled = "is-enabled --quiet musterd.service\n"
	steps := []struct{ before, calls string }{
		{"", enabled + "restart --no-block musterd.service\n"},
		{"", enabled + "start --no-block musterd.service\n"},
		{"an old one", enabled + "restart --no-block musterd.service\n"},
	}
	for i, step := range steps {
		if step.before != "" {
			writeFile(t, p.target, []byte(step.before))
		}
		if err := os.RemoveAll(filepath.Join(s.dir, "calls")); err != nil {
			t.Fatal(err)
		}
		if err := p.push(t.Context()); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
		got, err := os.ReadFile(p.target)
		info, statErr := os.Stat(p.target)
		if err != nil || statErr != nil || !bytes.Equal(got, amd64(strings.Repeat("#musterd", 1<<20))) || info.Mode() != 0o755 {
			t.Errorf("step %d: %d bytes, %v, %v", i, len(got), err, info)
		}
		if calls := s.read(t, "calls"); calls != step.calls {
			t.Errorf("step %d: systemctl %q, want %q", i, calls, step.calls)
		}
		if there, err := os.ReadDir(filepath.Dir(p.target)); err != nil || len(there) != 1 {
			t.Errorf("step %d: %v, %v", i, there, err)
		}
	}
	// Another key in its place.
	other, _ := newKey(t, "")
	err := s.operator(t, identity, knownLine(strings.TrimSpace(place), other.PublicKey()), nil).open(t).push(t.Context())
	var stranger *HostKeyError
	if !errors.As(err, &stranger) || !strings.Contains(err.Error(), "it may be somebody else") {
		t.Errorf("another key: %v", err)
	}
	// Hashed as ssh-keygen does it.
	writeFile(t, filepath.Join(s.dir, "known"), []byte(place+s.read(t, "host.pub")))
	hash := exec.CommandContext(t.Context(), "ssh-keygen", "-H", "-f", filepath.Join(s.dir, "known"))
	if out, err := hash.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	hashed := s.operator(t, identity, s.read(t, "known"), nil)
	if err := hashed.open(t).push(t.Context()); err != nil || !strings.HasPrefix(s.read(t, "known"), "|1|") {
		t.Errorf("hashed: %v", err)
	}
}

func TestOpenSSHCertificate(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("the musterd of this test is for amd64")
	}
	signer, identity := newKey(t, "")
	s := startOpenSSH(t, []byte(knownLine("", signer.PublicKey())[1:]), true)
	p := s.operator(t, identity, fmt.Sprintf("@cert-authority [127.0.0.1]:%d %s", s.port, s.read(t, "ca.pub")), nil)
	if err := p.open(t).push(t.Context()); err != nil {
		t.Error(err)
	}
}
