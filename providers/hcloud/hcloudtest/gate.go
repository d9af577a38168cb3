package hcloudtest

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync"
)

// Fault is what befalls one call. The zero value is a call that goes well.
type Fault struct {
	Before func() // runs before the call is carried out
	Status int    // answered instead of carrying the call out; 0 is none
	Code   string // of that answer; without one it is not JSON, as a proxy's
	Drop   bool   // the connection ends without an answer
	Unsent bool   // with Drop: the call is not carried out either
}

// Call is one request.
type Call struct {
	Number  int    // from 1, since the last Reset
	Pattern string // method and path of the API reference, such as "DELETE /v1/servers/{id}"
}

// gate stands before the cloud, counts calls and lets faults befall them.
type gate struct {
	stray    func(*http.Request) // is told of calls that match no pattern
	patterns *http.ServeMux

	mu    sync.Mutex
	fault func(Call) Fault
	calls []string
}

// Calls counts the calls since the last Reset, by their pattern.
func (g *gate) Calls() map[string]int {
	g.mu.Lock()
	defer g.mu.Unlock()
	count := map[string]int{}
	for _, call := range g.calls {
		count[call]++
	}
	return count
}

// Total counts the calls since the last Reset.
func (g *gate) Total() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.calls)
}

// Reset forgets the calls so far and the fault.
func (g *gate) Reset() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.calls, g.fault = nil, nil
}

// SetFault lets fault choose what befalls each call from now on; nil is nothing. It is called by one goroutine at a time.
func (g *gate) SetFault(fault func(Call) Fault) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.fault = fault
}

func (g *gate) begin(pattern string) Fault {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.calls = append(g.calls, pattern)
	if g.fault == nil {
		return Fault{}
	}
	return g.fault(Call{Number: len(g.calls), Pattern: pattern})
}

// through lets one call through to next.
func (g *gate) through(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, pattern := g.patterns.Handler(r)
		if pattern == "" {
			g.stray(r)
			http.NotFound(w, r)
			return
		}
		fault := g.begin(pattern)
		if fault.Before != nil {
			fault.Before()
		}
		switch {
		case fault.Drop && fault.Unsent:
			panic(http.ErrAbortHandler)
		case fault.Drop: // the call is carried out, whoever waits for it
			next.ServeHTTP(httptest.NewRecorder(), r.WithContext(context.WithoutCancel(r.Context())))
			panic(http.ErrAbortHandler)
		case fault.Status != 0 && fault.Code == "":
			http.Error(w, "a fault of the test", fault.Status)
		case fault.Status != 0:
			refuse(w, &refusal{fault.Status, fault.Code, "a fault of the test", nil})
		default:
			next.ServeHTTP(w, r)
		}
	})
}
