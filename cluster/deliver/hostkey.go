package deliver

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// keyring is the host keys of a known_hosts file (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT).
type keyring struct {
	file        string
	check       ssh.HostKeyCallback
	authorities [][]byte      // keys of @cert-authority lines
	probe       ssh.PublicKey // a key that nobody has
}

// openKeyring reads a known_hosts file. One that is not there is empty, unless it must be.
func openKeyring(file string, must bool) (keyring, error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) && !must {
		data, err = nil, nil
	}
	if err != nil {
		return keyring{}, fmt.Errorf("cannot read known hosts: %w", err)
	}
	k := keyring{file: file, check: func(string, net.Addr, ssh.PublicKey) error { return new(knownhosts.KeyError) }}
	if data != nil {
		if k.check, err = knownhosts.New(file); err != nil {
			return keyring{}, fmt.Errorf("cannot use the known hosts in %s: %w", file, err)
		}
	}
	for rest := data; ; {
		var marker string
		var key ssh.PublicKey
		if marker, _, key, _, rest, err = ssh.ParseKnownHosts(rest); err != nil {
			break // the end: knownhosts.New has read every line
		}
		if marker == "cert-authority" {
			k.authorities = append(k.authorities, key.Marshal())
		}
	}
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err == nil {
		k.probe, err = ssh.NewPublicKey(public)
	}
	return k, err
}

// offers are the kinds of keys to ask a host for, one list for each attempt: certificates where an authority is known for
// the host, and the kinds of its own keys that are known. An SSH server shows one key only, of the first kind that suits.
func (k keyring) offers(address string, remote net.Addr, console []ssh.PublicKey) [][]string {
	var known *knownhosts.KeyError
	var plain []string
	certified := false
	if errors.As(k.check(address, remote, k.probe), &known) {
		for _, want := range known.Want {
			if slices.ContainsFunc(k.authorities, func(a []byte) bool { return bytes.Equal(a, want.Key.Marshal()) }) {
				certified = true
			} else {
				plain = append(plain, signatures(want.Key.Type())...)
			}
		}
	}
	for _, key := range console {
		plain = append(plain, signatures(key.Type())...)
	}
	var lists [][]string
	if certified {
		lists = append(lists, certificates)
	}
	if len(plain) > 0 {
		lists = append(lists, plain)
	}
	if len(lists) == 0 {
		lists = append(lists, anyKind) // to tell which
	}
	return lists
}

var anyKind = []string{
	ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256,
}

var certificates = []string{
	ssh.CertAlgoED25519v01, ssh.CertAlgoECDSA256v01, ssh.CertAlgoECDSA384v01, ssh.CertAlgoECDSA521v01,
	ssh.CertAlgoRSASHA512v01, ssh.CertAlgoRSASHA256v01,
}

// signatures are the algorithms of a kind of key (RFC 8332).
func signatures(kind string) []string {
	if kind == ssh.KeyAlgoRSA {
		return []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
	}
	return []string{kind}
}

// callback accepts the keys of the keyring, and those that the host's console showed unless they are revoked.
func (k keyring) callback(console []ssh.PublicKey) ssh.HostKeyCallback {
	return func(address string, remote net.Addr, key ssh.PublicKey) error {
		err := k.check(address, remote, key)
		var stranger *knownhosts.KeyError
		shown := slices.ContainsFunc(console, func(c ssh.PublicKey) bool { return bytes.Equal(c.Marshal(), key.Marshal()) })
		if errors.As(err, &stranger) && shown {
			return nil
		}
		if err != nil {
			return &HostKeyError{Address: address, Key: ssh.FingerprintSHA256(key), Kind: key.Type(), File: k.file, Err: err}
		}
		return nil
	}
}

// HostKeyError says that nobody vouches for the key that a host shows. Nothing was sent to it.
type HostKeyError struct {
	Address string
	Kind    string // of the key, as ssh-ed25519
	Key     string // its fingerprint
	File    string // the known_hosts file that was asked
	Err     error
}

func (e *HostKeyError) Error() string {
	var known *knownhosts.KeyError
	shows := fmt.Sprintf("%s shows the SSH key %s %s", e.Address, e.Kind, e.Key)
	switch {
	case errors.As(e.Err, &known) && len(known.Want) > 0:
		return fmt.Sprintf("%s, and not the one that %s has in line %d: it may be somebody else; "+
			"remove the line if the address has a new host; nothing was sent", shows, known.Want[0].Filename, known.Want[0].Line)
	case errors.As(e.Err, &known):
		return fmt.Sprintf("%s, which is not known: put it into %s if it is the host's, "+
			"or an authority that signs hosts' keys; nothing was sent", shows, e.File)
	default:
		return fmt.Sprintf("%s, which cannot be trusted: %v; nothing was sent", shows, e.Err)
	}
}

// Unwrap is the cause.
func (e *HostKeyError) Unwrap() error { return e.Err }

// The lines around the keys that cloud-init (keys_to_console) and musterd's first boot print.
const (
	beginKeys = "-----BEGIN SSH HOST KEY KEYS-----"
	endKeys   = "-----END SSH HOST KEY KEYS-----"
)

// shownKey is a key as it stands in a line of a console, perhaps after a time and the name of a program.
var shownKey = regexp.MustCompile(`\b(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(?:256|384|521)) [A-Za-z0-9+/]+=*`)

// maxLine bounds a line of a console.
const maxLine = 1 << 20

// keysOnConsole finds the keys that a host has printed: those of the last whole block, since it may have been made from a
// disk that booted before. A line that something else was written into is no key.
func keysOnConsole(r io.Reader) ([]ssh.PublicKey, error) {
	var last, current []ssh.PublicKey
	inside := false
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		switch line := lines.Text(); {
		case strings.Contains(line, beginKeys):
			inside, current = true, nil
		case strings.Contains(line, endKeys) && inside:
			inside, last = false, current
		case inside:
			if key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(shownKey.FindString(line))); err == nil {
				current = append(current, key)
			}
		}
	}
	return last, lines.Err()
}
