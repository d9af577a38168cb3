package release_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/musterhq/muster/agent/release"
)

// FuzzCatalog reads targets metadata that the owner of the key might have signed. What is accepted has files with safe names in
// the directories of their releases.
func FuzzCatalog(f *testing.F) {
	f.Add([]byte(`{"_type":"targets","spec_version":"1.0.31","version":3,"expires":"2027-01-01T00:00:00Z","targets":{"ab/any/1/a":{` +
		`"length":3,"hashes":{"sha256":"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},"custom":{"version":"1",` +
		`"engine":"ab","arch":"any","channels":["alpha"],"files":["a"]}}},"muster":{"version":1,"minimum":{"ab":"1"},"revoked":{}}}`))
	f.Add([]byte(`{"_type":"targets","targets":{}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		targets, err := new(metadata.Metadata[metadata.TargetsType]).FromBytes([]byte(`{"signed":` + string(data) + `,"signatures":[]}`))
		if err != nil {
			return
		}
		catalog, err := release.ReadCatalog(targets.Signed)
		if err != nil {
			return
		}
		for _, r := range catalog.Releases {
			if err := r.Check(); err != nil || len(r.Contents) != len(r.Files) {
				t.Errorf("accepted %+v: %v", r, err)
			}
			for _, file := range r.Contents {
				if len(file.SHA256) != 64 || file.Size < 0 {
					t.Errorf("accepted %+v", file)
				}
			}
		}
	})
}

// FuzzMetadata serves any bytes in the place of each metadata file to a host that has seen the repository. Nothing that nobody
// signed makes it believe anything, or fall over.
func FuzzMetadata(f *testing.F) {
	from, err := pristine()
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{
		"", "null", `{"signed":{"_type":"timestamp","version":2,"meta":{"snapshot.json":null}},"signatures":[]}`,
		`{"signed":{"_type":"targets","version":1,"expires":"2027-01-01T00:00:00Z","targets":{"a":null}},"signatures":[]}`,
		`{"signed":{"_type":"root","version":2,"keys":{"a":null},"roles":{}},"signatures":[{"keyid":"a","sig":""}]}`,
	} {
		for which := range uint8(4) {
			f.Add(which, []byte(seed))
		}
	}
	names := []string{"/metadata/2.root.json", "/metadata/timestamp.json", "/metadata/5.snapshot.json", "/metadata/5.targets.json"}
	f.Fuzz(func(t *testing.T, which uint8, data []byte) {
		files := http.FileServer(http.Dir(from + "/repo"))
		serve := func(rw http.ResponseWriter, r *http.Request) {
			if r.URL.Path == names[int(which)%len(names)] {
				_, _ = rw.Write(data)
				return
			}
			files.ServeHTTP(rw, r)
		}
		root, err := rootOf(from)
		if err != nil {
			t.Fatal(err)
		}
		c, err := release.New(release.Config{
			Mirrors: []string{"http://releases.test"}, Root: root, Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler),
			Now: func() time.Time { return begin }, HTTP: &http.Client{Transport: inMemory(serve)},
		})
		if err != nil {
			t.Fatal(err)
		}
		if catalog, err := c.Catalog(t.Context()); err == nil && len(catalog.Releases) != 2 {
			t.Errorf("believed %+v", catalog)
		}
	})
}

// inMemory answers requests without a network.
type inMemory http.HandlerFunc

func (h inMemory) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	h(w, r)
	return w.Result(), nil
}
