package repository

import (
	"net/http"
	"os"
	"path"
	"strings"
)

// Handler serves a repository to hosts: its metadata and its files, with ranges, and nothing else of the directory. Metadata
// is not to be cached, since an old timestamp is of no use; files never change.
func (r *Repository) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Method != http.MethodGet && req.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "this is read only", http.StatusMethodNotAllowed)
			return
		}
		name := path.Clean("/" + req.URL.Path)
		metadata := strings.HasPrefix(name, "/metadata/")
		if !metadata && !strings.HasPrefix(name, "/targets/") || strings.Contains(name, "/.") {
			http.NotFound(w, req)
			return
		}
		root, err := os.OpenRoot(r.Dir) // links that lead out of the directory are not followed
		if err != nil {
			http.NotFound(w, req)
			return
		}
		defer func() { _ = root.Close() }()
		f, err := root.Open(strings.TrimPrefix(name, "/"))
		if err != nil {
			http.NotFound(w, req)
			return
		}
		defer func() { _ = f.Close() }()
		info, err := f.Stat()
		if err != nil || !info.Mode().IsRegular() {
			http.NotFound(w, req)
			return
		}
		w.Header().Set("Cache-Control", "no-cache")
		if !metadata {
			w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
			w.Header().Set("Content-Type", "application/octet-stream")
		}
		http.ServeContent(w, req, "", info.ModTime(), f)
	})
}
