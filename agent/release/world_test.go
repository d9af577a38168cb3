package release_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/musterhq/muster/agent/release"
	"github.com/musterhq/muster/agent/release/repository"
)

// world is a repository with two releases, a server of it that can be made hostile, and a host that reads it.
type world struct {
	t    *testing.T
	repo *repository.Repository
	root []byte // that hosts are given
	now  time.Time

	mu     sync.Mutex
	evil   map[string]http.HandlerFunc // what is served instead, by path
	served map[string]int64            // bytes, by path
	alarms []*release.Refusal
	seen   func() // has the host of a test read the repository
}

// The releases' one file has different contents of one length.
var (
	oldImage = bytes.Repeat([]byte("the old image. "), 10_000)
	newImage = bytes.Repeat([]byte("the new image. "), 10_000)
)

// pristine is a repository that is made once, since signing and syncing take their time, and copied for each test.
var pristine = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "muster-release-")
	if err != nil {
		return "", err
	}
	r := repositoryIn(dir, func() time.Time { return begin })
	err = r.Init(repository.InitOptions{RootKeys: 2, Threshold: 2})
	return dir, errors.Join(err, addTo(r, dir, "1.0.0", oldImage), addTo(r, dir, "1.1.0", newImage))
})

var begin = time.Date(2026, 11, 3, 12, 0, 0, 0, time.UTC)

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := pristine(); err == nil {
		_ = os.RemoveAll(dir)
	}
	os.Exit(code)
}

func repositoryIn(dir string, now func() time.Time) *repository.Repository {
	return &repository.Repository{Dir: filepath.Join(dir, "repo"), Keys: filepath.Join(dir, "keys"), Life: repository.DefaultLife, Now: now}
}

// addTo adds a release of one file to all channels.
func addTo(r *repository.Repository, scratch, version string, content []byte) error {
	image := filepath.Join(scratch, "image.raw")
	return errors.Join(os.WriteFile(image, content, 0o600),
		r.Add(context.Background(), release.Custom{Version: version, Engine: "ab", Arch: "amd64"}, []string{image}),
		r.Promote(repository.Select{Version: version}, "stable"))
}

// rootOf is the first root of a repository, which hosts are given.
func rootOf(dir string) ([]byte, error) {
	return os.ReadFile(filepath.Join(dir, "repo", "metadata", "1.root.json"))
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, now: begin, evil: map[string]http.HandlerFunc{}, served: map[string]int64{}}
	from, err := pristine()
	w.must(err)
	dir := t.TempDir()
	w.must(os.CopyFS(dir, os.DirFS(from)))
	w.repo = repositoryIn(dir, func() time.Time { return w.now })
	w.root, err = rootOf(dir)
	w.must(err)
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// ServeHTTP serves the repository, or what is worse.
func (w *world) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	evil := w.evil[r.URL.Path]
	w.mu.Unlock()
	if evil != nil {
		evil(rw, r)
		return
	}
	http.FileServer(http.Dir(w.repo.Dir)).ServeHTTP(&counted{rw, w, r.URL.Path}, r)
}

// counted counts what is sent.
type counted struct {
	http.ResponseWriter
	w    *world
	path string
}

func (c *counted) Write(b []byte) (int, error) {
	c.w.mu.Lock()
	c.w.served[c.path] += int64(len(b))
	c.w.mu.Unlock()
	return c.ResponseWriter.Write(b)
}

func (w *world) server() string {
	s := httptest.NewServer(w)
	w.t.Cleanup(s.Close)
	return s.URL
}

// replace serves bytes in the place of a file.
func (w *world) replace(path string, content []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.evil[path] = func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write(content) }
}

func (w *world) read(path string) []byte {
	w.t.Helper()
	data, err := os.ReadFile(filepath.Join(w.repo.Dir, path))
	w.must(err)
	return data
}

// client is a host's.
func (w *world) client(change func(*release.Config)) *release.Client {
	w.t.Helper()
	cfg := release.Config{
		Root: w.root, Dir: w.t.TempDir(), Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return w.now },
		Alarm: func(r *release.Refusal) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.alarms = append(w.alarms, r)
		},
	}
	if change != nil {
		change(&cfg)
	}
	if cfg.Mirrors == nil {
		cfg.Mirrors = []string{w.server()}
	}
	c, err := release.New(cfg)
	w.must(err)
	return c
}

// alarmed tells the events of the alarms that were raised.
func (w *world) alarmed() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var events []string
	for _, a := range w.alarms {
		events = append(events, a.Attack.Event())
	}
	return events
}

var host = release.Host{Version: "1.0.0", Channel: "stable", Engine: "ab", Arch: "amd64"}

// steal takes a role's keys from the repository, as an attacker might.
func (w *world) steal(role string) []signature.Signer {
	w.t.Helper()
	files, err := filepath.Glob(filepath.Join(w.repo.Keys, role+"-*.key"))
	w.must(err)
	var signers []signature.Signer
	for _, file := range files {
		data, err := os.ReadFile(file)
		w.must(err)
		block, _ := pem.Decode(data)
		private, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		w.must(err)
		signer, err := signature.LoadSigner(private.(ed25519.PrivateKey), crypto.Hash(0))
		w.must(err)
		signers = append(signers, signer)
	}
	return signers
}

// forge changes metadata of the repository, signs it with some keys, and serves it under a name.
func forge[T metadata.Roles](w *world, from, as string, change func(*T), signers ...signature.Signer) []byte {
	w.t.Helper()
	md, err := new(metadata.Metadata[T]).FromBytes(w.read("metadata/" + from))
	w.must(err)
	change(&md.Signed)
	md.Signatures = nil
	for _, s := range signers {
		_, err := md.Sign(s)
		w.must(err)
	}
	data, err := md.ToBytes(false)
	w.must(err)
	w.replace("/metadata/"+as, data)
	return data
}

func (w *world) newest(role string) string {
	w.t.Helper()
	roles, err := w.repo.Roles()
	w.must(err)
	for _, r := range roles {
		if r.Name == role {
			return strings.ReplaceAll("N."+role+".json", "N", itoa(r.Version))
		}
	}
	w.t.Fatal("no role " + role)
	return ""
}
