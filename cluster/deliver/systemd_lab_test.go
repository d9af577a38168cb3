//go:build lab

package deliver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/musterhq/muster/agent/runtime/systemd/nspawntest"
	"github.com/musterhq/muster/cloudconfig"
	"github.com/musterhq/muster/cluster/join"
	"github.com/musterhq/muster/cluster/pki"
	"github.com/musterhq/muster/providers"
)

// awaiting is the document of a host that waits for its musterd.
func awaiting(t *testing.T) cloudconfig.Document {
	t.Helper()
	const cluster = "0b0e7f6e-7f5a-4a43-9c3f-6a3d5a0e1c55"
	root, err := pki.NewRoot(cluster, "demo", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	config, err := json.Marshal(join.Config{
		Version: 1, ClusterID: cluster, ClusterName: "demo", Host: "node-1", HostID: "0123456789abcdef0123456789abcdef",
		Generation: 1, CA: string(root.CertPEM()), Token: "t", LeaseMillis: 5000,
	})
	if err != nil {
		t.Fatal(err)
	}
	doc, err := cloudconfig.FirstBoot{Hostname: "node-1", ConfigPath: join.ConfigPath, Config: config, Awaits: true}.Document()
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// serverConfig has a host's SSH server use what the test gave it, whoever owns the directories above.
const serverConfig = "HostKey /etc/muster-test/host\nAuthorizedKeysFile /etc/muster-test/authorized\nStrictModes no\n"

// startAwaiting starts a host as cloud-init leaves it behind, with the files of its user-data. It returns the port on
// which its SSH server answers.
func startAwaiting(t *testing.T, doc cloudconfig.Document, user []byte) (h *nspawntest.Host, port int) {
	t.Helper()
	_, hostKey := newKey(t, "")
	files := map[string][]byte{
		"/etc/muster-test/host": hostKey, "/etc/muster-test/authorized": user, "/etc/muster-test/config": []byte(serverConfig),
	}
	for _, f := range doc.WriteFiles {
		data, err := f.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		files[f.Path] = data
	}
	h = nspawntest.Start(t, nspawntest.Tree(t), "node-1", nspawntest.Options{
		Mask: []string{"muster-firstboot.service"},
		Prepare: func(root string) error {
			for path, data := range files {
				path = filepath.Join(root, path)
				if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, data, 0o600)); err != nil {
					return err
				}
			}
			return nil
		},
	})
	return h, answerAll(t, h)
}

// answerAll accepts connections until the test ends. An SSH server of the host runs for each, as ssh.socket would have it.
func answerAll(t *testing.T, h *nspawntest.Host) (port int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			answer(t, h, conn.(*net.TCPConn))
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		accepting.Wait()
	})
	return l.Addr().(*net.TCPAddr).Port
}

// answer has a server of the host talk on a connection.
func answer(t *testing.T, h *nspawntest.Host, conn *net.TCPConn) {
	f, err := conn.File()
	_ = conn.Close()
	if err != nil {
		t.Error(err)
		return
	}
	defer func() { _ = f.Close() }()
	var log bytes.Buffer
	sshd := h.Command(t.Context(), "sh", "-c", "mkdir -p /run/sshd && exec /usr/sbin/sshd -i -e -f /etc/muster-test/config")
	sshd.Stdin, sshd.Stdout, sshd.Stderr = f, f, &log
	if err := sshd.Run(); err != nil && t.Context().Err() == nil {
		t.Logf("sshd: %v\n%s", err, log.String())
	}
}

// buildMusterd builds the host's daemon for this machine.
func buildMusterd(t *testing.T) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "musterd")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", path, "../../cmd/musterd")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

// TestSystemdLab brings the real musterd to a host with systemd and OpenSSH of its own: its unit is passed over until the
// program is there, runs then, and is not disturbed by a push of the same program.
func TestSystemdLab(t *testing.T) {
	signer, identity := newKey(t, "")
	doc, musterd := awaiting(t), buildMusterd(t)
	h, port := startAwaiting(t, doc, []byte(knownLine("", signer.PublicKey())[1:]))
	show := func(property string) string {
		return strings.TrimSpace(h.Run(t, "systemctl", "show", "-P", property, cloudconfig.UnitName))
	}
	journal := func() string { return h.Run(t, "journalctl", "--no-pager", "-u", cloudconfig.UnitName) }
	printed := beginKeys + "\n" + h.Run(t, "ssh-keygen", "-y", "-f", "/etc/muster-test/host") + endKeys + "\n"
	s := openSSH{dir: t.TempDir(), port: port, user: "root"}
	p := s.operator(t, identity, "", map[string]providers.Consoler{"cloud": &console{texts: []string{printed}}})
	p.config.Musterd, p.target = musterd, cloudconfig.MusterdPath
	var err error
	if p.binaries, err = Binaries(musterd); err != nil {
		t.Fatal(err)
	}
	p.open(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()

	for _, command := range doc.RunCmd {
		h.Run(t, command.Args...)
	}
	h.Run(t, "systemctl", "start", cloudconfig.UnitName) // its job is done, and the unit was passed over
	if got := show("ActiveState"); got != "inactive" {
		t.Fatalf("without musterd the unit is %s", got)
	}
	if err := p.push(ctx); err != nil {
		t.Fatal(err)
	}
	h.Run(t, "systemctl", "start", cloudconfig.UnitName)
	pid := show("MainPID")
	if got := show("ActiveState"); got != "active" || pid == "0" {
		t.Fatalf("with musterd the unit is %s\n%s", got, journal())
	}
	if sum := h.Run(t, "sha256sum", "/proc/"+pid+"/exe"); !strings.HasPrefix(sum, p.binaries[0].SHA256) {
		t.Errorf("another program runs: %s", sum)
	}
	if err := p.push(ctx); err != nil {
		t.Fatal(err)
	}
	if again := show("MainPID"); again != pid {
		t.Errorf("the second push restarts musterd: %s, then %s\n%s", pid, again, journal())
	}
}
