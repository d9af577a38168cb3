package deliver

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/musterhq/muster/cluster/spec"
)

var discard = slog.New(slog.DiscardHandler)

// freeAddress is a loopback address with a port on which nobody listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// serving is a delivery that serves a musterd of these bytes to the hosts of one provider.
func serving(t *testing.T, address, text string) *Delivery {
	t.Helper()
	path := writeFile(t, filepath.Join(t.TempDir(), "musterd"), amd64(text))
	d, err := New(Config{Ways: map[string]spec.Musterd{"cloud": {Serve: address}}, Musterd: path, Log: discard})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func ask(t *testing.T, method, url string, header ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestServe(t *testing.T) {
	address, dir := freeAddress(t), filepath.Join(t.TempDir(), "copies")
	d := serving(t, address, "first")
	url := d.Downloads("cloud")[0].URLs[0]
	sum := d.Downloads("cloud")[0].SHA256
	if d.Downloads("cloud")[0].Architecture != "amd64" || url != "http://"+address+"/musterd/"+sum || d.Downloads("other") != nil {
		t.Fatalf("%+v", d.Downloads("cloud"))
	}
	if err := d.Open(t.Context(), dir, nil); err != nil {
		t.Fatal(err)
	}
	whole := string(amd64("first"))
	base := "http://" + address
	for _, tt := range []struct {
		method, url, span string
		status            int
		body              string
	}{
		{"GET", url, "", 200, whole},
		{"GET", url, "bytes=64-", 206, "first"},
		{"GET", url, "bytes=-2", 206, "st"},
		{"GET", url, "bytes=1000-", 416, ""},
		{"HEAD", url, "", 405, ""},
		{"PUT", url, "", 405, ""},
		{"POST", base + "/", "", 404, ""},
		{"GET", base + "/", "", 404, ""},
		{"GET", base + "/musterd/", "", 404, ""},
		{"GET", base + "/musterd/" + strings.Repeat("0", 64), "", 404, ""},
		{"GET", base + "/musterd/" + strings.ToUpper(sum), "", 404, ""},
		{"GET", base + "/musterd/../musterd/" + sum, "", 404, ""},
		{"GET", base + "/musterd/..%2f..%2f..%2fetc%2fpasswd", "", 404, ""},
		{"GET", url + "/", "", 404, ""},
	} {
		status, body := ask(t, tt.method, tt.url, "Range", tt.span)
		if status != tt.status || tt.body != "" && body != tt.body {
			t.Errorf("%s %s %s: %d, %d bytes", tt.method, tt.url, tt.span, status, len(body))
		}
	}
	if err := d.Close(nil); err != nil {
		t.Fatal(err)
	}
	if _, err := http.Get(url); err == nil {
		t.Error("it serves on after its end")
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("copies are left: %v", err)
	}
}

// TestServeWhatHostsWereTold builds musterd anew while a host has not fetched the old one.
func TestServeWhatHostsWereTold(t *testing.T) {
	address, dir := freeAddress(t), filepath.Join(t.TempDir(), "copies")
	d := serving(t, address, "old")
	old := d.Downloads("cloud")[0].URLs[0]
	told := [][]byte{[]byte("set -- '" + old + "'")}
	if err := d.Open(t.Context(), dir, nil); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(told); err != nil {
		t.Fatal(err)
	}
	d = serving(t, address, "new")
	if err := d.Open(t.Context(), dir, told); err != nil {
		t.Fatal(err)
	}
	for url, want := range map[string]string{old: "old", d.Downloads("cloud")[0].URLs[0]: "new"} {
		if status, body := ask(t, "GET", url); status != 200 || !strings.HasSuffix(body, want) {
			t.Errorf("%s: %d %q", want, status, body)
		}
	}
	if err := d.Close(told); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 || !strings.HasSuffix(old, left[0].Name()) {
		t.Errorf("copies left: %v, %v", left, err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	err := d.Open(t.Context(), dir, told)
	if err == nil || !strings.Contains(err.Error(), "put it back, or end these hosts with `muster down`") {
		t.Errorf("error %v", err)
	}
	elsewhere := [][]byte{[]byte("http://192.0.2.7:80/musterd/" + strings.Repeat("0", 64))}
	if err := d.Open(t.Context(), dir, elsewhere); err != nil {
		t.Errorf("a mirror's file is missed: %v", err)
	}
	if err := d.Close(nil); err != nil {
		t.Error(err)
	}
}

func TestServeCannotListen(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for address, want := range map[string]string{
		"192.0.2.1:8123":      "this machine has no such address",
		taken.Addr().String(): "something listens there already",
		"[2001:db8::1]:8123":  "cannot serve musterd at [2001:db8::1]:8123",
	} {
		d := serving(t, address, "")
		err := d.Open(t.Context(), t.TempDir(), nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func TestMusterdChangesMeanwhile(t *testing.T) {
	d := serving(t, freeAddress(t), "old")
	writeFile(t, d.config.Musterd, amd64("new"))
	err := d.Open(t.Context(), t.TempDir(), nil)
	if err == nil || !strings.Contains(err.Error(), "has just changed; run the command again") {
		t.Errorf("error %v", err)
	}
}

// TestServerBoundsConnections lets further ones wait until one ends.
func TestServerBoundsConnections(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := newLimited(inner, 1)
	accepted := make(chan net.Conn)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- conn
		}
	}()
	for range 2 {
		conn, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	first := <-accepted
	select {
	case <-accepted:
		t.Error("two at a time")
	default:
	}
	if len(l.slots) != 1 {
		t.Errorf("%d slots are taken", len(l.slots))
	}
	if err := errors.Join(first.Close(), (<-accepted).Close(), l.Close()); err != nil {
		t.Error(err)
	}
	<-done
}

func TestNothingToDeliver(t *testing.T) {
	d, err := New(Config{Musterd: "/nowhere/musterd"})
	if err != nil || d.Downloads("cloud") != nil {
		t.Errorf("%v", err)
	}
	_, err = New(Config{Ways: map[string]spec.Musterd{"cloud": {Push: &spec.Push{}}}, Musterd: "/nowhere/musterd"})
	if err == nil || !strings.Contains(err.Error(), "there is no musterd for hosts in /nowhere") {
		t.Errorf("error %v", err)
	}
}
