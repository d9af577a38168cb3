package main

import (
	"bufio"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/musterhq/muster/cluster/deliver/opensshtest"
)

// TestMain lets the test's binary be musterd, for programs that start it by another name.
func TestMain(m *testing.M) {
	if os.Getenv("MUSTERD_TEST_MAIN") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// TestTunnel does what `fleetctl --tunnel` does, through a genuine OpenSSH server: for each connection a session that runs
// `fleetctl fd-forward SOCKET`, with HTTP on its input and output.
func TestTunnel(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "fleet.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s", r.Method, r.URL.EscapedPath(), body)
	})}
	serving := make(chan error, 1)
	go func() { serving <- server.Serve(l) }()
	defer func() {
		_ = server.Close()
		<-serving
	}()
	client := dialSSHD(t, dir)
	for i := range 2 {
		session, err := client.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		stdin, err1 := session.StdinPipe()
		stdout, err2 := session.StdoutPipe()
		if err1 != nil || err2 != nil || session.Start("fleetctl fd-forward "+socket) != nil {
			t.Fatalf("%v, %v: no session", err1, err2)
		}
		answers := bufio.NewReader(stdout)
		for _, body := range []string{"one", strings.Repeat("two", 1<<16)} {
			fmt.Fprintf(stdin, "PUT /fleet/v1/units/web%%401.service HTTP/1.1\r\nHost: domain-sock\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
			response, err := http.ReadResponse(answers, nil)
			if err != nil {
				t.Fatalf("session %d: %v", i, err)
			}
			got, err := io.ReadAll(response.Body)
			_ = response.Body.Close()
			if want := "PUT /fleet/v1/units/web%401.service " + body; err != nil || string(got) != want {
				t.Errorf("session %d: %d bytes, want %d: %v", i, len(got), len(want), err)
			}
		}
		_ = stdin.Close()
		if err := session.Wait(); err != nil {
			t.Errorf("session %d ended: %v", i, err)
		}
	}
}

// dialSSHD starts a server on loopback in whose PATH musterd is fleetctl, and logs in.
func dialSSHD(t *testing.T, dir string) *ssh.Client {
	t.Helper()
	for _, program := range []string{opensshtest.SSHD, "ssh-keygen", "unshare"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is missing: install openssh-server and util-linux", program)
		}
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	self, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	address := freeAddress(t)
	host, port, _ := strings.Cut(address, ":")
	for name, text := range map[string]string{
		"authorized": string(ssh.MarshalAuthorizedKey(key)),
		"fleetctl":   "#!/bin/sh\nMUSTERD_TEST_MAIN=1 exec " + binary + " \"$@\"\n",
		"config": fmt.Sprintf("ListenAddress %s\nPort %s\nHostKey %[3]s/host\nPidFile none\nAuthorizedKeysFile %[3]s/authorized\n"+
			"StrictModes no\nSetEnv PATH=%[3]s:/usr/bin:/bin\n", host, port, dir),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	keygen := exec.CommandContext(t.Context(), "ssh-keygen", "-q", "-N", "", "-t", "ed25519", "-f", filepath.Join(dir, "host"))
	if out, err := keygen.CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v\n%s", err, out)
	}
	opensshtest.Start(t, filepath.Join(dir, "config"))
	config := &ssh.ClientConfig{
		User: self.Username, Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)},
		HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: 10 * time.Second, // it was made a moment ago, here
	}
	deadline, tick := time.After(30*time.Second), time.NewTicker(20*time.Millisecond)
	defer tick.Stop()
	for {
		client, err := ssh.Dial("tcp", address, config)
		if err == nil {
			t.Cleanup(func() { _ = client.Close() })
			return client
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal(err)
		}
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
