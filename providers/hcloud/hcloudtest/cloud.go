// Package hcloudtest is a project of the Hetzner Cloud in memory, for tests: the calls that the driver makes, with what they
// check and how they refuse, as the API reference has it (https://docs.hetzner.cloud/reference/cloud), over HTTP on the
// loopback.
//
// It is strict: unknown fields and parameters, labels and names that break the rules, names that are taken, read-only tokens,
// limits and what does not fit together are refused, and any other call fails the test. Servers are off and locked for a
// moment before they run, and take a moment to go; firewalls are in use for a moment longer. Lists come in pages and may
// hide what is new. Faults befall single calls. The package knows nothing of the driver.
package hcloudtest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hetznercloud/hcloud-go/v2/hcloud/schema"
)

// The tokens of the project, and what it has from the beginning.
const (
	Token    = "canary-token-that-writes"
	ReadOnly = "canary-token-that-reads"

	Image      = "debian-13"
	ServerType = "cx23"
	ArmType    = "cax11"
	Network    = "private"
	Key        = "laptop"
	Locations  = "fsn1 nbg1 hel1"
)

// Cloud is the project.
type Cloud struct {
	*gate
	// Hide is how long lists do not show what is new.
	Hide time.Duration
	// Boot and Delete are how long servers take to run and to go, Detach how long firewalls are in use then.
	Boot, Delete, Detach time.Duration
	// Limits of what the project may have, by "server", "firewall" and "placement_group". Missing is none.
	Limits map[string]int
	// PerHour is the rate limit; what is left begins there and comes back within an hour.
	PerHour int

	server *httptest.Server
	routes []string
	mux    *http.ServeMux

	mu         sync.Mutex
	nextID     int64
	left       float64 // calls
	counted    time.Time
	servers    map[int64]*server
	firewalls  map[int64]*firewall
	placements map[int64]*placement
	images     []schema.Image
	types      []schema.ServerType
	locations  []schema.Location
	networks   []schema.Network
	keys       []schema.SSHKey
}

// New starts a project that ends with the test.
func New(t testing.TB) *Cloud {
	c := &Cloud{
		gate: &gate{patterns: http.NewServeMux()}, mux: http.NewServeMux(), nextID: 1000, PerHour: 3600, left: -1,
		Boot: 8 * time.Millisecond, Delete: 3 * time.Millisecond, Detach: 4 * time.Millisecond,
		servers: map[int64]*server{}, firewalls: map[int64]*firewall{}, placements: map[int64]*placement{},
	}
	c.stray = func(r *http.Request) { t.Errorf("the driver made a call that is not listed: %s %s", r.Method, r.URL) }
	c.seed()
	c.catalogRoutes()
	c.serverRoutes()
	c.firewallRoutes()
	c.placementRoutes()
	c.server = httptest.NewServer(c.through(http.HandlerFunc(c.serve)))
	t.Cleanup(c.server.Close)
	return c
}

// URL is the endpoint of the API.
func (c *Cloud) URL() string { return c.server.URL + "/v1" }

// Patterns are the calls that the cloud knows.
func (c *Cloud) Patterns() []string { return c.routes }

// SetLeft sets how many calls are left of the hour's.
func (c *Cloud) SetLeft(calls int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left, c.counted = float64(calls), time.Now()
}

// refusal is an error of the API.
type refusal struct {
	status        int
	code, message string
	fields        map[string]string // of invalid_input: what is wrong with each
}

func invalid(field, format string, args ...any) *refusal {
	text := fmt.Sprintf(format, args...)
	return &refusal{http.StatusUnprocessableEntity, "invalid_input", "invalid input in field '" + field + "'", map[string]string{field: text}}
}

func notFound(kind string, id any) *refusal {
	return &refusal{http.StatusNotFound, "not_found", fmt.Sprintf("%s with ID '%v' not found", kind, id), nil}
}

func refuse(w http.ResponseWriter, r *refusal) {
	var details any
	if r.fields != nil {
		fields := []map[string]any{}
		for name, text := range r.fields {
			fields = append(fields, map[string]any{"name": name, "messages": []string{text}})
		}
		details = map[string]any{"fields": fields}
	}
	reply(w, r.status, map[string]any{"error": map[string]any{"code": r.code, "message": r.message, "details": details}})
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if body != nil {
		_ = json.NewEncoder(w).Encode(body)
	}
}

// handle adds a call. do runs under the lock.
func (c *Cloud) handle(pattern string, do func(r *http.Request) (status int, body any, refused *refusal)) {
	c.routes = append(c.routes, pattern)
	c.patterns.Handle(pattern, http.NotFoundHandler())
	c.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		c.settle()
		status, body, refused := do(r)
		if refused != nil {
			refuse(w, refused)
			return
		}
		reply(w, status, body)
	})
}

// serve counts a call and looks at its token before anything else.
func (c *Cloud) serve(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	if token != Token && token != ReadOnly {
		refuse(w, &refusal{http.StatusUnauthorized, "unauthorized", "unable to authenticate", nil})
		return
	}
	if !c.count(w.Header()) {
		refuse(w, &refusal{http.StatusTooManyRequests, "rate_limit_exceeded", "limit of " + fmt.Sprint(c.PerHour) + " requests per hour reached", nil})
		return
	}
	if token == ReadOnly && r.Method != http.MethodGet {
		refuse(w, &refusal{http.StatusForbidden, "forbidden", "insufficient permissions for this request", nil})
		return
	}
	c.mux.ServeHTTP(w, r)
}

// count takes one of the calls that are left, and tells the limit in the headers.
func (c *Cloud) count(header http.Header) bool {
	now, full, each := time.Now(), float64(c.PerHour), float64(c.PerHour)/3600
	if c.left < 0 {
		c.left, c.counted = full, now
	}
	c.left, c.counted = min(full, c.left+now.Sub(c.counted).Seconds()*each), now
	enough := c.left >= 1
	if enough {
		c.left--
	}
	header.Set("RateLimit-Limit", fmt.Sprint(c.PerHour))
	header.Set("RateLimit-Remaining", fmt.Sprint(int(c.left)))
	header.Set("RateLimit-Reset", fmt.Sprint(now.Add(time.Duration((full-c.left)/each)*time.Second).Unix()))
	return enough
}

func (c *Cloud) id() int64 {
	c.nextID++
	return c.nextID
}

// over tells whether the project has as many of a kind as it may.
func (c *Cloud) over(kind string, have int) *refusal {
	if limit, ok := c.Limits[kind]; ok && have >= limit {
		return &refusal{http.StatusForbidden, "resource_limit_exceeded", kind + " limit exceeded", nil}
	}
	return nil
}
