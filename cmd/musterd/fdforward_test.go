package main

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// TestForward speaks HTTP through two pipes, as fleetctl does through an SSH session, and keeps the connection for a second
// request.
func TestForward(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "fleet.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.URL.Path)
	})}
	serving := make(chan error, 1)
	go func() { serving <- server.Serve(l) }()
	defer func() {
		_ = server.Close()
		<-serving
	}()

	stdin, write := io.Pipe()
	read, stdout := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- run(t.Context(), []string{"fd-forward", socket}, stdin, stdout, io.Discard)
		_ = stdout.Close()
	}()
	if _, err := io.WriteString(write, "GET /one HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 1<<10)
	n, err := read.Read(answer)
	if err != nil || !bytes.HasSuffix(answer[:n], []byte("/one")) {
		t.Fatalf("%q, %v", answer[:n], err)
	}
	if _, err := io.WriteString(write, "GET /two HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(read)
	if err != nil || !bytes.HasSuffix(rest, []byte("/two")) {
		t.Errorf("%q, %v", rest, err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	_ = write.Close()
}

// TestForwardEnds ends the input: the other side sees that, and what it still says arrives.
func TestForwardEnds(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "fleet.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		said, _ := io.ReadAll(conn)
		_, _ = conn.Write(bytes.ToUpper(said))
	}()
	var out bytes.Buffer
	if err := run(t.Context(), []string{"fd-forward", socket}, strings.NewReader("the end"), &out, io.Discard); err != nil || out.String() != "THE END" {
		t.Errorf("%q, %v", out.String(), err)
	}
}

func TestForwardMistakes(t *testing.T) {
	var bad *usageError
	for _, args := range [][]string{{"fd-forward"}, {"fd-forward", "a", "b"}} {
		var stderr bytes.Buffer
		if err := run(t.Context(), args, nil, io.Discard, &stderr); !errors.As(err, &bad) || !strings.Contains(stderr.String(), "SOCKET") {
			t.Errorf("%v: %v, %s", args, err, &stderr)
		}
	}
	err := run(t.Context(), []string{"fd-forward", filepath.Join(t.TempDir(), "none")}, nil, io.Discard, io.Discard)
	if err == nil || errors.As(err, &bad) || !strings.Contains(err.Error(), "is musterd running") {
		t.Errorf("no socket: %v", err)
	}
}

func TestCalledFleetctl(t *testing.T) {
	var bad *usageError
	for _, c := range []struct {
		name string
		args []string
		good bool
	}{
		{"/usr/local/bin/fleetctl", []string{"fd-forward", "/var/run/fleet.sock"}, true},
		{"fleetctl", []string{"list-units"}, false},
		{"fleetctl", nil, false},
		{"/usr/bin/musterd", []string{"--root", "/"}, true},
		{"musterd", nil, true},
	} {
		args, err := commandLine(c.name, c.args, io.Discard)
		if (err == nil) != c.good || !c.good && !errors.As(err, &bad) || c.good && len(args) != len(c.args) {
			t.Errorf("%s %v: %v, %v", c.name, c.args, args, err)
		}
	}
}
