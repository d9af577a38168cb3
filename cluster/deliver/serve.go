package deliver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"regexp"
	"sync"
	"syscall"
	"time"
)

// urlPath is where files are served, followed by their SHA-256.
const urlPath = "/musterd/"

// Bounds of the server. A host that is refused comes again.
const (
	maxConnections = 512
	maxHeader      = 8 << 10          // bytes
	headerTimeout  = 10 * time.Second // to send a request
	fileTimeout    = 15 * time.Minute // to fetch a file: 40 MB at 45 kB/s
)

func urlOf(address, sum string) string { return "http://" + address + urlPath + sum }

// server serves the files of a directory until it is closed.
type server struct {
	http *http.Server
	done chan struct{}
}

// listen binds exactly an address.
func listen(ctx context.Context, address string) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	why := ""
	switch {
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		why = "this machine has no such address; `serve` takes one of its own that hosts reach"
	case errors.Is(err, syscall.EADDRINUSE):
		why = "something listens there already; end it, or choose another port in `serve`"
	case errors.Is(err, syscall.EACCES):
		why = "only root may listen on a port below 1024; choose a higher one in `serve`"
	case err != nil:
		return nil, fmt.Errorf("cannot serve musterd: %w", err)
	}
	if why != "" {
		return nil, fmt.Errorf("cannot serve musterd at %s: %s: %w", address, why, err)
	}
	return newLimited(l, maxConnections), nil
}

// serve begins to serve the files of a directory. It takes the listener over.
func serve(l net.Listener, files copies, log *slog.Logger) *server {
	s := &server{done: make(chan struct{}), http: &http.Server{
		Handler: handler(files, log), ReadHeaderTimeout: headerTimeout, ReadTimeout: headerTimeout, WriteTimeout: fileTimeout,
		MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}}
	s.http.SetKeepAlivesEnabled(false) // one file each
	go func() {
		defer close(s.done)
		_ = s.http.Serve(l)
	}()
	return s
}

func (s *server) close() error {
	err := s.http.Close()
	<-s.done
	return err
}

var fileName = regexp.MustCompile(`^[0-9a-f]{64}$`)

// handler answers GET /musterd/<sha256> alone, with ranges.
func handler(files copies, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sum := ""
		if len(r.URL.Path) > len(urlPath) && r.URL.Path[:len(urlPath)] == urlPath {
			sum = r.URL.Path[len(urlPath):]
		}
		f, err := open(files, sum)
		if err != nil {
			http.NotFound(w, r)
			return
		}
		defer f.Close()
		if r.Method != http.MethodGet {
			w.Header().Set("Allow", http.MethodGet)
			http.Error(w, "only GET", http.StatusMethodNotAllowed)
			return
		}
		log.Debug("serving musterd", "to", r.RemoteAddr, "range", r.Header.Get("Range"))
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Etag", `"`+sum+`"`)
		http.ServeContent(w, r, "", time.Time{}, f)
	})
}

func open(files copies, sum string) (*os.File, error) {
	if !fileName.MatchString(sum) {
		return nil, os.ErrNotExist
	}
	return os.Open(files.path(sum))
}

// limited accepts so many connections at a time; further ones wait in the system's queue.
type limited struct {
	net.Listener
	slots  chan struct{}
	closed chan struct{}
	once   sync.Once
}

func newLimited(l net.Listener, most int) *limited {
	return &limited{Listener: l, slots: make(chan struct{}, most), closed: make(chan struct{})}
}

// Accept implements net.Listener.
func (l *limited) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	conn, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &slot{Conn: conn, release: func() { <-l.slots }}, nil
}

// Close implements net.Listener.
func (l *limited) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// slot is a connection that counts until it is closed.
type slot struct {
	net.Conn
	release func()
	once    sync.Once
}

// Close implements net.Conn.
func (s *slot) Close() error {
	s.once.Do(s.release)
	return s.Conn.Close()
}
