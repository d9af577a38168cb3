package join

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/cluster/pki"
	"github.com/musterhq/muster/cluster/roster"
)

// admitted returns a host's configuration and the reply to it.
func admitted(t *testing.T, w *world, s Storage) (Config, Reply) {
	t.Helper()
	cfg, _ := w.invite(time.Hour)
	key, err := s.Key()
	if err != nil {
		t.Fatal(err)
	}
	req := Request{Host: cfg.Host, HostID: cfg.HostID, Token: cfg.Token}
	reply, err := w.Admit(t.Context(), req, &key.PublicKey, netip.MustParseAddr("127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	return cfg, reply
}

func openStorage(t *testing.T, root string) Storage {
	t.Helper()
	s, err := OpenStorage(root)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStorage(t *testing.T) {
	root := t.TempDir()
	s := openStorage(t, root)
	w := newWorld(t)
	cfg, reply := admitted(t, w, s)
	if _, err := s.Load(cfg); !errors.Is(err, ErrNoIdentity) {
		t.Fatalf("before the join: %v", err)
	}
	if err := s.Save(cfg, reply); err != nil {
		t.Fatal(err)
	}
	id, err := openStorage(t, root).Load(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if string(id.Chain) != reply.Certificate || id.Issuer == nil || id.Voter.InitialCluster[cfg.HostID] == "" ||
		len(id.Roster) != 1 || !id.Root.Equal(w.root.Cert) {
		t.Errorf("loaded %v", id)
	}
	if id.Voter.IssuerKey != "" {
		t.Error("reply.json holds the issuer's key a second time")
	}
	other := cfg
	other.HostID = strings.Repeat("b", 32)
	if _, err := s.Load(other); !errors.Is(err, ErrOtherIdentity) {
		t.Errorf("another host's: %v", err)
	}
	if err := s.SaveRoster(append(id.Roster, roster.Host{Name: "n2"})); err != nil {
		t.Fatal(err)
	}
	if id, err = s.Load(cfg); err != nil || len(id.Roster) != 2 || id.Voter == nil {
		t.Errorf("after SaveRoster: %v, %v", id, err)
	}
	checkModes(t, root)
}

func checkModes(t *testing.T, root string) {
	t.Helper()
	dir := filepath.Join(root, StoragePath)
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		want := fs.FileMode(0o600)
		if d.IsDir() {
			want = 0o700
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestStorageCrash removes the files of a save one after the other, from the last written: until the last is there, the
// host has not joined, and its key stays the same throughout.
func TestStorageCrash(t *testing.T) {
	root := t.TempDir()
	s := openStorage(t, root)
	key, err := s.Key()
	if err != nil {
		t.Fatal(err)
	}
	cfg, reply := admitted(t, newWorld(t), s)
	if err := s.Save(cfg, reply); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{s.replyFile(), s.CertFile(), s.issuerKeyFile(), s.issuerCertFile(), s.CAFile()} {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Load(cfg); !errors.Is(err, ErrNoIdentity) {
			t.Errorf("without %s: %v", name, err)
		}
		again, err := openStorage(t, root).Key()
		if err != nil || !again.Equal(key) {
			t.Errorf("the key changed: %v", err)
		}
	}
}

func TestSaveCertificate(t *testing.T) {
	s := openStorage(t, t.TempDir())
	w := newWorld(t)
	cfg, reply := admitted(t, w, s)
	if err := s.Save(cfg, reply); err != nil {
		t.Fatal(err)
	}
	key, err := s.Key()
	if err != nil {
		t.Fatal(err)
	}
	later, err := w.issuer.SignHost(&key.PublicKey, reply.Roster[0], testCluster, time.Now().Add(12*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SaveCertificate(later); err != nil {
		t.Fatal(err)
	}
	id, err := s.Load(cfg)
	if err != nil || string(id.Chain) != string(later) {
		t.Errorf("after renewal: %v, %v", id, err)
	}
	foreign, err := w.issuer.SignHost(&newKey(t).PublicKey, reply.Roster[0], testCluster, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SaveCertificate(foreign); err == nil {
		t.Error("a certificate for another key is saved")
	}
	if _, err := pki.NewSource(s.CertFile(), s.KeyFile()); err != nil {
		t.Error(err)
	}
}

func TestStorageRefuses(t *testing.T) {
	for name, content := range map[string]string{
		"torn":            `{"version":1`,
		"unknown version": `{"version":2}`,
	} {
		t.Run(name, func(t *testing.T) {
			s := openStorage(t, t.TempDir())
			cfg, reply := admitted(t, newWorld(t), s)
			if err := s.Save(cfg, reply); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(s.replyFile(), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Load(cfg); err == nil || errors.Is(err, ErrNoIdentity) {
				t.Errorf("got %v", err)
			}
		})
	}
}
