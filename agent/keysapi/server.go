package keysapi

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"path"
	"strings"
	"sync/atomic"
	"time"

	"github.com/musterhq/muster/agent/keys"
)

// Mount serves the keys at and below one path in the place of the store: they exist in version 2 alone, in no listing, and
// cannot be waited for. Its errors are *keys.Error, with an index. The caller is in the request, for a mount may be more
// careful than the rest.
type Mount interface {
	Get(ctx context.Context, r keys.Read) (keys.Event, error)
	Do(ctx context.Context, w keys.Write) (keys.Event, error)
}

// Member is a server as /v2/members shows it.
type Member struct {
	ID         string   `json:"id"`
	Name       string   `json:"name"`
	PeerURLs   []string `json:"peerURLs"`
	ClientURLs []string `json:"clientURLs"`
}

// Config is what a Server needs.
type Config struct {
	Keys *keys.Store
	// Name and ID are this host's.
	Name, ID string
	// Members are what clients may turn to, the leader first; nil means this host alone, at the address that the client
	// used: etcdctl goes on with what it finds here, and so must be able to reach it.
	Members func(r *http.Request) []Member
	// Mounts are subtrees served by others, by their clean paths: "/coreos.com/updateengine/rebootlock".
	Mounts  map[string]Mount
	Version string           // of etcd that clients are told; "" means 3.4.23
	Now     func() time.Time // nil: time.Now
	Log     *slog.Logger     // nil: discarded
}

// Server answers requests of versions 1 and 2.
type Server struct {
	cfg     Config
	keys    *keys.Store
	now     func() time.Time
	log     *slog.Logger
	started time.Time
	routes  map[string]route
	stats   counters
	latest  atomic.Pointer[told]
}

// New makes a Server.
func New(cfg Config) *Server {
	s := &Server{cfg: cfg, keys: cfg.Keys, now: cfg.Now, log: cfg.Log}
	if s.now == nil {
		s.now = time.Now
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.cfg.Version == "" {
		s.cfg.Version = "3.4.23"
	}
	if s.cfg.Members == nil {
		s.cfg.Members = s.alone
	}
	s.started = s.now()
	s.routes = s.table()
	return s
}

func (s *Server) alone(r *http.Request) []Member {
	address := url.URL{Scheme: "http", Host: r.Host}
	return []Member{{ID: s.cfg.ID, Name: s.cfg.Name, PeerURLs: []string{}, ClientURLs: []string{address.String()}}}
}

// Handler answers every request below /: what is not known is 404.
func (s *Server) Handler() http.Handler { return http.HandlerFunc(s.serve) }

// keysPath is what begins the paths of version 2's keys.
const keysPath = "/v2/keys"

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	if clean := cleanPath(r.URL.Path); clean != r.URL.Path {
		u := *r.URL
		u.Path, u.RawPath = clean, ""
		http.Redirect(w, r, u.String(), http.StatusMovedPermanently)
		return
	}
	if key, ok := below(r.URL.Path, keysPath); ok {
		s.serveKeys(w, r, key)
		return
	}
	if key, ok := below(r.URL.Path, v1Keys); ok {
		s.serveKeys1(w, r, key)
		return
	}
	if key, ok := below(r.URL.Path, v1Watch); ok {
		s.serveWatch1(w, r, key)
		return
	}
	if route, ok := s.routes[r.URL.Path]; ok {
		if allowed(w, r, route.allow) {
			route.serve(w, r)
		}
		return
	}
	s.serveOther(w, r)
}

// cleanPath keeps a slash at the end.
func cleanPath(p string) string {
	if p == "" || p[0] != '/' {
		p = "/" + p
	}
	clean := path.Clean(p)
	if clean != "/" && p[len(p)-1] == '/' {
		clean += "/"
	}
	return clean
}

// below returns the clean path that follows a prefix of segments.
func below(p, prefix string) (string, bool) {
	rest, ok := strings.CutPrefix(p, prefix)
	if !ok || rest != "" && rest[0] != '/' {
		return "", false
	}
	return path.Clean("/" + rest), true
}

// allowed answers requests whose method is none of a list, which is sent as it is.
func allowed(w http.ResponseWriter, r *http.Request, methods string) bool {
	for method := range strings.SplitSeq(methods, ",") {
		if method == r.Method {
			return true
		}
	}
	w.Header().Set("Allow", methods)
	http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
	return false
}

// mounted returns who serves a key in the place of the store, or nil.
func (s *Server) mounted(key string) Mount {
	for at := key; ; at = path.Dir(at) {
		if m := s.cfg.Mounts[at]; m != nil {
			return m
		}
		if at == "/" {
			return nil
		}
	}
}
