package release

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// Config is what a client is made of.
type Config struct {
	Mirrors []string // base URLs of the repository, http or https, the preferred first
	Root    []byte   // the root metadata that this host was given; later ones are followed from it
	Dir     string   // where what came to be trusted is kept; made if it is missing, and this client's alone
	Log     *slog.Logger
	// Alarm is told of every refusal; nil is nobody. It is called while the client works, and must not wait.
	Alarm func(*Refusal)
	// Peers are other hosts that may have files, asked before the mirrors are; nil is none.
	Peers func(context.Context) []Peer
	// Shelf is told which files this host wants and has; nil is none.
	Shelf *Shelf

	HTTP    *http.Client     // to mirrors; nil is one that never goes from HTTPS to HTTP
	Now     func() time.Time // nil is time.Now; metadata expires by it
	MinRate int64            // bytes a second below which a source is too slow; 0 is 4 KiB
	Window  time.Duration    // over which that is measured; 0 is 30 s
}

// Client reads one repository for one host. It may be used by several at once.
type Client struct {
	cfg    Config
	remote remote
	walk   sync.Mutex // one refresh at a time
	last   Catalog    // under walk
}

// New returns a client. It makes no call yet.
func New(cfg Config) (*Client, error) {
	if len(cfg.Mirrors) == 0 || len(cfg.Root) == 0 {
		return nil, errors.New("cannot ask for releases: a mirror's URL and the repository's root.json are needed")
	}
	cfg.Mirrors = slices.Clone(cfg.Mirrors)
	for i, mirror := range cfg.Mirrors {
		u, err := url.Parse(mirror)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return nil, fmt.Errorf("cannot ask for releases at %q: it is no URL of a server (https://releases.example.org/muster)", mirror)
		}
		cfg.Mirrors[i] = strings.TrimRight(mirror, "/")
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot keep what is trusted: %w", err)
	}
	if cfg.HTTP == nil {
		cfg.HTTP = newHTTP()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.MinRate == 0 {
		cfg.MinRate = defaultMinRate
	}
	if cfg.Window == 0 {
		cfg.Window = defaultWindow
	}
	return &Client{cfg: cfg, remote: remote{http: cfg.HTTP, minRate: cfg.MinRate, window: cfg.Window}}, nil
}

// Catalog returns all that the repository offers now. An attack is a *Refusal, see Attack.
func (c *Client) Catalog(ctx context.Context) (Catalog, error) {
	c.walk.Lock()
	defer c.walk.Unlock()
	r := refresh{c: c, mirrors: slices.Clone(c.cfg.Mirrors), refused: map[string]*Refusal{}}
	targets, err := r.run(ctx)
	if err != nil {
		return Catalog{}, err
	}
	catalog, err := ReadCatalog(*targets)
	if refusal := (*Refusal)(nil); errors.As(err, &refusal) {
		c.alarm(refusal)
	}
	if err == nil {
		c.last = catalog
	}
	return catalog, err
}

// Check returns the newest release that a host may have, see Catalog.Choose. It is ErrNoRelease when there is none.
func (c *Client) Check(ctx context.Context, h Host) (Release, error) {
	catalog, err := c.Catalog(ctx)
	if err != nil {
		return Release{}, err
	}
	return catalog.Choose(h)
}

func (c *Client) alarm(r *Refusal) {
	c.cfg.Log.Error("refused a release's data", "event", r.Attack.Event(), "subject", r.Subject, "source", r.Source, "err", r)
	if c.cfg.Alarm != nil {
		c.cfg.Alarm(r)
	}
}

// fileURL is where a mirror has a file.
func fileURL(base, path string) string {
	segments := strings.Split(path, "/")
	for i, s := range segments {
		segments[i] = url.PathEscape(s)
	}
	return base + "/" + strings.Join(segments, "/")
}
