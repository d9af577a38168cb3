package api

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/musterhq/muster/cluster/join"
	"github.com/musterhq/muster/cluster/pki"
	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/store"
)

// TestMain allows net/http the half second that it waits after refusing a request that was too long.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}

const testCluster = "0b8a6f2e-8c1d-4a52-9c53-2d6c1f0a7e11"

// authority is a cluster's PKI for tests.
type authority struct {
	root, issuer *pki.Authority
	cluster      string
}

func newAuthority(t *testing.T, cluster string) authority {
	t.Helper()
	root, err := pki.NewRoot(cluster, "test", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := root.NewIssuer(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return authority{root: root, issuer: issuer, cluster: cluster}
}

func testHost(n int, voter bool) roster.Host {
	return roster.Host{
		ID: fmt.Sprintf("%032x", n), Name: fmt.Sprintf("node-%d", n), Generation: 1, Provider: "cloud-a",
		Address: "127.0.0.1", Ports: roster.DefaultPorts(), Voter: voter,
	}
}

// source makes credentials of a role: none, host, voter, peer or operator.
func (a authority) source(t *testing.T, role string) *pki.Source {
	t.Helper()
	h := testHost(1, true)
	var pair pki.Pair
	var err error
	switch role {
	case "none":
		return nil
	case "host":
		key, keyErr := pki.NewKey()
		if keyErr != nil {
			t.Fatal(keyErr)
		}
		pair.KeyPEM = pki.EncodeKey(key)
		pair.CertPEM, err = a.issuer.SignHost(&key.PublicKey, h, a.cluster, time.Now())
	case "voter":
		pair, err = a.issuer.MintControl(h, a.cluster, time.Now())
	case "peer":
		pair, err = a.issuer.MintPeer(h, a.cluster, time.Now())
	case "operator":
		pair, err = a.issuer.MintOperator(a.cluster, time.Now())
	}
	if err != nil {
		t.Fatal(err)
	}
	src, err := pki.NewStaticSource(pair)
	if err != nil {
		t.Fatal(err)
	}
	return src
}

func (a authority) client(t *testing.T, role string) *tls.Config {
	return pki.ClientConfig(a.root.Cert, a.source(t, role), "")
}

// serve starts an API server with a host's certificate and returns its address.
func (a authority) serve(t *testing.T, s *Server) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	config := pki.ServerConfig(a.root.Cert, a.source(t, "host"), tls.VerifyClientCertIfGiven)
	serve(t, tls.NewListener(l, config), s.Handler())
	return address
}

func serve(t *testing.T, l net.Listener, h http.Handler) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, h, slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
}

func testClient(t *testing.T, config *tls.Config, endpoints ...Endpoint) *Client {
	t.Helper()
	c := NewClient(endpoints, config)
	t.Cleanup(c.Close)
	return c
}

// fakeFleet answers everything with what it was given.
type fakeFleet struct {
	status Status
	err    error
	calls  []string
}

func (f *fakeFleet) called(format string, args ...any) {
	f.calls = append(f.calls, fmt.Sprintf(format, args...))
}

func (f *fakeFleet) Status(context.Context) (Status, error) { return f.status, f.err }

func (f *fakeFleet) WatchStatus(ctx context.Context, yield func(Status) bool) error {
	for i := range 3 {
		s := f.status
		s.Cluster = fmt.Sprintf("change %d", i)
		if f.err != nil || !yield(s) {
			return f.err
		}
	}
	<-ctx.Done()
	return nil
}

func (f *fakeFleet) Units(context.Context) ([]Unit, error) { return nil, f.err }

func (f *fakeFleet) Unit(_ context.Context, name string) (Unit, error) {
	return Unit{Name: name, Content: "[Service]\n"}, f.err
}

func (f *fakeFleet) Why(_ context.Context, name string) (Why, error) { return Why{Unit: name}, f.err }

func (f *fakeFleet) Logs(ctx context.Context, name string, o LogOptions, w io.Writer) error {
	if f.err != nil {
		return f.err
	}
	if _, err := fmt.Fprintf(w, "%s %s %d\n", name, o.Host, o.Lines); err != nil || !o.Follow {
		return err
	}
	<-ctx.Done()
	return nil
}

func (f *fakeFleet) Reload(_ context.Context, name, host string) ([]Reloaded, error) {
	return []Reloaded{{Unit: name, Host: host}}, f.err
}

func (f *fakeFleet) Health() Health { return Health{Host: "node-1", Voter: true} }

