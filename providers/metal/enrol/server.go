package enrol

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/musterhq/muster/providers/metal/ledger"
	"github.com/musterhq/muster/providers/metal/netboot"
)

// Machines is who remembers the machines and their boots. It is safe for concurrent use. What it wraps of this package's
// errors and netboot's is told to the machine, anything else to the log alone.
type Machines interface {
	// Discover remembers what a machine says of itself, as ledger.Ledger does. Anybody may have said it.
	Discover(ctx context.Context, mac string, facts ledger.Facts) error
	// Change has edit change the ticket of a boot, and returns it when that is saved. Without a machine whose latest boot
	// has the number the error is ErrUnknown; edit's own is returned, and nothing saved. Changes of a ticket never overlap.
	Change(ctx context.Context, boot string, edit func(Ticket) (Ticket, error)) (Ticket, error)
	// Apply applies a report to the machine with a MAC, as netboot.Next does, and has saved it when it returns nil.
	Apply(ctx context.Context, mac string, event netboot.Event) error
	// Order says what the machine is to do whose ticket this is.
	Order(ctx context.Context, t Ticket) (Order, error)
	// Progress shows how far it is. It may be forgotten.
	Progress(ctx context.Context, t Ticket, p Progress)
	// UserData returns what the host is told, join token included, or ErrClosed. It may be called more than once for a
	// ticket, and only one of the answers goes out.
	UserData(ctx context.Context, t Ticket) ([]byte, error)
}

// maxRequests is how many requests are answered at once. Others are told to come again.
const maxRequests = 64

type server struct {
	machines Machines
	log      *slog.Logger
	slots    chan struct{}
}

// Handler answers machines. It needs the peer's certificate: serve it with TLS's configuration.
func Handler(machines Machines, log *slog.Logger) http.Handler {
	s := &server{machines, log, make(chan struct{}, maxRequests)}
	mux := http.NewServeMux()
	handle(mux, s, pathFacts, maxFacts, s.facts)
	handle(mux, s, pathClaim, maxFacts, s.claim)
	handle(mux, s, pathProgress, maxRequest, s.progress)
	handle(mux, s, pathOutcome, maxRequest, s.outcome)
	handle(mux, s, pathUserData, maxRequest, s.userData)
	return mux
}

// TLS is the configuration of a listener for Handler. Of a machine's certificate only the key counts.
func TLS(leaf tls.Certificate) *tls.Config {
	return &tls.Config{
		Certificates: []tls.Certificate{leaf}, MinVersion: tls.VersionTLS13,
		ClientAuth: tls.RequireAnyClientCert, SessionTicketsDisabled: true,
	}
}

// shutdown is how long requests may take to end.
const shutdown = 2 * time.Second

// Serve serves Handler on a listener, which it closes, until ctx ends. That is no error.
func Serve(ctx context.Context, listener net.Listener, leaf tls.Certificate, machines Machines, log *slog.Logger) error {
	server := &http.Server{
		Handler: Handler(machines, log), TLSConfig: TLS(leaf), MaxHeaderBytes: 16 << 10,
		ReadTimeout: 30 * time.Second, WriteTimeout: time.Minute, IdleTimeout: 2 * time.Minute,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		deadline, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdown)
		defer cancel()
		if server.Shutdown(deadline) != nil {
			server.Close()
		}
	})
	err := server.ServeTLS(listener, "", "")
	if !stop() {
		<-stopped
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("cannot serve machines that install: %w", err)
}

// badRequest is what a machine of ours never sends.
type badRequest struct{ error }

// handle has fn answer a path. Its answer is JSON, bytes as they are, or nothing.
func handle[T any](mux *http.ServeMux, s *server, path string, most int64, fn func(context.Context, string, T) (any, error)) {
	mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
		select {
		case s.slots <- struct{}{}:
			defer func() { <-s.slots }()
		default:
			s.answer(w, http.StatusServiceUnavailable, failure{"too many machines ask at once: ask again"})
			return
		}
		if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
			s.answer(w, http.StatusForbidden, failure{"a certificate is needed: any"})
			return
		}
		holder := hash(r.TLS.PeerCertificates[0].RawSubjectPublicKeyInfo)
		request, err := decode[T](http.MaxBytesReader(w, r.Body, most))
		var value any
		if err == nil {
			value, err = fn(r.Context(), holder, request)
		}
		if err != nil {
			s.refuse(w, r, err)
			return
		}
		s.answer(w, http.StatusOK, value)
	})
}

func decode[T any](body io.Reader) (T, error) {
	var request T
	data, err := io.ReadAll(body)
	if err == nil {
		err = json.Unmarshal(data, &request)
	}
	if err != nil {
		return request, badRequest{fmt.Errorf("cannot read the request: %w", err)}
	}
	return request, nil
}

func (s *server) answer(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Cache-Control", "no-store")
	body, plain := value.([]byte)
	if plain {
		w.Header().Set("Content-Type", "application/octet-stream")
	} else if value != nil {
		w.Header().Set("Content-Type", "application/json")
		var err error
		if body, err = json.Marshal(value); err != nil {
			s.log.Error("cannot answer a machine", "error", err)
			status, body = http.StatusInternalServerError, nil
		}
	}
	w.WriteHeader(status)
	w.Write(body)
}

// refuse tells a machine what it may know.
func (s *server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	status, text := http.StatusInternalServerError, "cannot answer: see the log of who serves this rack"
	var bad badRequest
	for _, known := range []struct {
		is     bool
		status int
	}{
		{errors.As(err, &bad), http.StatusBadRequest},
		{errors.Is(err, ErrUnknown), http.StatusNotFound},
		{errors.Is(err, ErrForeign), http.StatusForbidden},
		{errors.Is(err, ErrClosed), http.StatusForbidden},
		{errors.Is(err, ErrHanded), http.StatusGone},
		{errors.Is(err, ErrContested), http.StatusConflict},
		{errors.Is(err, netboot.ErrRefused), http.StatusConflict},
		{errors.Is(err, netboot.ErrStale), http.StatusConflict},
		{errors.Is(err, ledger.ErrFull), http.StatusInsufficientStorage},
	} {
		if known.is {
			status, text = known.status, err.Error()
			break
		}
	}
	s.log.Warn("refused a machine", "path", r.URL.Path, "source", r.RemoteAddr, "status", status, "error", err)
	s.answer(w, status, failure{text})
}
