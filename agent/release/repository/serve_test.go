package repository_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/musterhq/muster/agent/release/repository"
)

func TestHandler(t *testing.T) {
	f := newFixture(t, repository.InitOptions{RootKeys: 1, Threshold: 1})
	f.must(f.add("1.0"))
	c, err := f.Catalog()
	f.must(err)
	f.must(os.WriteFile(filepath.Join(f.Dir, "notes"), []byte("mine"), 0o600))
	f.must(os.Symlink(f.file, filepath.Join(f.Dir, "targets", "out")))
	s := httptest.NewServer(f.Handler())
	t.Cleanup(s.Close)
	file := "/targets/dir/any/1.0/" + c.Releases[0].Contents[0].SHA256 + ".musterd"
	for _, tt := range []struct {
		method, path, part string
		status             int
		body               string
	}{
		{"GET", file, "", 200, "a program"},
		{"GET", file, "bytes=2-", 206, "program"},
		{"HEAD", "/metadata/timestamp.json", "", 200, ""},
		{"GET", "/metadata/9.root.json", "", 404, "404 page not found\n"},
		{"GET", "/metadata", "", 404, "404 page not found\n"},
		{"GET", "/metadata/", "", 404, "404 page not found\n"},
		{"GET", "/notes", "", 404, "404 page not found\n"},
		{"GET", "/targets/out", "", 404, "404 page not found\n"},
		{"GET", "/metadata/../../keys/.lock", "", 404, "404 page not found\n"},
		{"PUT", file, "", 405, "this is read only\n"},
	} {
		req, err := http.NewRequestWithContext(t.Context(), tt.method, s.URL+tt.path, nil)
		f.must(err)
		if tt.part != "" {
			req.Header.Set("Range", tt.part)
		}
		resp, err := s.Client().Do(req)
		f.must(err)
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		f.must(err)
		if resp.StatusCode != tt.status || string(body) != tt.body {
			t.Errorf("%s %s: %d %q, want %d %q", tt.method, tt.path, resp.StatusCode, body, tt.status, tt.body)
		}
	}
}