func (f *fakeFleet) PutUnit(_ context.Context, u Unit) (Outcome, error) {
	f.called("put %s %s", u.Name, u.Desired)
	return Changed, f.err
}

func (f *fakeFleet) DeleteUnit(_ context.Context, name string) error {
	f.called("delete %s", name)
	return f.err
}

func (f *fakeFleet) ChangeRollout(_ context.Context, unit, verb string) error {
	f.called("%s the rollout of %s", verb, unit)
	return f.err
}

func (f *fakeFleet) AddToken(_ context.Context, r TokenRequest) error {
	f.called("token %s", r.Hash)
	return f.err
}

func (f *fakeFleet) RemoveHost(_ context.Context, id string) error {
	f.called("remove %s", id)
	return f.err
}

func (f *fakeFleet) SetLabels(_ context.Context, id string, labels map[string]string) (Outcome, error) {
	f.called("labels %s %v", id, labels)
	return Unchanged, f.err
}

func (f *fakeFleet) PatchLabels(_ context.Context, id string, labels map[string]*string) (Outcome, error) {
	f.called("patch labels %s %d", id, len(labels))
	return Changed, f.err
}

func (f *fakeFleet) Rebalance(_ context.Context, moves int) (Rebalance, error) {
	return Rebalance{Moves: []Move{{Unit: fmt.Sprint(moves)}}}, f.err
}

func (f *fakeFleet) OrderRebalance(_ context.Context, o RebalanceOrder) error {
	f.called("rebalance %d", o.MaxMoves)
	return f.err
}

func (f *fakeFleet) Backup(_ context.Context, w io.Writer) error {
	f.called("backup")
	_, err := io.WriteString(w, "a backup")
	return errors.Join(err, f.err)
}

func (f *fakeFleet) Restore(_ context.Context, order RestoreOrder, backup io.Reader) error {
	rest, err := io.ReadAll(backup)
	f.called("restore %d %q", len(order.Roster), rest)
	return errors.Join(err, f.err)
}

func (f *fakeFleet) Seat(_ context.Context, id string) (Seat, error) {
	f.called("seat %s", id)
	return Seat{Votes: true}, f.err
}

func (f *fakeFleet) TakeSeat(_ context.Context, id string) (join.VoterRole, error) {
	f.called("take seat %s", id)
	return join.VoterRole{State: join.StateExisting}, f.err
}

func (f *fakeFleet) OrderSeat(_ context.Context, id string, votes bool) (Outcome, error) {
	f.called("order seat %s %t", id, votes)
	return Changed, f.err
}

func (f *fakeFleet) Locks(context.Context) ([]Lock, error) {
	return []Lock{{Group: "default", Max: 1}}, f.err
}

func (f *fakeFleet) Update(context.Context) (Update, error) {
	return Update{Hosts: []UpdateHost{}, History: []UpdateEvent{}}, f.err
}

func (f *fakeFleet) OrderUpdate(_ context.Context, verb string, o UpdateOrder) error {
	f.called("update %s %v %s", verb, o.Hosts, o.Version)
	return f.err
}

func (f *fakeFleet) OrderLock(_ context.Context, group, verb string, o LockOrder) error {
	f.called("lock %s %s %s", group, verb, o.Holder)
	return f.err
}

func (f *fakeFleet) SwapLock(_ context.Context, group, self string, swap LockSwap) error {
	f.called("swap lock %s %q %d", group, self, swap.Index)
	return f.err
}

func (f *fakeFleet) Configure(_ context.Context, s Settings) (Outcome, error) {
	f.called("settings %d", *s.RebalancePercent)
	return Changed, f.err
}

func (f *fakeFleet) OrderHost(_ context.Context, id string, o HostOrder) (Outcome, error) {
	f.called("order %s %s", id, o.Order)
	return Changed, f.err
}

func (f *fakeFleet) Renew(context.Context, RenewRequest) (RenewReply, error) {
	return RenewReply{Certificate: "new"}, f.err
}

func newServer(f *fakeFleet) *Server {
	return &Server{
		ClusterID: testCluster, Fleet: f, Admin: f, Recovery: f, Log: slog.New(slog.DiscardHandler),
		FleetAPI: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { writeJSON(w, http.StatusOK, r.URL.Path) }),
		Join:     http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }),
	}
}

