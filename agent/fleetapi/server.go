package fleetapi

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/cluster/store"
)

// Changes is how the cluster is changed: a voter's control.Admin, or an api.Client that asks one.
type Changes interface {
	PutUnit(ctx context.Context, u api.Unit) (api.Outcome, error)
	DeleteUnit(ctx context.Context, name string) error
	PatchLabels(ctx context.Context, hostID string, labels map[string]*string) (api.Outcome, error)
}

// Config is what the API is served over.
type Config struct {
	Store   store.Store
	Changes Changes
	Version string // of musterd, for the header Server
	Log     *slog.Logger
}

// bases are the paths that the API is served below.
var bases = []string{"/fleet/v1", "/v1-alpha"}

// maxBody bounds what is read of a request: a unit file of 256 KiB, escaped.
const maxBody = 1 << 20

// How long a request waits for the store. fleetctl gives up after three seconds; it shall hear why.
const (
	readTimeout   = 1200 * time.Millisecond
	changeTimeout = 2500 * time.Millisecond
)

// Server answers requests while it runs.
type Server struct {
	Config
	http.Handler
	mirror   *mirror
	contents contents
}

type handler func(http.ResponseWriter, *http.Request) error

// New makes a server of the whole API.
func New(c Config) *Server {
	s := &Server{Config: c, mirror: newMirror(c.Store, c.Log), contents: contents{from: c.Store}}
	mux := http.NewServeMux()
	for path, methods := range map[string]map[string]handler{
		"/discovery":    {http.MethodGet: s.discovery},
		"/units":        {http.MethodGet: s.listUnits},
		"/units/{name}": {http.MethodGet: s.getUnit, http.MethodPut: s.setUnit, http.MethodDelete: s.deleteUnit},
		"/state":        {http.MethodGet: s.listStates},
		"/state/{name}": {http.MethodGet: s.getState},
		"/machines":     {http.MethodGet: s.listMachines, http.MethodPatch: s.patchMachines},
	} {
		for _, base := range bases {
			mux.HandleFunc(base+path, s.dispatch(methods))
		}
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.fail(w, r, refuse(http.StatusNotFound, "there is nothing at %s; the API is below %s/", r.URL.Path, bases[0]))
	})
	s.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Server", "fleetd/"+s.Version)
		mux.ServeHTTP(w, r)
	})
	return s
}

// Run knows where units are, which requests wait for, until ctx ends.
func (s *Server) Run(ctx context.Context) error { return s.mirror.run(ctx) }

// dispatch calls the handler of a request's method.
func (s *Server) dispatch(methods map[string]handler) http.HandlerFunc {
	allowed := strings.Join(slices.Sorted(maps.Keys(methods)), ", ")
	return func(w http.ResponseWriter, r *http.Request) {
		handle, ok := methods[r.Method]
		if !ok {
			w.Header().Set("Allow", allowed)
			s.fail(w, r, refuse(http.StatusMethodNotAllowed, "%s is not supported here, only %s", r.Method, allowed))
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		if err := handle(w, r); err != nil {
			s.fail(w, r, err)
		}
	}
}

// fail answers with an error. A refusal of a voter's is passed on as it is, but for one that is of no use to clients of
// fleet: that none was found.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	var refused *Error
	if !errors.As(err, &refused) {
		answer := api.AsError(err)
		refused = refuse(answer.Status, "%s", answer.Error())
		if answer.Status == http.StatusMisdirectedRequest {
			refused.Code = http.StatusServiceUnavailable
		}
	}
	s.Log.Debug("request of fleet's API refused", "method", r.Method, "path", r.URL.Path, "status", refused.Code, "err", err)
	s.write(w, refused.Code, map[string]*Error{"error": refused})
}

func (s *Server) write(w http.ResponseWriter, status int, body any) {
	data, err := json.Marshal(body)
	if err != nil {
		s.Log.Error("cannot encode an answer of fleet's API", "err", err)
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(data) // the caller is gone; nobody is left to tell
}

// decode reads the one value of a body. Fields that are not known are left alone, as the old server did.
func decode(r *http.Request, into any) error {
	d := json.NewDecoder(r.Body)
	err := d.Decode(into)
	if err == nil && d.More() {
		err = errors.New("more than one value")
	}
	var tooLong *http.MaxBytesError
	if errors.As(err, &tooLong) {
		return refuse(http.StatusRequestEntityTooLarge, "the body has more than %d bytes", tooLong.Limit)
	}
	if err != nil {
		return badRequest("unable to decode body: %v", err)
	}
	return nil
}

//go:embed discovery.json
var discoveryDocument []byte

// discovery tells programs what there is (Google API discovery format). rootUrl is how the caller got here.
func (s *Server) discovery(w http.ResponseWriter, r *http.Request) error {
	var document map[string]any
	if err := json.Unmarshal(discoveryDocument, &document); err != nil {
		return err
	}
	document["rootUrl"] = "http://" + r.Host + "/"
	s.write(w, http.StatusOK, document)
	return nil
}
