package release_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/musterhq/muster/agent/release"
)

// newMirror serves the world's repository as it is.
func newMirror(t *testing.T, w *world) string {
	t.Helper()
	s := httptest.NewServer(http.FileServer(http.Dir(w.repo.Dir)))
	t.Cleanup(s.Close)
	return s.URL
}

func (w *world) check(c *release.Client) release.Release {
	w.t.Helper()
	r, err := c.Check(w.t.Context(), host)
	w.must(err)
	return r
}

func TestFetch(t *testing.T) {
	w := newWorld(t)
	c, dir := w.client(nil), t.TempDir()
	r := w.check(c)
	if r.Version != "1.1.0" {
		t.Fatalf("the newest is %s", r.Version)
	}
	files, err := c.Fetch(t.Context(), r, dir)
	w.must(err)
	want := release.Fetched{Name: "image.raw", Path: filepath.Join(dir, "image.raw"), Size: int64(len(newImage)), SHA256: r.Contents[0].SHA256}
	if len(files) != 1 || files[0] != want {
		t.Fatalf("files: %+v, want %+v", files, want)
	}
	path := pathOf("1.1.0", newImage)
	if _, err := c.Fetch(t.Context(), r, dir); err != nil || w.served[path] != want.Size {
		t.Errorf("what is there was fetched again: %d bytes in all: %v", w.served[path], err)
	}
	w.must(os.WriteFile(want.Path, oldImage, 0o600)) // the disk forgot
	if _, err := c.Fetch(t.Context(), r, dir); err != nil || w.served[path] != 2*want.Size {
		t.Errorf("what is wrong was kept: %d bytes in all: %v", w.served[path], err)
	}
	if got, err := os.ReadFile(want.Path); err != nil || !bytes.Equal(got, newImage) {
		t.Errorf("the file is another: %v", err)
	}
	if len(w.alarmed()) > 0 {
		t.Errorf("alarms: %v", w.alarmed())
	}
}

// A download that is cut off again and again goes on where it was, and nothing is read twice.
func TestFetchGoesOn(t *testing.T) {
	w := newWorld(t)
	path := pathOf("1.1.0", newImage)
	const piece = 40_000
	w.evil[path] = func(rw http.ResponseWriter, r *http.Request) {
		var from int
		if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from); err == nil {
			rw.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(newImage)-1, len(newImage)))
			rw.WriteHeader(http.StatusPartialContent)
		}
		n, _ := (&counted{rw, w, path}).Write(newImage[from:min(from+piece, len(newImage))])
		if from+n < len(newImage) {
			panic(http.ErrAbortHandler) // the connection is lost
		}
	}
	c, dir := w.client(nil), t.TempDir()
	r := w.check(c)
	tries := 0
	for ; ; tries++ {
		if _, err := c.Fetch(t.Context(), r, dir); err == nil {
			break
		} else if tries > 10 {
			t.Fatal(err)
		}
	}
	if want := (len(newImage) - 1) / piece; tries != want {
		t.Errorf("cut off %d times, want %d", tries, want)
	}
	if w.served[path] != int64(len(newImage)) {
		t.Errorf("%d bytes were served of a file of %d", w.served[path], len(newImage))
	}
	if len(w.alarmed()) > 0 {
		t.Errorf("alarms: %v", w.alarmed())
	}
}

// What is left of a download on disk is not believed either; a server without ranges gives all of it again.
func TestFetchBeginsAnew(t *testing.T) {
	for name, left := range map[string][]byte{"wrong": oldImage[:50_000], "whole and wrong": oldImage, "too long": append(bytes.Clone(newImage), 'x')} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			c, dir := w.client(nil), t.TempDir()
			r := w.check(c)
			w.must(os.WriteFile(filepath.Join(dir, ".image.raw."+r.Contents[0].SHA256[:16]+".part"), left, 0o600))
			_, err := c.Fetch(t.Context(), r, dir)
			w.must(err)
			if len(w.alarmed()) > 0 {
				t.Errorf("alarms: %v", w.alarmed())
			}
		})
	}
}

