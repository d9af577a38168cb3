// Package openstacktest is an OpenStack cloud in memory, for tests: the calls that the driver makes, of Keystone, Nova,
// Neutron, Glance, Cinder and Ironic, with what they check and how they refuse, over HTTP on the loopback.
//
// It is strict: unknown fields, missing tokens, ports in use and quotas are refused as the real services refuse them, and
// any other call fails the test. Servers take a moment to get hold of their ports, to become active and to go. Faults
// befall single calls; lists may hide new servers. The package knows nothing of the driver, which passes the same
// conformance suite against this cloud and against a real one.
package openstacktest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
)

// The names of what a new cloud has.
const (
	Region   = "TestRegion"
	Project  = "6fd1a1d3c9a24f3e8f6b1c9d0e7a5b42"
	User     = "operator"
	Password = "canary-password-of-the-test"
	Image    = "debian"
	Flavor   = "m1.small"
	Metal    = "baremetal.small"
	Network  = "private"
	Second   = "storage"
	Public   = "public"
	KeyPair  = "laptop"
	Zones    = "zone-a zone-b zone-c"

	VolumeTypes = "fast slow"
)

// Cloud is the cloud.
type Cloud struct {
	*Gate
	// Hide is how long lists of servers do not show a new one.
	Hide time.Duration
	// Bind, Build and Delete are how long servers take to get hold of their ports, to become active and to go.
	Bind, Build, Delete time.Duration
	// KeepVolumes leaves the volumes of deleted servers, as a Cinder that was away does.
	KeepVolumes bool
	// Role is the account's on the project.
	Role string
	// Quotas by name: instances, cores, ram, server_group_members, port, floatingip, security_group, volumes, gigabytes.
	// Missing is none.
	Quotas map[string]int

	server *httptest.Server
	mux    *http.ServeMux

	mu     sync.Mutex
	routes []string
	tokens map[string]bool

	servers      map[string]*server
	serverGroups map[string]*serverGroup
	ports        map[string]*port
	networks     []network
	floating     map[string]*floatingIP
	groups       map[string]*securityGroup
	images       map[string]*image
	flavors      []flavor
	volumes      map[string]*volume
	nodes        map[string]*node
	allocations  map[string]*allocation
	nextAddress  int
}

// New starts a cloud that ends with the test.
func New(t testing.TB) *Cloud {
	c := &Cloud{
		mux: http.NewServeMux(), Role: "member", Bind: 5 * time.Millisecond, Build: 20 * time.Millisecond, Delete: 5 * time.Millisecond,
		tokens: map[string]bool{}, servers: map[string]*server{}, serverGroups: map[string]*serverGroup{},
		ports: map[string]*port{}, floating: map[string]*floatingIP{}, groups: map[string]*securityGroup{},
		images: map[string]*image{}, volumes: map[string]*volume{}, nodes: map[string]*node{}, allocations: map[string]*allocation{},
	}
	c.seed()
	c.identityRoutes()
	c.computeRoutes()
	c.networkRoutes()
	c.imageRoutes()
	c.volumeRoutes()
	c.metalRoutes()
	c.Gate = newGate(c.routes, c.mux)
	c.Gate.Stray = func(r *http.Request) {
		t.Errorf("the driver made a call that the cloud does not know: %s %s", r.Method, r.URL)
	}
	c.server = httptest.NewServer(c.Gate)
	t.Cleanup(c.server.Close)
	return c
}

func (c *Cloud) seed() {
	for _, name := range []string{Image, "debian-13", "ubuntu-24.04"} {
		id := uuid.NewString()
		c.images[id] = &image{ID: id, Name: name, Status: "active", MinDisk: 2, Visibility: "public"}
	}
	c.flavors = []flavor{
		{ID: "1", Name: Flavor, VCPUs: 1, RAM: 1024, Disk: 10},
		{ID: "2", Name: "m1.large", VCPUs: 4, RAM: 8192, Disk: 80},
		{ID: "3", Name: Metal, VCPUs: 8, RAM: 32768, Disk: 200},
	}
	c.networks = []network{
		{ID: uuid.NewString(), Name: Network, Project: Project},
		{ID: uuid.NewString(), Name: Second, Project: Project},
		{ID: uuid.NewString(), Name: Public, External: true, Shared: true, Project: "somebody"},
	}
	for i := range 8 {
		id := uuid.NewString()
		c.nodes[id] = &node{UUID: id, Name: fmt.Sprintf("rack-%d", i+1), ResourceClass: "baremetal.small", Provision: "available", Power: "power off", hard: i%2 == 0}
	}
}