// calls are requests that every route accepts, by "METHOD path pattern".
var calls = map[string]struct{ path, body string }{
	"GET /v1/status":                  {"/v1/status", ""},
	"GET /v1/units":                   {"/v1/units", ""},
	"GET /v1/units/{name}":            {"/v1/units/web@1.service", ""},
	"PUT /v1/units/{name}":            {"/v1/units/web@1.service", `{"desired":"launched"}`},
	"DELETE /v1/units/{name}":         {"/v1/units/web%401.service", ""},
	"GET /v1/units/{name}/why":        {"/v1/units/web@1.service/why", ""},
	"GET /v1/units/{name}/logs":       {"/v1/units/web@1.service/logs?lines=3", ""},
	"POST /v1/units/{name}/reload":    {"/v1/units/web@1.service/reload?host=node-1", ""},
	"POST /v1/tokens":                 {"/v1/tokens", `{"hash":"aa"}`},
	"DELETE /v1/hosts/{id}":           {"/v1/hosts/0123", ""},
	"PUT /v1/hosts/{id}/labels":       {"/v1/hosts/0123/labels", `{"labels":{"a":"b"}}`},
	"PUT /v1/hosts/{id}/order":        {"/v1/hosts/0123/order", `{"order":"drain","within":60000000000}`},
	"PUT /v1/hosts/{id}/seat":         {"/v1/hosts/0123/seat", `{"votes":true}`},
	"GET /v1/seat":                    {"/v1/seat", ""},
	"POST /v1/seat":                   {"/v1/seat", ""},
	"GET /v1/rebalance":               {"/v1/rebalance?moves=3", ""},
	"POST /v1/rebalance":              {"/v1/rebalance", `{"max_moves":3}`},
	"GET /v1/locks":                   {"/v1/locks", ""},
	"POST /v1/locks/{group}/{verb}":   {"/v1/locks/web/hold", `{"holder":"node-1"}`},
	"PUT /v1/locks/{group}/semaphore": {"/v1/locks/web%2B1/semaphore", `{"index":3,"value":"{}"}`},
	"POST /fleetlock/{rest...}":       {"/fleetlock/v1/pre-reboot", `{}`},
	"GET /v1/update":                  {"/v1/update", ""},
	"POST /v1/update/{verb}":          {"/v1/update/pause", `{}`},
	"PUT /v1/settings":                {"/v1/settings", `{"rebalance_percent":3}`},
	"PATCH /v1/hosts/{id}/labels":     {"/v1/hosts/0123/labels", `{"labels":{"a":"b","c":null}}`},
	"GET /v1/backup":                  {"/v1/backup", ""},
	"POST /v1/restore":                {"/v1/restore", `{"roster":[{"name":"a"}]}` + "\nbackup"},
	"POST /v1/renew":                  {"/v1/renew", `{"certificate":"old"}`},
	"POST /v1/join":                   {"/v1/join", `{}`},
	"GET /v1/health":                  {"/v1/health", ""},
	"GET /fleet/v1/{rest...}":         {"/fleet/v1/units", ""},
	"PUT /fleet/v1/{rest...}":         {"/fleet/v1/units/web%401.service", `{}`},
	"PATCH /fleet/v1/{rest...}":       {"/fleet/v1/machines", `[]`},
	"DELETE /fleet/v1/{rest...}":      {"/fleet/v1/units/web%401.service", ""},
	"GET /v2/keys/{rest...}":          {"/v2/keys/a", ""},
	"PUT /v2/keys/{rest...}":          {"/v2/keys/a", ""},
	"DELETE /v2/keys/{rest...}":       {"/v2/keys/a", ""},
	"GET /nothing":                    {"/nothing", ""},
	"GET /v1/units/{name}/unknown":    {"/v1/units/web@1.service/unknown", ""},
	"POST /v1/rollouts/{name}/{verb}": {"/v1/rollouts/web@.service/pause", ""},
}

