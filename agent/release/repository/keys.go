package repository

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"filippo.io/age"
	"filippo.io/age/armor"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// Passphrase asks for the passphrase of an encrypted key file.
type Passphrase func(file string) (string, error)

// ErrPassphrase is a passphrase that does not open a key file.
var ErrPassphrase = errors.New("the passphrase is wrong")

// key is one that signs. It prints as its ID.
type key struct {
	id      string
	public  *metadata.Key
	private ed25519.PrivateKey
}

func (k key) String() string   { return k.id }
func (k key) GoString() string { return k.id }

func newKey(private ed25519.PrivateKey) (key, error) {
	public, err := metadata.KeyFromPublicKey(private.Public())
	if err != nil {
		return key{}, fmt.Errorf("cannot use a key: %w", err)
	}
	id, err := public.ID()
	if err != nil {
		return key{}, fmt.Errorf("cannot use a key: %w", err)
	}
	return key{id: id, public: public, private: private}, nil
}

func (k key) signer() (signature.Signer, error) {
	return signature.LoadSigner(k.private, crypto.Hash(0))
}

// createKey makes a key for a role and its file, encrypted if there is a passphrase.
func (r *Repository) createKey(role, passphrase string) (key, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return key{}, fmt.Errorf("cannot make the %s key: %w", role, err)
	}
	k, err := newKey(private)
	if err != nil {
		return key{}, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return key{}, fmt.Errorf("cannot make the %s key: %w", role, err)
	}
	data := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if passphrase != "" {
		if data, err = encrypt(data, passphrase, r.Work); err != nil {
			return key{}, fmt.Errorf("cannot encrypt the %s key: %w", role, err)
		}
	}
	return k, writeFile(keyFile(r.Keys, role, k.id), data, 0o600)
}

// keyFile is named after the role and the beginning of the key's ID, so that old keys and new ones lie side by side.
func keyFile(dir, role, id string) string { return filepath.Join(dir, role+"-"+id[:16]+".key") }

func encrypt(data []byte, passphrase string, work int) ([]byte, error) {
	recipient, err := age.NewScryptRecipient(passphrase)
	if err != nil {
		return nil, err
	}
	if work > 0 {
		recipient.SetWorkFactor(work)
	}
	var out bytes.Buffer
	text := armor.NewWriter(&out)
	w, err := age.Encrypt(text, recipient)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(data); err != nil {
		return nil, err
	}
	if err := errors.Join(w.Close(), text.Close()); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func decrypt(data []byte, passphrase string) ([]byte, error) {
	identity, err := age.NewScryptIdentity(passphrase)
	if err != nil {
		return nil, err
	}
	r, err := age.Decrypt(armor.NewReader(bytes.NewReader(data)), identity)
	if noMatch := (*age.NoIdentityMatchError)(nil); errors.As(err, &noMatch) {
		return nil, ErrPassphrase
	}
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(r, maxKey))
}

const maxKey = 64 << 10 // bytes of a key file

// loadKeys returns the keys of a role that the root names and that are in one of some directories or files.
func loadKeys(places []string, role string, ids []string, ask Passphrase) ([]key, error) {
	var keys []key
	for _, id := range ids {
		for _, place := range places {
			path := place
			if info, err := os.Stat(place); err == nil && info.IsDir() {
				path = keyFile(place, role, id)
			}
			k, err := loadKey(path, ask)
			if errors.Is(err, os.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, err
			}
			if k.id == id && !slices.ContainsFunc(keys, func(have key) bool { return have.id == id }) {
				keys = append(keys, k)
			}
		}
	}
	return keys, nil
}

func loadKey(path string, ask Passphrase) (key, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return key{}, fmt.Errorf("cannot read a key: %w", err)
	}
	if strings.HasPrefix(string(data), armor.Header) {
		if ask == nil {
			return key{}, fmt.Errorf("cannot read the key %s: it is encrypted, and nobody was asked for its passphrase", path)
		}
		passphrase, err := ask(path)
		if err != nil {
			return key{}, err
		}
		if data, err = decrypt(data, passphrase); err != nil {
			return key{}, fmt.Errorf("cannot read the key %s: %w", path, err)
		}
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "PRIVATE KEY" {
		return key{}, fmt.Errorf("cannot read the key %s: it is no private key", path)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return key{}, fmt.Errorf("cannot read the key %s: %w", path, err)
	}
	private, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return key{}, fmt.Errorf("cannot read the key %s: it is no Ed25519 key", path)
	}
	return newKey(private)
}
