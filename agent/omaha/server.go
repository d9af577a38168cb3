package omaha

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/musterhq/muster/agent/release"
)

// Path is where update_engine asks: SERVER of /etc/flatcar/update.conf ends with it.
const Path = "/v1/update/"

// Engine is the update engine of the releases that are offered.
const Engine = "flatcar"

// Handler answers requests over HTTP.
type Handler struct {
	// Choose decides what a machine may have that asks for a release at a base URL of this server: http://10.0.0.1:8080.
	Choose func(ctx context.Context, base string, m Machine, events []Event) Choice
	// Told is given everything that machines tell; nil is nobody.
	Told func(Report)
	Log  *slog.Logger
}

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "update_engine uses POST", http.StatusMethodNotAllowed)
		return
	}
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); r.Header.Get("Content-Type") != "" &&
		(err != nil || t != "text/xml" && t != "application/xml") {
		http.Error(w, "a request is text/xml", http.StatusUnsupportedMediaType)
		return
	}
	request, err := ReadRequest(r.Body)
	if err != nil {
		h.Log.Debug("refused a request", "from", r.RemoteAddr, "err", err)
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	base := baseOf(r)
	answer, reports := Answer(request, func(m Machine, events []Event) Choice { return h.Choose(r.Context(), base, m, events) })
	for _, report := range reports {
		h.tell(report)
	}
	var document bytes.Buffer
	if err := answer.Write(&document); err != nil {
		h.Log.Error("cannot write an answer", "err", err)
		http.Error(w, "cannot write the answer", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/xml; charset=utf-8")
	_, _ = w.Write(document.Bytes()) // the machine is gone; nobody is left to tell
}

func (h *Handler) tell(r Report) {
	for _, e := range r.Events {
		h.Log.Info("update_engine", "machine", r.Machine.ID, "group", r.Machine.Track, "runs", r.Machine.Version, "event", e.String())
	}
	if r.Asked && r.Choice.Offer != nil {
		h.Log.Info("offered", "machine", r.Machine.ID, "runs", r.Machine.Version, "version", r.Choice.Offer.Version)
	}
	if h.Told != nil {
		h.Told(r)
	}
}

// baseOf is how the machine reached this server.
func baseOf(r *http.Request) string {
	u := url.URL{Scheme: "http", Host: r.Host}
	if r.TLS != nil {
		u.Scheme = "https"
	}
	return u.String()
}

// Config is what a Server chooses from and by.
type Config struct {
	// Catalog is what the repository offers now.
	Catalog func() (release.Catalog, error)
	// Package is the payload of a release, and its path below the base URL.
	Package func(ctx context.Context, r release.Release) (p Package, dir string, err error)
	// Base is the URL of this server, "" for that by which a machine reached it.
	Base string
	// Groups are the channels of groups that are not called as their channel is.
	Groups map[string]string
	Policy release.Policy // but for its channel
	Now    func() time.Time
	Log    *slog.Logger
}

// Server chooses what machines may have and remembers them.
type Server struct {
	Config
	// Changed is raised when there is something new to remember.
	Changed chan struct{}

	mu     sync.Mutex
	ledger *Ledger
}

// NewServer goes on with a ledger.
func NewServer(c Config, l *Ledger) *Server {
	return &Server{Config: c, Changed: make(chan struct{}, 1), ledger: l}
}

// Handler answers from this server.
func (s *Server) Handler() *Handler { return &Handler{Choose: s.choose, Told: s.told, Log: s.Log} }

// channel is that of a group, "" if there is none.
func (s *Server) channel(track string) string {
	if c, named := s.Groups[track]; named {
		return c
	}
	for _, c := range release.Channels {
		if c == track {
			return c
		}
	}
	return ""
}

// choose takes down what a machine tells before it decides: its failure counts.
func (s *Server) choose(ctx context.Context, base string, m Machine, events []Event) Choice {
	s.mu.Lock()
	s.ledger.Hear(m, events, s.Now())
	s.mu.Unlock()
	channel := s.channel(m.Track)
	if channel == "" {
		return Choice{Reason: fmt.Sprintf("there is no channel for the group %q; --group names one", m.Track)}
	}
	catalog, err := s.Catalog()
	if err != nil {
		s.Log.Error("nothing is offered", "err", err)
		return Choice{Failed: true, Reason: err.Error()}
	}
	is, err := catalog.Choose(release.Host{Version: m.Version, Channel: channel, Engine: Engine, Arch: m.Arch, Pin: s.Policy.Pin})
	if errors.Is(err, release.ErrNoRelease) {
		return Choice{Reason: err.Error()}
	}
	if err != nil {
		return Choice{Failed: true, Reason: err.Error()}
	}
	if may, why := s.admits(m, channel, is.Version); !may {
		return Choice{Reason: why}
	}
	p, dir, err := s.Package(ctx, is)
	if err != nil {
		s.Log.Error("a release cannot be offered", "version", is.Version, "err", err)
		return Choice{Failed: true, Reason: err.Error()}
	}
	return Choice{Offer: &Offer{Version: is.Version, Base: cmp.Or(s.Base, base) + dir, Package: p}}
}

// admits asks the policy. A machine on which the release failed is not offered it again.
func (s *Server) admits(m Machine, channel, version string) (bool, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	in := func(track string) bool { return s.channel(track) == channel }
	rollout := s.ledger.Rollout(channel, version, s.Policy, in, s.Now())
	e := s.ledger.Machines[m.ID]
	if e != nil && e.Failed == version {
		return false, "release " + version + " has failed there"
	}
	may, why, _ := s.Policy.Admits(release.Candidate{ID: m.ID, Labels: labels(m.ID, m.Track, m.OEM), Version: m.Version}, s.Now(), rollout)
	return may, why
}

// told takes down the rest.
func (s *Server) told(r Report) {
	s.mu.Lock()
	if !r.Asked {
		s.ledger.Hear(r.Machine, r.Events, s.Now())
	} else {
		s.ledger.Answered(r.Machine, r.Choice)
	}
	s.mu.Unlock()
	select {
	case s.Changed <- struct{}{}:
	default:
	}
}

// Remember hands on the ledger, which must not be kept.
func (s *Server) Remember(save func(*Ledger) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return save(s.ledger)
}
