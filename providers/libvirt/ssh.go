package libvirt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/musterhq/muster/providers"
)

// dialSSH connects to the daemon's socket through an SSH server. go-libvirt's own dialer leaves the SSH connection open
// when the one inside is closed, and takes host keys from a file alone.
func (p *Provider) dialSSH(ctx context.Context) (net.Conn, error) {
	config, release, err := p.sshConfig()
	if err != nil {
		return nil, err
	}
	defer release()
	dialer := net.Dialer{Timeout: dialTimeout}
	raw, err := dialer.DialContext(ctx, "tcp", p.at.address("22"))
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	defer stop()
	conn, channels, requests, err := ssh.NewClientConn(raw, p.at.address("22"), config)
	if err != nil {
		_ = raw.Close()
		return nil, p.sshError(err)
	}
	sshClient := ssh.NewClient(conn, channels, requests)
	inner, err := sshClient.DialContext(ctx, "unix", p.socket())
	if err != nil {
		_ = sshClient.Close()
		return nil, fmt.Errorf("%s on %s: %w: %w", p.socket(), p.at.host, err, providers.ErrUnavailable)
	}
	return &tunnel{Conn: inner, client: sshClient}, nil
}

// tunnel is a connection through SSH that takes the SSH connection with it.
type tunnel struct {
	net.Conn
	client *ssh.Client
}

func (t *tunnel) Close() error { return errors.Join(t.Conn.Close(), t.client.Close()) }

// sshConfig is how to log in. release closes the connection to the agent.
func (p *Provider) sshConfig() (_ *ssh.ClientConfig, release func(), err error) {
	check, algorithms, err := p.hostKeys()
	if err != nil {
		return nil, nil, err
	}
	name := p.at.user
	if name == "" {
		current, err := user.Current()
		if err != nil {
			return nil, nil, fmt.Errorf("no user for %s: write qemu+ssh://USER@%s/system: %w", p.at.host, p.at.host, providers.ErrInvalid)
		}
		name = current.Username
	}
	signers, release, err := p.signers()
	if err != nil {
		return nil, nil, err
	}
	return &ssh.ClientConfig{
		User: name, HostKeyCallback: check, HostKeyAlgorithms: algorithms, Timeout: dialTimeout,
		Auth: []ssh.AuthMethod{ssh.PublicKeysCallback(func() ([]ssh.Signer, error) { return signers, nil })},
	}, release, nil
}

// hostKeys is which keys the server may show: those of the configuration, else those of the known hosts' file.
func (p *Provider) hostKeys() (ssh.HostKeyCallback, []string, error) {
	if len(p.config.SSH.HostKeys) > 0 {
		return pinnedKeys(p.config.SSH.HostKeys)
	}
	file := p.config.SSH.KnownHosts
	if file == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return nil, nil, fmt.Errorf("no known hosts: set `ssh.host_keys`: %w", providers.ErrInvalid)
		}
		file = filepath.Join(home, ".ssh", "known_hosts")
	}
	check, err := knownhosts.New(file)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot read known hosts, set `ssh.known_hosts` or `ssh.host_keys`: %w: %w",
			err, providers.ErrNotFound)
	}
	return check, nil, nil
}

func pinnedKeys(lines []string) (ssh.HostKeyCallback, []string, error) {
	pinned := map[string]bool{}
	var algorithms []string
	for _, line := range lines {
		key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
		if err != nil {
			return nil, nil, fmt.Errorf("`ssh.host_keys`: %w: %w", err, providers.ErrInvalid)
		}
		pinned[string(key.Marshal())] = true
		if key.Type() == ssh.KeyAlgoRSA {
			algorithms = append(algorithms, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256)
		} else {
			algorithms = append(algorithms, key.Type())
		}
	}
	return func(_ string, _ net.Addr, key ssh.PublicKey) error {
		if !pinned[string(key.Marshal())] {
			return &knownhosts.KeyError{Want: []knownhosts.KnownKey{{Filename: "ssh.host_keys"}}}
		}
		return nil
	}, algorithms, nil
}

// signers are the keys to log in with: the configured one alone, else the agent's and those in files with usual names.
func (p *Provider) signers() (_ []ssh.Signer, release func(), err error) {
	if p.config.SSH.Key != "" {
		signer, err := readKey(p.config.SSH.Key)
		if err != nil {
			return nil, nil, fmt.Errorf("`ssh.key`: %w", err)
		}
		return []ssh.Signer{signer}, func() {}, nil
	}
	var signers []ssh.Signer
	release = func() {}
	if conn, err := net.Dial("unix", os.Getenv("SSH_AUTH_SOCK")); err == nil {
		release = func() { _ = conn.Close() }
		// An agent that does not answer has no keys.
		signers, _ = agent.NewClient(conn).Signers()
	}
	if home, err := os.UserHomeDir(); err == nil {
		for _, name := range []string{"id_ed25519", "id_ecdsa", "id_rsa"} {
			if signer, err := readKey(filepath.Join(home, ".ssh", name)); err == nil {
				signers = append(signers, signer)
			}
		}
	}
	return signers, release, nil
}

func readKey(path string) (ssh.Signer, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", err, providers.ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	signer, err := ssh.ParsePrivateKey(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", path, err, providers.ErrInvalid)
	}
	return signer, nil
}

// sshError says what to do about a login that failed.
func (p *Provider) sshError(err error) error {
	var unknown *knownhosts.KeyError
	switch {
	case errors.As(err, &unknown) && len(unknown.Want) == 0:
		return fmt.Errorf("the key of %s is not known: add it to `ssh.host_keys`: %w: %w", p.at.host, err, providers.ErrAuth)
	case errors.As(err, &unknown):
		return fmt.Errorf("%s shows another key than the one that is known, it may be somebody else: %w: %w",
			p.at.host, err, providers.ErrAuth)
	case strings.Contains(err.Error(), "unable to authenticate"):
		return fmt.Errorf("%s refuses the login, set `ssh.key` or the user in `uri`: %w: %w", p.at.host, err, providers.ErrAuth)
	case strings.Contains(err.Error(), "no common algorithm for host key"):
		return fmt.Errorf("%s has none of the keys in `ssh.host_keys`: %w: %w", p.at.host, err, providers.ErrAuth)
	}
	return err
}