func TestNoMirrorAnswers(t *testing.T) {
	w := newWorld(t)
	c := w.client(func(c *release.Config) { c.Mirrors = []string{"http://127.0.0.1:1/"} })
	_, err := c.Check(t.Context(), host)
	var refusal *release.Refusal
	if err == nil || errors.As(err, &refusal) || len(w.alarmed()) > 0 {
		t.Errorf("silence is no attack: %v", err)
	}
}

// peer is a host of a fleet.
type peer struct {
	client *release.Client
	dir    string
}

// newFleet makes hosts that know each other.
func newFleet(t *testing.T, w *world, n int) []peer {
	t.Helper()
	fleet := make([]peer, n)
	known := make([]release.Peer, n)
	origin := w.server()
	for i := range fleet {
		shelf := release.NewShelf(0, 8)
		s := httptest.NewServer(http.StripPrefix("/files/", shelf))
		t.Cleanup(s.Close)
		known[i] = release.Peer{ID: fmt.Sprintf("host-%d", i), URL: s.URL + "/files", HTTP: s.Client()}
		fleet[i].dir = t.TempDir()
		fleet[i].client = w.client(func(c *release.Config) {
			c.Mirrors, c.Shelf = []string{origin}, shelf
			c.Peers = func(context.Context) []release.Peer {
				all := append([]release.Peer{}, known...)
				all[i].Self = true
				return all
			}
		})
	}
	return fleet
}

// A fleet that begins at once takes about one copy from the origin.
func TestPeersFirst(t *testing.T) {
	const hosts = 24
	w := newWorld(t)
	fleet := newFleet(t, w, hosts)
	var wg sync.WaitGroup
	for _, p := range fleet {
		wg.Go(func() {
			r, err := p.client.Check(t.Context(), host)
			if err == nil {
				_, err = p.client.Fetch(t.Context(), r, p.dir)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, p := range fleet {
		if got, err := os.ReadFile(filepath.Join(p.dir, "image.raw")); err != nil || !bytes.Equal(got, newImage) {
			t.Errorf("the file is another: %v", err)
		}
	}
	copies := float64(w.served[pathOf("1.1.0", newImage)]) / float64(len(newImage))
	t.Logf("%d hosts took %.1f copies from the origin", hosts, copies)
	if copies > 2 {
		t.Errorf("%d hosts took %.1f copies from the origin, want 1 or 2", hosts, copies)
	}
	if len(w.alarmed()) > 0 {
		t.Errorf("alarms: %v", w.alarmed())
	}
}

// Peers are believed no more than mirrors, and one that lies, is slow, or is gone does not keep a host from the origin.
func TestHostilePeers(t *testing.T) {
	for name, tt := range map[string]struct {
		serve  http.HandlerFunc
		alarms []string
	}{
		"other bytes": {func(rw http.ResponseWriter, _ *http.Request) {
			_, _ = rw.Write(bytes.Repeat([]byte("malware of one!"), 10_000))
		}, []string{"release.arbitrary-installation"}},
		"another release": {
			func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write(oldImage) },
			[]string{"release.wrong-software"},
		},
		"endless": {func(rw http.ResponseWriter, _ *http.Request) {
			_, _ = rw.Write(append(bytes.Clone(newImage), newImage...))
		}, []string{"release.endless-data"}},
		"broken":  {func(rw http.ResponseWriter, _ *http.Request) { http.Error(rw, "no", http.StatusInternalServerError) }, nil},
		"gone":    {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, nil},
		"nothing": {func(rw http.ResponseWriter, r *http.Request) { http.NotFound(rw, r) }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			s := httptest.NewServer(tt.serve)
			t.Cleanup(s.Close)
			c := w.client(func(c *release.Config) {
				c.Peers = func(context.Context) []release.Peer {
					return []release.Peer{{ID: "a", URL: s.URL, HTTP: s.Client()}, {ID: "b", Self: true}}
				}
			})
			_, err := c.Fetch(t.Context(), w.check(c), t.TempDir())
			w.must(err)
			if got := w.alarmed(); fmt.Sprint(got) != fmt.Sprint(tt.alarms) {
				t.Errorf("alarms: %v, want %v", got, tt.alarms)
			}
		})
	}
}
