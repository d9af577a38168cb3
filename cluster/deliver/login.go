package deliver

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/musterhq/muster/cluster/spec"
)

// login is how to log in to the hosts of one provider.
type login struct {
	spec.Push
	signers []ssh.Signer
	keys    keyring
	agent   net.Conn // nil without one
}

// usualIdentities are the private keys that ssh(1) looks for.
var usualIdentities = []string{"id_ed25519", "id_ecdsa", "id_rsa"}

// openLogin reads keys and known hosts. socket is that of the SSH agent, "" without one; home is the home directory.
func openLogin(p spec.Push, home, socket string) (_ *login, err error) {
	l := &login{Push: p}
	if l.KnownHosts == "" {
		l.KnownHosts = filepath.Join(home, ".ssh", "known_hosts")
	}
	if l.keys, err = openKeyring(l.KnownHosts, p.KnownHosts != ""); err != nil {
		return nil, err
	}
	var held []ssh.Signer
	if socket != "" {
		if l.agent, err = net.Dial("unix", socket); err == nil {
			// An agent that does not answer has no keys.
			held, _ = agent.NewClient(l.agent).Signers()
		}
	}
	if err := l.choose(held, home); err != nil {
		return nil, errors.Join(err, l.close())
	}
	return l, nil
}

// choose decides which keys are shown to hosts: the one that is named, or all of the agent and the usual files. held are
// the agent's.
func (l *login) choose(held []ssh.Signer, home string) error {
	if l.Identity != "" {
		signer, err := readIdentity(l.Identity, held)
		if err != nil {
			return fmt.Errorf("cannot log in with %s: %w", l.Identity, err)
		}
		l.signers = []ssh.Signer{signer}
		return nil
	}
	l.signers = held
	for _, name := range usualIdentities {
		if signer, err := readIdentity(filepath.Join(home, ".ssh", name), nil); err == nil {
			l.signers = append(l.signers, signer)
		}
	}
	if len(l.signers) == 0 {
		return errors.New("there is no key to log in to hosts with: name one as `identity`, or give one to the SSH agent with `ssh-add`")
	}
	return nil
}

func (l *login) close() error {
	if l.agent == nil {
		return nil
	}
	return l.agent.Close()
}

// readIdentity reads a private key. One with a passphrase is taken from those that the agent holds.
func readIdentity(path string, held []ssh.Signer) (ssh.Signer, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	signer, err := ssh.ParsePrivateKey(data)
	var locked *ssh.PassphraseMissingError
	if !errors.As(err, &locked) {
		return signer, err
	}
	public, err := publicHalf(path, locked)
	if err != nil {
		return nil, err
	}
	for _, s := range held {
		if bytes.Equal(s.PublicKey().Marshal(), public.Marshal()) {
			return s, nil
		}
	}
	return nil, fmt.Errorf("it has a passphrase, for which muster does not ask: run `ssh-add %s`, so that the SSH agent holds it", path)
}

// publicHalf is the public key of a private one with a passphrase: in old formats it stands beside it alone.
func publicHalf(path string, locked *ssh.PassphraseMissingError) (ssh.PublicKey, error) {
	if locked.PublicKey != nil {
		return locked.PublicKey, nil
	}
	data, err := os.ReadFile(path + ".pub")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("it has a passphrase and there is no %s.pub: make that with `ssh-keygen -y`", path)
	}
	if err != nil {
		return nil, err
	}
	key, _, _, _, err := ssh.ParseAuthorizedKey(data)
	return key, err
}