// URL is the address of Keystone.
func (c *Cloud) URL() string { return c.server.URL + "/identity/v3" }

// Environment is the OS_* variables of an operator.
func (c *Cloud) Environment() map[string]string {
	return map[string]string{
		"OS_CLOUD": "", "OS_AUTH_URL": c.URL(), "OS_USERNAME": User, "OS_PASSWORD": Password, "OS_PROJECT_NAME": "demo",
		"OS_USER_DOMAIN_NAME": "Default", "OS_PROJECT_DOMAIN_NAME": "Default", "OS_REGION_NAME": Region, "OS_INTERFACE": "",
	}
}

// File writes a clouds.yaml in which the cloud is called "test".
func (c *Cloud) File(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "clouds.yaml")
	text := fmt.Sprintf("clouds: {test: {auth: {auth_url: %q, username: %q, password: %q, project_name: demo, user_domain_name: Default,"+
		" project_domain_name: Default}, region_name: %q}}\n", c.URL(), User, Password, Region)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// ForgetTokens makes every token expire.
func (c *Cloud) ForgetTokens() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.tokens)
}

// Token makes a token of the project.
func (c *Cloud) Token() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	token := uuid.NewString()
	c.tokens[token] = true
	return token
}

// request is a request that is being carried out, with the cloud locked.
type request struct {
	*http.Request
	c *Cloud
}

// answer is what a call says.
type answer struct {
	status int
	body   any
	header http.Header
}

func ok(body any) answer               { return answer{status: http.StatusOK, body: body} }
func done(status int, body any) answer { return answer{status: status, body: body} }
func (c *Cloud) now() time.Time        { return time.Now().UTC() }
func stamp(t time.Time) string         { return t.UTC().Format("2006-01-02T15:04:05Z") }
func object(key string, value any) any { return map[string]any{key: value} }
func objects[T any](key string, v []T) any {
	if v == nil {
		v = []T{}
	}
	return map[string]any{key: v}
}

// route adds a call, which is carried out with the cloud locked.
func (c *Cloud) route(pattern string, handle func(*request) answer) {
	c.stream(pattern, func(r *request) answer {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.advance()
		return handle(r)
	})
}

// stream adds a call. Everything but logging in and discovery needs a token.
func (c *Cloud) stream(pattern string, handle func(*request) answer) {
	c.routes = append(c.routes, pattern)
	c.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		open := strings.HasPrefix(r.URL.Path, "/identity/") || strings.HasSuffix(r.URL.Path, "/") // discovery
		c.mu.Lock()
		known := c.tokens[r.Header.Get("X-Auth-Token")]
		c.mu.Unlock()
		if !open && !known {
			reply(w, http.StatusUnauthorized, unknown().body)
			return
		}
		a := handle(&request{r, c})
		for key, values := range a.header {
			w.Header()[key] = values
		}
		reply(w, a.status, a.body)
	})
}

