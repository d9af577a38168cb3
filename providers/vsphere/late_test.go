package vsphere

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/musterhq/muster/providers"
)

// late is a server whose lists and searches show a machine only a while after they could. What is asked for by its
// reference is there at once.
type late struct {
	by time.Duration

	mu    sync.Mutex
	first map[string]time.Time // when a machine could have been shown
}

// Machines in the answers of lists and of searches.
var (
	listed = regexp.MustCompile(`(?s)<objects><obj [^>]*type="VirtualMachine"[^>]*>([^<]+)</obj>.*?</objects>`)
	sought = regexp.MustCompile(`<returnval type="VirtualMachine">([^<]+)</returnval>`)
)

func (l *late) wrap(inner http.RoundTripper) http.RoundTripper {
	return roundTrip(func(req *http.Request) (*http.Response, error) {
		form := sought
		switch callName(req) {
		case "RetrievePropertiesEx":
			body, _ := io.ReadAll(req.Body)
			req.Body = io.NopCloser(bytes.NewReader(body))
			if form = listed; !bytes.Contains(body, []byte("<selectSet")) {
				return inner.RoundTrip(req)
			}
		case "FindAllByUuid", "FindChild":
		default:
			return inner.RoundTrip(req)
		}
		res, err := inner.RoundTrip(req)
		if err != nil {
			return nil, err
		}
		text, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		text = form.ReplaceAllFunc(text, func(each []byte) []byte {
			if l.hidden(string(form.FindSubmatch(each)[1])) {
				return nil
			}
			return each
		})
		res.Body, res.ContentLength = io.NopCloser(bytes.NewReader(text)), int64(len(text))
		return res, err
	})
}

// late is a late server on which everything that is there now is old.
func (s *vcsim) late(by time.Duration) *late {
	l := &late{by: by, first: map[string]time.Time{}}
	for _, o := range s.registry().All("VirtualMachine") {
		l.first[o.Reference().Value] = time.Time{}
	}
	return l
}

func (l *late) hidden(ref string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, seen := l.first[ref]; !seen {
		l.first[ref] = time.Now()
	}
	return time.Since(l.first[ref]) < l.by
}

// TestLateLists ends a process at its changing calls, where lists and searches are late. The next one does what muster does
// when it gives up: what was asked for is asked for again, which makes nothing twice, and is then destroyed.
func TestLateLists(t *testing.T) {
	for _, name := range []string{"clone", "apart", "ova"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			shape := shapes(t)[name]
			sim := newVCSim(t, shape.esxi)
			settings := NewSettings()
			shape.set(sim, settings)
			stride := 3
			if long {
				stride = 1
			}
			for at := 1; sim.crashLate(t, &crash{counts: changes, at: at, crashWay: crashWay{after: true}}, settings); at += stride {
			}
		})
	}
}

func (s *vcsim) crashLate(t *testing.T, c *crash, settings *Settings) (died bool) {
	t.Helper()
	slow := s.late(300 * time.Millisecond)
	first := s.open(func(inner http.RoundTripper) http.RoundTripper { return c.wrap(slow.wrap(inner)) })
	_, err := first.Create(t.Context(), request("web-1", settings))
	if err != nil && !c.dead {
		t.Fatal(err)
	}
	s.quiet()
	next := s.open(slow.wrap)
	made, err := patient(next).Create(t.Context(), request("web-1", settings))
	if err != nil || made.State != providers.StateRunning {
		t.Fatalf("crash at %d, %s: %+v, %v", c.at, last(c.names), made, err)
	}
	s.wantHosts(s.open(nil), "web-1")
	err = errors.Join(patient(next).Destroy(t.Context(), made), providers.Cleanup(t.Context(), patient(next), testCluster))
	if left := s.leftovers(testCluster); err != nil || len(left) > 0 {
		t.Fatalf("crash at %d, %s: left behind: %v, %v", c.at, last(c.names), left, err)
	}
	return c.dead
}
