package gateway

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/musterhq/muster/agent/keys"
	"github.com/musterhq/muster/agent/keysapi"
)

// What one caller from behind a bridge gets, and all callers at one listener together.
const (
	callsEach  = 256 // at once, waiting ones included
	callsAll   = 8192
	ratePerSec = 200 // calls
	burst      = 2 * ratePerSec
	maxCallers = 4096 // that are remembered
	maxForm    = maxValue + maxValue/2
)

// guard stands before the keys.
type guard struct {
	policy Policy
	grants grants
	next   http.Handler
	now    func() time.Time

	mu      sync.Mutex
	all     int
	callers map[netip.Addr]*caller // only where they are bridged
}

// caller is one address.
type caller struct {
	calls  int     // at work
	tokens float64 // calls that may begin at once
	since  time.Time
}

func newGuard(p Policy, next http.Handler) *guard {
	return &guard{policy: p, grants: p.grants(), next: next, now: time.Now, callers: map[netip.Addr]*caller{}}
}

// ServeHTTP implements http.Handler.
func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if no := g.policy.check(r); no != nil {
		refuse(w, r, no)
		return
	}
	from := callerOf(r)
	if !g.enter(from) {
		w.Header().Set("Retry-After", "1")
		refuse(w, r, &refusal{http.StatusTooManyRequests, "too many requests; wait a moment"})
		return
	}
	defer g.leave(from)
	if isGRPC(r) {
		g.serveGRPC(w, r)
		return
	}
	if no := takeBody(w, r); no != nil {
		refuse(w, r, no)
		return
	}
	g.next.ServeHTTP(w, r)
}

// serveGRPC has a call that is no stream come in time.
func (g *guard) serveGRPC(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case pb.Watch_Watch_FullMethodName, pb.Lease_LeaseKeepAlive_FullMethodName:
	default:
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyPatience))
	}
	g.next.ServeHTTP(w, r.WithContext(withGrants(r.Context(), g.grants)))
}

// takeBody reads all of a request before anybody works on it, so that who is slow or sends too much keeps nobody.
func takeBody(w http.ResponseWriter, r *http.Request) *refusal {
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
		return nil
	}
	if r.ContentLength > maxForm {
		return &refusal{http.StatusRequestEntityTooLarge, "a request may have 1.5 MiB, a value 1 MiB"}
	}
	control := http.NewResponseController(w)
	if err := control.SetReadDeadline(time.Now().Add(bodyPatience)); err != nil {
		return &refusal{http.StatusInternalServerError, "cannot bound the time of a request"}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxForm))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return &refusal{http.StatusRequestEntityTooLarge, "a request may have 1.5 MiB, a value 1 MiB"}
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		w.Header().Set("Connection", "close")
		return &refusal{http.StatusRequestTimeout, "the request did not come in time"}
	}
	if err == nil {
		err = control.SetReadDeadline(time.Time{})
	}
	if err != nil {
		return &refusal{http.StatusBadRequest, "cannot read the request"}
	}
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return nil
}

// codesV2 are what version 2 calls a refusal; others are CodeForm.
var codesV2 = map[int]int{
	http.StatusForbidden: keys.CodeUnauthorized, http.StatusTooManyRequests: keys.CodeRaft, http.StatusInternalServerError: keys.CodeRaft,
}

// refuse answers as the API that was asked does, so that its clients can read why.
func refuse(w http.ResponseWriter, r *http.Request, no *refusal) {
	text := "muster: " + no.reason
	body := keysapi.Complaint(text)
	if _, isKey := keyOf(r.URL.Path); isKey {
		e := &keys.Error{Code: keys.CodeForm, Cause: text}
		if code, known := codesV2[no.status]; known {
			e.Code = code
		}
		body = keysapi.Body(e)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(no.status)
	_, _ = w.Write(body)
}

// callerOf is whose share a request is of.
func callerOf(r *http.Request) netip.Addr { return addressIn(r.RemoteAddr) }

// enter lets a call begin if its caller and all together have not had enough.
func (g *guard) enter(from netip.Addr) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.all >= callsAll {
		return false
	}
	if g.policy.Bridged {
		c := g.caller(from)
		if c == nil || c.calls >= callsEach || c.tokens < 1 {
			return false
		}
		c.tokens--
		c.calls++
	}
	g.all++
	return true
}

// caller finds or remembers one, with the tokens of now; nil when there are too many. g.mu is held.
func (g *guard) caller(from netip.Addr) *caller {
	now := g.now()
	if c := g.callers[from]; c != nil {
		c.tokens = min(burst, c.tokens+ratePerSec*now.Sub(c.since).Seconds())
		c.since = now
		return c
	}
	if len(g.callers) >= maxCallers {
		for at, c := range g.callers {
			if c.calls == 0 {
				delete(g.callers, at)
			}
		}
	}
	if len(g.callers) >= maxCallers {
		return nil
	}
	c := &caller{tokens: burst, since: now}
	g.callers[from] = c
	return c
}

func (g *guard) leave(from netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all--
	if c := g.callers[from]; c != nil {
		c.calls--
	}
}