// TestAuthorization walks every cell of route × role over real TLS connections.
func TestAuthorization(t *testing.T) {
	// none, host, voter, operator: y allowed, - not. A peer's certificate opens nothing.
	want := map[string]string{
		"GET /v1/status":                  "-yyy",
		"GET /v1/units":                   "-yyy",
		"GET /v1/units/{name}":            "-yyy",
		"PUT /v1/units/{name}":            "--yy",
		"DELETE /v1/units/{name}":         "--yy",
		"GET /v1/units/{name}/why":        "-yyy",
		"GET /v1/units/{name}/logs":       "--yy",
		"POST /v1/units/{name}/reload":    "--yy",
		"POST /v1/tokens":                 "--yy",
		"DELETE /v1/hosts/{id}":           "--yy",
		"PUT /v1/hosts/{id}/labels":       "--yy",
		"PATCH /v1/hosts/{id}/labels":     "--yy",
		"PUT /v1/hosts/{id}/order":        "--yy",
		"PUT /v1/hosts/{id}/seat":         "--yy",
		"GET /v1/seat":                    "-y--",
		"POST /v1/seat":                   "-y--",
		"GET /v1/rebalance":               "-yyy",
		"POST /v1/rebalance":              "--yy",
		"GET /v1/locks":                   "-yyy",
		"POST /v1/locks/{group}/{verb}":   "--yy",
		"PUT /v1/locks/{group}/semaphore": "-yyy",
		"POST /fleetlock/{rest...}":       "-yyy",
		"GET /v1/update":                  "-yyy",
		"POST /v1/update/{verb}":          "--yy",
		"PUT /v1/settings":                "--yy",
		"GET /fleet/v1/{rest...}":         "-yyy",
		"PUT /fleet/v1/{rest...}":         "--yy",
		"PATCH /fleet/v1/{rest...}":       "--yy",
		"DELETE /fleet/v1/{rest...}":      "--yy",
		"GET /v2/keys/{rest...}":          "--yy",
		"PUT /v2/keys/{rest...}":          "--yy",
		"DELETE /v2/keys/{rest...}":       "--yy",
		"GET /v1/backup":                  "--yy",
		"POST /v1/restore":                "---y",
		"POST /v1/renew":                  "yyy-",
		"POST /v1/join":                   "y---",
		"GET /v1/health":                  "-yyy",
		"POST /v1/rollouts/{name}/{verb}": "--yy",
	}
	if len(want) != len(routes) {
		t.Errorf("the table has %d routes, the server %d", len(want), len(routes))
	}
	a := newAuthority(t, testCluster)
	address := a.serve(t, newServer(&fakeFleet{}))
	for i, role := range []string{"none", "host", "voter", "operator", "peer"} {
		transport := &http.Transport{TLSClientConfig: a.client(t, role)}
		defer transport.CloseIdleConnections()
		for name, cells := range want {
			allowed := i < len(cells) && cells[i] == 'y'
			status, body := roundTrip(t, &http.Client{Transport: transport}, "https://"+address, name)
			if got := status != http.StatusForbidden; got != allowed {
				t.Errorf("%s by %s: status %d, want allowed %v", name, role, status, allowed)
			}
			if status >= 400 {
				checkError(t, name, body)
			}
		}
	}
}

// TestHostsCommand lets hosts change what fleet let every machine change, and nothing else.
func TestHostsCommand(t *testing.T) {
	a := newAuthority(t, testCluster)
	s := newServer(&fakeFleet{})
	s.HostsCommand = true
	address := a.serve(t, s)
	more := []string{"PUT /v1/units/{name}", "DELETE /v1/units/{name}", "PATCH /v1/hosts/{id}/labels"}
	for _, role := range []string{"none", "host"} {
		transport := &http.Transport{TLSClientConfig: a.client(t, role)}
		defer transport.CloseIdleConnections()
		for _, rt := range routes {
			call := rt.method + " " + rt.path
			allowed := rt.allows(Anonymous)
			if role == "host" {
				allowed = rt.allows(Host) || slices.Contains(more, call)
			}
			status, _ := roundTrip(t, &http.Client{Transport: transport}, "https://"+address, call)
			if got := status != http.StatusForbidden; got != allowed {
				t.Errorf("%s by %s: status %d, want allowed %v", call, role, status, allowed)
			}
		}
	}
}

