package openstacktest

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"time"
)

// Fault is what befalls one call. The zero value is a call that goes well.
type Fault struct {
	Before func()        // runs before the call is carried out
	Status int           // answered instead of carrying the call out
	Header http.Header   // of that answer
	Drop   bool          // the connection ends without an answer
	Unsent bool          // with Drop: the call is not carried out either
	Slow   time.Duration // the answer takes so long
}

// Call is one request.
type Call struct {
	Number  int    // from 1, since the last Reset
	Pattern string // method and path of the API's reference, such as "DELETE /compute/v2.1/servers/{id}"
}

// Gate stands before a cloud, counts calls and lets faults befall them.
type Gate struct {
	// Stray is told of calls that match no pattern.
	Stray func(*http.Request)
	// Around, when set, surrounds the service of every call.
	Around func(serve func())

	patterns *http.ServeMux
	next     http.Handler

	mu    sync.Mutex
	fault func(Call) Fault
	calls []string
}

// newGate makes a gate for the calls of some patterns, in the notation of http.ServeMux.
func newGate(patterns []string, next http.Handler) *Gate {
	g := &Gate{patterns: http.NewServeMux(), next: next, Stray: func(*http.Request) {}}
	for _, pattern := range patterns {
		g.patterns.Handle(pattern, http.NotFoundHandler())
	}
	return g
}

// Calls counts the calls since the last Reset, by their pattern.
func (g *Gate) Calls() map[string]int {
	g.mu.Lock()
	defer g.mu.Unlock()
	count := map[string]int{}
	for _, call := range g.calls {
		count[call]++
	}
	return count
}

// Reset forgets the calls so far and the fault.
func (g *Gate) Reset() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.calls, g.fault = nil, nil
}

// SetFault lets fault choose what befalls each call from now on; nil is nothing. It is called by one goroutine at a time.
func (g *Gate) SetFault(fault func(Call) Fault) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.fault = fault
}

func (g *Gate) begin(pattern string) Fault {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.calls = append(g.calls, pattern)
	if g.fault == nil {
		return Fault{}
	}
	return g.fault(Call{Number: len(g.calls), Pattern: pattern})
}

// ServeHTTP lets one call through.
func (g *Gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if g.Around != nil {
		g.Around(func() { g.serve(w, r) })
		return
	}
	g.serve(w, r)
}

func (g *Gate) serve(w http.ResponseWriter, r *http.Request) {
	_, pattern := g.patterns.Handler(r)
	if pattern == "" {
		g.Stray(r)
		http.Error(w, "no such call", http.StatusNotFound)
		return
	}
	fault := g.begin(pattern)
	if fault.Before != nil {
		fault.Before()
	}
	if fault.Drop && fault.Unsent {
		panic(http.ErrAbortHandler)
	}
	if fault.Status != 0 {
		for key, values := range fault.Header {
			w.Header()[key] = values
		}
		reply(w, fault.Status, map[string]any{"error": map[string]any{"message": "a fault of the test", "code": fault.Status}})
		return
	}
	if !fault.Drop && fault.Slow == 0 {
		g.next.ServeHTTP(w, r)
		return
	}
	// The call is carried out, whoever waits for it.
	answer := httptest.NewRecorder()
	g.next.ServeHTTP(answer, r.WithContext(withoutCancel(r)))
	if fault.Slow > 0 {
		select {
		case <-time.After(fault.Slow):
		case <-r.Context().Done():
		}
	}
	if fault.Drop {
		panic(http.ErrAbortHandler)
	}
	for key, values := range answer.Header() {
		w.Header()[key] = values
	}
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes())
}