func reply(w http.ResponseWriter, status int, body any) {
	if body == nil {
		w.WriteHeader(status)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

// read decodes the body, which holds what is known and nothing else.
func (r *request) read(into any) error {
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return err
	}
	if _, err := decoder.Token(); err != io.EOF {
		return fmt.Errorf("something behind the body")
	}
	return nil
}

// refuse is how Nova, Cinder and Glance refuse.
func refuse(status int, format string, args ...any) answer {
	name := map[int]string{400: "badRequest", 403: "forbidden", 404: "itemNotFound", 409: "conflictingRequest", 413: "overLimit"}[status]
	return answer{status: status, body: object(name, map[string]any{"code": status, "message": fmt.Sprintf(format, args...)})}
}

// refuseNeutron is how Neutron refuses.
func refuseNeutron(status int, kind, format string, args ...any) answer {
	return answer{status: status, body: object("NeutronError", map[string]any{"type": kind, "message": fmt.Sprintf(format, args...), "detail": ""})}
}

// limit is a quota, -1 where there is none.
func (c *Cloud) limit(quota string) int {
	if limit, limited := c.Quotas[quota]; limited {
		return limit
	}
	return -1
}

func (c *Cloud) over(quota string, used int) bool {
	limit := c.limit(quota)
	return limit >= 0 && used >= limit
}

func (c *Cloud) identityRoutes() {
	c.route("POST /identity/v3/auth/tokens", (*request).login)
	c.route("GET /identity/v3/auth/tokens", (*request).ownToken)
	for _, path := range []string{"/compute/v2.1/{$}", "/network/{$}", "/image/{$}", "/volume/v3/{$}", "/baremetal/{$}"} {
		c.route("GET "+path, (*request).discover)
	}
}

func (r *request) discover() answer {
	versions := map[string]map[string]any{
		"/compute/v2.1/": {"id": "v2.1", "status": "CURRENT", "version": "2.93", "min_version": "2.1"},
		"/network/":      {"id": "v2.0", "status": "CURRENT"},
		"/image/":        {"id": "v2.15", "status": "CURRENT"},
		"/volume/v3/":    {"id": "v3.70", "status": "CURRENT", "version": "3.70", "min_version": "3.0"},
		"/baremetal/":    {"id": "v1", "status": "CURRENT", "version": "1.80", "min_version": "1.1"},
	}
	return ok(objects("versions", []any{versions[r.URL.Path]}))
}

func (r *request) login() answer {
	var body struct {
		Auth struct {
			Identity struct {
				Methods  []string
				Password struct {
					User struct {
						Name, Password string
						Domain         struct{ Name string }
					}
				}
				ApplicationCredential struct{ ID, Secret string } `json:"application_credential"`
			}
			Scope any
		}
	}
	if err := r.read(&body); err != nil {
		return refuse(400, "%v", err)
	}
	user, application := body.Auth.Identity.Password.User, body.Auth.Identity.ApplicationCredential
	byPassword := slices.Equal(body.Auth.Identity.Methods, []string{"password"}) && user.Name == User && user.Password == Password
	byApplication := slices.Equal(body.Auth.Identity.Methods, []string{"application_credential"}) && application.Secret == Password && body.Auth.Scope == nil
	if !byPassword && !byApplication {
		return unknown()
	}
	token := uuid.NewString()
	r.c.tokens[token] = true
	a := done(201, r.c.describe(byApplication || body.Auth.Scope != nil))
	a.header = http.Header{"X-Subject-Token": {token}}
	return a
}

// ownToken says whose the caller's token is.
func (r *request) ownToken() answer {
	token := r.Header.Get("X-Auth-Token")
	if !r.c.tokens[token] || r.Header.Get("X-Subject-Token") != token {
		return unknown()
	}
	a := ok(r.c.describe(true))
	a.header = http.Header{"X-Subject-Token": {token}}
	return a
}

// unknown is how Keystone refuses those whom it does not know.
func unknown() answer {
	return done(401, object("error", map[string]any{
		"message": "The request you have made requires authentication.", "code": 401, "title": "Unauthorized",
	}))
}

// describe is a token's body. One without a scope is for no project and finds no service.
func (c *Cloud) describe(scoped bool) any {
	token := map[string]any{"methods": []string{"password"}, "expires_at": "2099-01-01T00:00:00.000000Z"}
	if scoped {
		token["project"] = map[string]any{"id": Project, "name": "demo"}
		token["roles"] = []any{map[string]any{"id": "1", "name": c.Role}}
		token["catalog"] = c.catalogue()
	}
	return object("token", token)
}

func (c *Cloud) catalogue() []any {
	var entries []any
	for kind, path := range map[string]string{
		"compute": "/compute/v2.1", "network": "/network", "image": "/image", "block-storage": "/volume/v3", "baremetal": "/baremetal",
	} {
		entries = append(entries, map[string]any{"type": kind, "name": kind, "endpoints": []any{map[string]any{
			"interface": "public", "region": Region, "region_id": Region, "url": c.server.URL + path,
		}}})
	}
	return entries
}

// Patterns are the calls that the cloud knows, sorted.
func (c *Cloud) Patterns() []string { return slices.Sorted(slices.Values(c.routes)) }
