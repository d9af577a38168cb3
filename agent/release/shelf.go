package release

import (
	"context"
	"io"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Shelf is what a host gives to its peers: files that it has whole and verified, by their SHA-256, and word of those that it is
// fetching. A nil Shelf gives nothing.
type Shelf struct {
	limit *rate.Limiter // bytes a second, over all readers
	slots chan struct{}

	mu    sync.Mutex
	files map[string]string // paths
	wants map[string]int64  // bytes there already
}

// Headers of a Shelf's answers.
const (
	// headerComing says, with 404, how many bytes of the file the peer has so far: it will have all of them.
	headerComing = "Muster-Coming"
	// busyAfter is when one whose peer is busy shall ask again.
	busyAfter = "1"
)

// maxBurst is how much of a file is sent at once, in bytes.
const maxBurst = 64 << 10

// NewShelf returns an empty one that gives so many bytes a second to all who read, 0 for no bound, and to so many at once.
func NewShelf(bytesPerSecond, readers int) *Shelf {
	limit := rate.NewLimiter(rate.Inf, 0)
	if bytesPerSecond > 0 {
		limit = rate.NewLimiter(rate.Limit(bytesPerSecond), max(maxBurst, bytesPerSecond/4))
	}
	return &Shelf{limit: limit, slots: make(chan struct{}, readers), files: map[string]string{}, wants: map[string]int64{}}
}

// put offers a file that was verified.
func (s *Shelf) put(sum, path string) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[sum] = path
}

// want says that a file is being fetched, until the function that it returns is called.
func (s *Shelf) want(sum string) func() {
	if s == nil {
		return func() {}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wants[sum] = 0
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.wants, sum)
	}
}

// progress counts what is written to it as received of a file.
func (s *Shelf) progress(sum string) io.Writer {
	if s == nil {
		return io.Discard
	}
	return counter{s, sum}
}

type counter struct {
	shelf *Shelf
	sum   string
}

func (c counter) Write(b []byte) (int, error) {
	c.shelf.mu.Lock()
	defer c.shelf.mu.Unlock()
	if have, wanted := c.shelf.wants[c.sum]; wanted {
		c.shelf.wants[c.sum] = have + int64(len(b))
	}
	return len(b), nil
}

var sumForm = regexp.MustCompile(`^[0-9a-f]{64}$`)

// ServeHTTP gives the file whose SHA-256 is the last segment of the path, with ranges: 404 when it is not here, with a header
// when it soon will be, and 503 when too many read.
func (s *Shelf) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	sum := r.URL.Path[max(0, len(r.URL.Path)-64):]
	if !sumForm.MatchString(sum) {
		http.Error(w, "a file is asked for by its SHA-256", http.StatusNotFound)
		return
	}
	f := s.open(sum)
	if f == nil {
		s.mu.Lock()
		have, coming := s.wants[sum]
		s.mu.Unlock()
		if coming {
			w.Header().Set(headerComing, strconv.FormatInt(have, 10))
		}
		http.Error(w, "this host does not have it", http.StatusNotFound)
		return
	}
	defer func() { _ = f.Close() }()
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default:
		w.Header().Set("Retry-After", busyAfter)
		http.Error(w, "too many are reading here", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(&paced{ResponseWriter: w, ctx: r.Context(), limit: s.limit}, r, "", time.Time{}, f)
}

// open opens a file that is offered, nil if none is. One that was removed is offered no more.
func (s *Shelf) open(sum string) *os.File {
	s.mu.Lock()
	defer s.mu.Unlock()
	path, ok := s.files[sum]
	if !ok {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		delete(s.files, sum)
		return nil
	}
	return f
}

// paced writes no faster than a rate, and gives a slow reader time while it reads.
type paced struct {
	http.ResponseWriter
	ctx   context.Context
	limit *rate.Limiter
}

// pieceTimeout is how long a reader may take for one piece of maxBurst bytes.
const pieceTimeout = 30 * time.Second

func (p *paced) Write(b []byte) (int, error) {
	written := 0
	for len(b) > 0 {
		piece := b[:min(len(b), maxBurst)]
		if err := p.limit.WaitN(p.ctx, len(piece)); err != nil {
			return written, err
		}
		// Servers that know no deadlines have bounds of their own.
		_ = http.NewResponseController(p.ResponseWriter).SetWriteDeadline(time.Now().Add(pieceTimeout))
		n, err := p.ResponseWriter.Write(piece)
		written += n
		if err != nil {
			return written, err
		}
		b = b[len(piece):]
	}
	return written, nil
}
