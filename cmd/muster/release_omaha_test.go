package main

import (
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"encoding/xml"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/agent/omaha"
	"github.com/musterhq/muster/agent/release"
	"github.com/musterhq/muster/agent/release/repository"
)

// flatcarAnswer is what update_engine reads of an answer.
type flatcarAnswer struct {
	Check struct {
		Status string `xml:"status,attr"`
		URL    struct {
			Base string `xml:"codebase,attr"`
		} `xml:"urls>url"`
		Package struct {
			Name string `xml:"name,attr"`
			SHA1 string `xml:"hash,attr"`
		} `xml:"manifest>packages>package"`
	} `xml:"app>updatecheck"`
}

func fetch(t *testing.T, method, url, body string) []byte {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %s %v\n%s", method, url, resp.Status, err, data)
	}
	return data
}

// TestServeOmaha has a machine ask for a release, fetch it from where it is told, and come back with it; then the repository's
// metadata expires, and nothing is offered any more. What was told is remembered.
func TestServeOmaha(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	r := &repository.Repository{
		Dir: filepath.Join(dir, "releases"), Keys: filepath.Join(dir, "keys"), Life: time.Hour, Now: func() time.Time { return now },
	}
	payload := filepath.Join(dir, "flatcar_production_update.gz")
	if err := os.WriteFile(payload, []byte("payload"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.Init(repository.InitOptions{RootKeys: 1, Threshold: 1}); err != nil {
		t.Fatal(err)
	}
	if err := r.Add(t.Context(), release.Custom{Version: "4081.2.0", Engine: "flatcar", Arch: "amd64"}, []string{payload}); err != nil {
		t.Fatal(err)
	}
	c := &cli{err: io.Discard, out: io.Discard, now: r.Now}
	s, err := c.omahaServer(r, &omahaFlags{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- c.serveOmaha(ctx, s, machinesFile(r), r.Handler(), func(ctx context.Context, h http.Handler) error {
			return c.serveReleases(ctx, l, h, "", "")
		})
	}()
	ask := func(version, boot string) (a flatcarAnswer) {
		t.Helper()
		body := fetch(t, http.MethodPost, "http://"+l.Addr().String()+omaha.Path, `<request protocol="3.0"><app appid="`+omaha.AppID+
			`" version="`+version+`" track="alpha" machineid="m1" bootid="`+boot+`"><updatecheck/></app></request>`)
		if err := xml.Unmarshal(body, &a); err != nil {
			t.Fatalf("%v\n%s", err, body)
		}
		return a
	}
	a := ask("4000.0.0", "1")
	sum := sha1.Sum([]byte("payload"))
	got := fetch(t, http.MethodGet, a.Check.URL.Base+a.Check.Package.Name, "")
	if a.Check.Status != "ok" || !bytes.Equal(got, []byte("payload")) || a.Check.Package.SHA1 != base64.StdEncoding.EncodeToString(sum[:]) {
		t.Errorf("offered %+v, which is %q", a, got)
	}
	if a := ask("4081.2.0", "2"); a.Check.Status != "noupdate" {
		t.Errorf("a machine that runs it is answered %+v", a)
	}
	now = now.Add(2 * time.Hour)
	if a := ask("4000.0.0", "3"); a.Check.Status != "error-internal" {
		t.Errorf("expired metadata is answered %+v", a)
	}
	fetch(t, http.MethodGet, "http://"+l.Addr().String()+"/metadata/timestamp.json", "") // for all other hosts
	cancel()
	if err := <-done; err != nil {
		t.Errorf("interrupted: %v", err)
	}
	is, err := readMachines(machinesFile(r))
	if err != nil || is.Machines["m1"] == nil || is.Machines["m1"].Offered != "4081.2.0" {
		t.Errorf("remembered %+v, %v", is, err)
	}
}
