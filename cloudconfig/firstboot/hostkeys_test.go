package firstboot_test

import (
	"bytes"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/musterhq/muster/cloudconfig/firstboot"
)

// serverRoot is a root directory with an SSH server, and with keys that came with the image.
func serverRoot(t *testing.T) string {
	root := imageRoot(t)
	put(t, root, "usr/sbin/sshd", "")
	put(t, root, "etc/ssh/sshd_config", "")
	put(t, root, "etc/ssh/ssh_host_rsa_key", "the image's")
	put(t, root, "etc/ssh/ssh_host_rsa_key.pub", "ssh-rsa IMAGE\n")
	return root
}

func TestHostKeys(t *testing.T) {
	root := serverRoot(t)
	o, from, _ := boots(root, "#cloud-config\nhostname: node-1\n")
	boot := func(id string) string {
		t.Helper()
		var console bytes.Buffer
		o.Console = &console
		put(t, root, "proc/sys/kernel/random/boot_id", id)
		if err := firstboot.Run(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		return console.String()
	}
	told := boot("1")
	line, ok := strings.CutPrefix(told, "\n-----BEGIN SSH HOST KEY KEYS-----\n")
	line, ends := strings.CutSuffix(line, "-----END SSH HOST KEY KEYS-----\n")
	public, comment, _, rest, err := ssh.ParseAuthorizedKey([]byte(line))
	if !ok || !ends || err != nil || comment != "root@node-1" || len(rest) > 0 || !strings.HasPrefix(line, "ssh-ed25519 AAAA") {
		t.Fatalf("the console says %q, %v", told, err)
	}
	path := filepath.Join(root, "etc/ssh/ssh_host_ed25519_key")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.ParsePrivateKey(text)
	if err != nil || !bytes.Equal(signer.PublicKey().Marshal(), public.Marshal()) {
		t.Errorf("the private key is not the public one's: %v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if _, err := os.Lstat(filepath.Join(root, "etc/ssh/ssh_host_rsa_key")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the image's key is left: %v", err)
	}
	if again := boot("2"); again != told {
		t.Errorf("the second boot says %q", again)
	}
	from.data.InstanceID = "i-2"
	if other := boot("3"); other == told || other == "" {
		t.Errorf("another instance has the same key: %q", other)
	}
}

func TestHostKeysOfTheUserData(t *testing.T) {
	root := serverRoot(t)
	o, _, _ := boots(root, `#cloud-config
write_files:
  - {path: /etc/ssh/ssh_host_ecdsa_key, permissions: "0600", content: mine}
  - {path: /etc/ssh/ssh_host_ecdsa_key.pub, content: ecdsa-sha2-nistp256 MINE}
`)
	var console bytes.Buffer
	o.Console = &console
	if err := firstboot.Run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if told := console.String(); !strings.Contains(told, "\necdsa-sha2-nistp256 MINE\nssh-rsa IMAGE\n") || strings.Contains(told, "mine") {
		t.Errorf("the console says %q", told)
	}
}

// TestCommandsWaitForTheNetwork has an address come late.
func TestCommandsWaitForTheNetwork(t *testing.T) {
	o, _, running := boots(imageRoot(t), "#cloud-config\nruncmd: [fetch]\n")
	o.NetworkWait = firstboot.DefaultNetworkWait
	asked := 0
	o.Addresses = func() ([]netip.Addr, error) {
		addresses := []netip.Addr{netip.MustParseAddr("fe80::1")}
		if asked++; asked > 3 {
			addresses = append(addresses, netip.MustParseAddr("10.0.0.8"))
		}
		if len(running.calls) > 1 {
			t.Error("the commands did not wait")
		}
		return addresses, nil
	}
	if err := firstboot.Run(t.Context(), o); err != nil || len(running.calls) != 2 || asked < 4 {
		t.Errorf("%q after %d questions, %v", running.calls, asked, err)
	}
}