func roundTrip(t *testing.T, c *http.Client, base, call string) (int, []byte) {
	t.Helper()
	method, _, _ := strings.Cut(call, " ")
	req, err := http.NewRequestWithContext(t.Context(), method, base+calls[call].path, strings.NewReader(calls[call].body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatalf("%s: %v", call, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, body
}

// checkError wants a message and a hint in every refusal.
func checkError(t *testing.T, call string, body []byte) {
	t.Helper()
	var e Error
	if err := json.Unmarshal(body, &e); err != nil || e.Message == "" || e.Hint == "" {
		t.Errorf("%s: refused with %q, want an error with a hint", call, body)
	}
}

func TestForeignCertificates(t *testing.T) {
	a := newAuthority(t, testCluster)
	address := a.serve(t, newServer(&fakeFleet{}))
	foreign := newAuthority(t, "11111111-8c1d-4a52-9c53-2d6c1f0a7e11")

	config := foreign.client(t, "operator")
	config.RootCAs = x509.NewCertPool()
	config.RootCAs.AddCert(a.root.Cert)
	_, err := testClient(t, config, Endpoint{Name: "node-1", Address: address}).Status(t.Context())
	if err == nil || !strings.Contains(err.Error(), "unknown certificate authority") {
		t.Errorf("a client of another cluster: %v", err)
	}
	_, err = testClient(t, foreign.client(t, "operator"), Endpoint{Name: "node-1", Address: address}).Status(t.Context())
	if err == nil || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("a server of another cluster: %v", err)
	}
}

// TestNotVoter asks a host that does not vote for everything that needs a voter.
func TestNotVoter(t *testing.T) {
	a := newAuthority(t, testCluster)
	s := newServer(&fakeFleet{})
	s.Admin, s.Join = nil, nil
	address := a.serve(t, s)
	for _, rt := range routes {
		role := "operator"
		switch {
		case rt.allows(Operator):
		case rt.allows(Anonymous):
			role = "none"
		default:
			role = "host"
		}
		transport := &http.Transport{TLSClientConfig: a.client(t, role)}
		status, body := roundTrip(t, &http.Client{Transport: transport}, "https://"+address, rt.method+" "+rt.path)
		transport.CloseIdleConnections()
		if got := status == http.StatusMisdirectedRequest; got != rt.voter {
			t.Errorf("%s %s: status %d, needs a voter: %v", rt.method, rt.path, status, rt.voter)
		}
		if status >= 400 {
			checkError(t, rt.path, body)
		}
	}
}

// TestSocket allows reading status and units and nothing else.
func TestSocket(t *testing.T) {
	h := httptest.NewServer(newServer(&fakeFleet{}).SocketHandler())
	defer h.Close()
	for call := range calls {
		status, body := roundTrip(t, h.Client(), h.URL, call)
		want := call == "GET /v1/status" || call == "GET /v1/units"
		if got := status == http.StatusOK; got != want {
			t.Errorf("%s: status %d, want allowed %v", call, status, want)
		}
		if status >= 400 && status != http.StatusMethodNotAllowed {
			checkError(t, call, body)
		}
	}
}

func TestBadRequests(t *testing.T) {
	a := newAuthority(t, testCluster)
	address := a.serve(t, newServer(&fakeFleet{}))
	transport := &http.Transport{TLSClientConfig: a.client(t, "operator")}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	for _, c := range []struct {
		name, method, path, body string
		status                   int
	}{
		{"no body", "PUT", "/v1/units/a.service", "", 400},
		{"not JSON", "PUT", "/v1/units/a.service", "desired=launched", 400},
		{"unknown field", "PUT", "/v1/units/a.service", `{"wanted":"launched"}`, 400},
		{"two values", "PUT", "/v1/units/a.service", `{} {}`, 400},
		{"another name", "PUT", "/v1/units/a.service", `{"name":"b.service"}`, 400},
		{"too long", "PUT", "/v1/units/a.service", `{"content":"` + strings.Repeat("x", maxBody) + `"}`, 413},
		{"lines", "GET", "/v1/units/a.service/logs?lines=many", "", 400},
		{"labels", "PUT", "/v1/hosts/x/labels", `{"labels":["a"]}`, 400},
		{"no such path", "GET", "/v2/keys", "", 404},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, "https://"+address+c.path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != c.status {
			t.Errorf("%s: status %d, want %d: %s", c.name, resp.StatusCode, c.status, body)
		}
		checkError(t, c.name, body)
	}
}

func TestErrorsOfTheFleet(t *testing.T) {
	a := newAuthority(t, testCluster)
	for _, c := range []struct {
		err    error
		status int
	}{
		{Errorf(http.StatusNotFound, "submit it", "no unit"), 404},
		{fmt.Errorf("cannot write: %w", store.ErrConflict), 409},
		{fmt.Errorf("cannot write: %w", store.ErrDenied), 403},
		{errors.New("disk on fire"), 500},
	} {
		address := a.serve(t, newServer(&fakeFleet{err: c.err}))
		_, err := testClient(t, a.client(t, "operator"), Endpoint{Address: address}).PutUnit(t.Context(), Unit{Name: "a.service"})
		var e *Error
		if !errors.As(err, &e) || e.Status != c.status || e.Hint == "" {
			t.Errorf("%v: got %v, want status %d and a hint", c.err, err, c.status)
		}
	}
}
