package firstboot

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/musterhq/muster/cloudconfig/hostfs"
)

// Where an SSH server and its host keys are (sshd_config(5)).
const (
	sshdPath      = "/usr/sbin/sshd"
	sshDir        = "/etc/ssh"
	hostKeyPrefix = "ssh_host_"
	hostKeyPath   = sshDir + "/ssh_host_ed25519_key"
)

// hostKeys gives the host an SSH key of its own, once for an instance: keys that were there before are those of an image,
// or of the machine that the disk was copied from. Keys that the user-data brings are left alone.
func (b *boot) hostKeys(context.Context) error {
	if b.Operator || !b.root.Exists(sshdPath) {
		return nil
	}
	brought := slices.ContainsFunc(b.record.Files, func(f hostfs.Written) bool {
		return strings.HasPrefix(f.Path, sshDir+"/"+hostKeyPrefix)
	})
	if brought || !b.newInstance && b.root.Exists(hostKeyPath) {
		return nil
	}
	if err := b.removeHostKeys(); err != nil {
		return fmt.Errorf("cannot remove the SSH keys of another machine: %w", err)
	}
	text, err := b.read(hostnamePath)
	if err != nil {
		return err
	}
	private, public, err := newHostKey("root@" + cmp.Or(strings.TrimSpace(string(text)), "localhost"))
	if err != nil {
		return fmt.Errorf("cannot make the host's SSH key: %w", err)
	}
	return errors.Join(b.write(hostKeyPath, private, 0o600, nil), b.write(hostKeyPath+".pub", public, 0o644, nil))
}

func (b *boot) removeHostKeys() error {
	names, err := b.hostKeyFiles()
	for _, name := range names {
		err = errors.Join(err, b.root.Remove(sshDir+"/"+name))
	}
	return err
}

// hostKeyFiles are the names of the private and public keys, in order.
func (b *boot) hostKeyFiles() ([]string, error) {
	names, err := b.root.ReadDir(sshDir)
	return slices.DeleteFunc(names, func(name string) bool {
		return !strings.HasPrefix(name, hostKeyPrefix) || !strings.HasSuffix(strings.TrimSuffix(name, ".pub"), "_key")
	}), err
}

// newHostKey makes an Ed25519 key pair as ssh-keygen writes it: the private key in OpenSSH's own format
// (PROTOCOL.key in its sources), the public one as a line of sshd(8)'s AUTHORIZED_KEYS format.
func newHostKey(comment string) (private, public []byte, err error) {
	const algorithm, blockSize = "ssh-ed25519", 8
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	var check [4]byte
	_, _ = rand.Read(check[:])
	blob := sshStrings(algorithm, string(pub))
	secret := slices.Concat(check[:], check[:], blob, sshStrings(string(key), comment))
	for pad := byte(1); len(secret)%blockSize != 0; pad++ {
		secret = append(secret, pad)
	}
	body := slices.Concat([]byte("openssh-key-v1\x00"), sshStrings("none", "none", ""), []byte{0, 0, 0, 1},
		sshStrings(string(blob), string(secret)))
	private = pem.EncodeToMemory(&pem.Block{Type: "OPENSSH PRIVATE KEY", Bytes: body})
	public = []byte(algorithm + " " + base64.StdEncoding.EncodeToString(blob) + " " + comment + "\n")
	return private, public, nil
}

// sshStrings encodes strings, each behind its length (RFC 4251, section 5).
func sshStrings(all ...string) []byte {
	var b []byte
	for _, s := range all {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
	}
	return b
}

// What cloud-init writes around the public keys on the console, which people and programs look for.
const (
	beginHostKeys = "-----BEGIN SSH HOST KEY KEYS-----\n"
	endHostKeys   = "-----END SSH HOST KEY KEYS-----\n"
)

// tellHostKeys prints the host's public SSH keys on its console, where whoever owns the machine reads them before the first
// connection. It is done at every boot, since what keeps a console forgets.
func (b *boot) tellHostKeys() {
	if b.Operator || b.Console == nil {
		return
	}
	names, err := b.hostKeyFiles()
	var lines strings.Builder
	for _, name := range names {
		if path.Ext(name) == ".pub" {
			text, readErr := b.read(sshDir + "/" + name)
			err = errors.Join(err, readErr)
			lines.WriteString(strings.TrimSpace(string(text)) + "\n")
		}
	}
	if err == nil && lines.Len() > 0 {
		// One write, so that nothing comes between the lines; and first an end to what may stand there.
		_, err = io.WriteString(b.Console, "\n"+beginHostKeys+lines.String()+endHostKeys)
	}
	if err != nil {
		b.Log.Warn("cannot print the host's SSH keys on the console", "error", err)
	}
}
