package join

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/cluster/pki"
	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/store"
)

func TestRedeem(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	tok := store.Token{V: 1, Host: roster.Host{ID: testHostID, Name: "n1"}, Expires: now.Add(time.Minute)}
	used := tok
	used.UsedBy = "aa"
	req := Request{Host: "n1", HostID: testHostID}
	cases := map[string]struct {
		tok  store.Token
		req  Request
		key  string
		now  time.Time
		want error
	}{
		"first use":                     {tok, req, "aa", now, nil},
		"first use at the last moment":  {tok, req, "aa", tok.Expires.Add(-1), nil},
		"first use when it has expired": {tok, req, "aa", tok.Expires, ErrTokenExpired},
		"again with the same key":       {used, req, "aa", now, nil},
		"again later":                   {used, req, "aa", now.Add(time.Hour), nil},
		"again with another key":        {used, req, "ab", now, ErrTokenUsed},
		"another host":                  {tok, Request{Host: "n1", HostID: "x"}, "aa", now, ErrTokenHost},
		"another name":                  {tok, Request{Host: "n2", HostID: testHostID}, "aa", now, ErrTokenHost},
		"another host, key known":       {used, Request{Host: "n1", HostID: "x"}, "aa", now, ErrTokenHost},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := Redeem(c.tok, c.req, c.key, c.now)
			if !errors.Is(err, c.want) || (c.want == nil) != (err == nil) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if err == nil && got.UsedBy != c.key {
				t.Errorf("UsedBy = %q", got.UsedBy)
			}
			if err != nil && got.UsedBy != c.tok.UsedBy {
				t.Errorf("a refused token changed")
			}
		})
	}
}

func TestTokens(t *testing.T) {
	secret, hash := NewToken()
	other, _ := NewToken()
	if len(secret) != 43 || secret == other {
		t.Errorf("secrets %q and %q", secret, other)
	}
	if !MatchToken(secret, hash) || MatchToken(other, hash) || MatchToken("", hash) || MatchToken(secret, "") {
		t.Error("MatchToken is wrong")
	}
}

func TestPlace(t *testing.T) {
	h := roster.Host{ID: testHostID, Name: "n1"}
	req := Request{Facts: roster.Facts{Addresses: []string{"192.0.2.9"}, Ports: roster.Ports{API: 1234}}}
	got, err := Place(h, req, netip.MustParseAddr("::ffff:192.0.2.1"))
	if err != nil {
		t.Fatal(err)
	}
	if want := (roster.Ports{API: 1234, Client: 2379, Peer: 2380}); got.Address != "192.0.2.1" || got.Ports != want {
		t.Errorf("placed at %s %+v", got.Address, got.Ports)
	}
	req.Facts.Ports.Peer = 70000
	if _, err := Place(h, req, netip.MustParseAddr("192.0.2.1")); !errors.Is(err, ErrBadRequest) {
		t.Errorf("port 70000: %v", err)
	}
}

// TestHandlerRefuses checks status and code of requests that never reach the admitter.
func TestHandlerRefuses(t *testing.T) {
	w := newWorld(t)
	csr, err := pki.NewCSR(newKey(t), "x")
	if err != nil {
		t.Fatal(err)
	}
	good := Request{Host: "n1", HostID: testHostID, Token: "x", CSR: string(csr)}
	render := func(change func(*Request)) string {
		req := good
		change(&req)
		raw, err := json.Marshal(req)
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	cases := map[string]struct {
		method, body string
		status       int
	}{
		"GET":              {http.MethodGet, "", http.StatusMethodNotAllowed},
		"empty":            {http.MethodPost, "", http.StatusBadRequest},
		"not JSON":         {http.MethodPost, "hello", http.StatusBadRequest},
		"two values":       {http.MethodPost, "{}{}", http.StatusBadRequest},
		"deeply nested":    {http.MethodPost, strings.Repeat("[", 60<<10), http.StatusBadRequest},
		"too long":         {http.MethodPost, render(func(r *Request) { r.Facts.OS = strings.Repeat("x", maxRequest) }), http.StatusBadRequest},
		"no CSR":           {http.MethodPost, render(func(r *Request) { r.CSR = "" }), http.StatusBadRequest},
		"token too long":   {http.MethodPost, render(func(r *Request) { r.Token = strings.Repeat("x", 200) }), http.StatusBadRequest},
		"upper-case ID":    {http.MethodPost, render(func(r *Request) { r.HostID = strings.ToUpper(r.HostID) }), http.StatusBadRequest},
		"name with a dot":  {http.MethodPost, render(func(r *Request) { r.Host = "a.b" }), http.StatusBadRequest},
		"name of a voter":  {http.MethodPost, render(func(r *Request) { r.Host = "join" }), http.StatusBadRequest},
		"good but unknown": {http.MethodPost, render(func(*Request) {}), http.StatusForbidden},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			rec := httptest.NewRecorder()
			req := httptest.NewRequest(c.method, Path, strings.NewReader(c.body))
			Handler(w, quiet()).ServeHTTP(rec, req)
			var e wireError
			if err := json.Unmarshal(rec.Body.Bytes(), &e); err != nil || e.Message == "" {
				t.Errorf("body %q", rec.Body)
			}
			if rec.Code != c.status {
				t.Errorf("status %d, want %d", rec.Code, c.status)
			}
		})
	}
	if w.calls != 1 {
		t.Errorf("the admitter was called %d times, want once", w.calls)
	}
}

// TestRefusalsTravel sends every error through the wire and back.
func TestRefusalsTravel(t *testing.T) {
	for _, r := range refusals {
		raw, err := json.Marshal(wireError{Message: r.err.Error(), Hint: r.hint, Code: refusalOf(fmt.Errorf("x: %w", r.err)).code})
		if err != nil {
			t.Fatal(err)
		}
		_, got := decodeReply(r.status, bytes.NewReader(raw))
		if !errors.Is(got, r.err) {
			t.Errorf("%v came back as %v", r.err, got)
		}
		if want := r.err != ErrNotForming; final(got) != want {
			t.Errorf("final(%v) = %t", r.err, !want)
		}
	}
	if final(decodeRefusal(500, strings.NewReader(`{"error":"x","code":"token_used"}`))) {
		t.Error("a code under another status is believed")
	}
}

func TestReplyCheck(t *testing.T) {
	w := newWorld(t)
	cfg, key := w.invite(time.Hour)
	csr, err := pki.NewCSR(key, "")
	if err != nil {
		t.Fatal(err)
	}
	admit := func(w *world, cfg Config) Reply {
		w.tokens[HashToken(cfg.Token)] = store.Token{
			Host:    roster.Host{ID: cfg.HostID, Name: cfg.Host, Voter: true},
			Expires: time.Now().Add(time.Hour),
		}
		req := Request{Host: cfg.Host, HostID: cfg.HostID, Token: cfg.Token, CSR: string(csr)}
		reply, err := w.Admit(t.Context(), req, &key.PublicKey, netip.MustParseAddr("127.0.0.1"))
		if err != nil {
			t.Fatal(err)
		}
		return reply
	}
	other := cfg
	other.HostID = strings.Repeat("e", 32)
	cases := map[string]func(r *Reply, at *time.Time){
		"expired":              func(_ *Reply, at *time.Time) { *at = at.Add(25 * time.Hour) },
		"foreign CA":           func(r *Reply, _ *time.Time) { *r = admit(newWorld(t), cfg) },
		"another host":         func(r *Reply, _ *time.Time) { *r = admit(w, other) },
		"not in the roster":    func(r *Reply, _ *time.Time) { r.Roster = nil },
		"role contradicts":     func(r *Reply, _ *time.Time) { r.Voter = nil },
		"unknown state":        func(r *Reply, _ *time.Time) { r.Voter.State = "old" },
		"not in the cluster":   func(r *Reply, _ *time.Time) { r.Voter.InitialCluster = nil },
		"no issuer":            func(r *Reply, _ *time.Time) { r.Voter.IssuerKey = "" },
		"no certificate":       func(r *Reply, _ *time.Time) { r.Certificate = "" },
		"issuer's certificate": func(r *Reply, _ *time.Time) { r.Certificate = string(w.issuer.CertPEM()) },
	}
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			reply, now := admit(w, cfg), time.Now()
			if err := reply.Check(cfg, &key.PublicKey, now); err != nil {
				t.Fatal(err)
			}
			change(&reply, &now)
			if err := reply.Check(cfg, &key.PublicKey, now); err == nil {
				t.Error("accepted")
			}
		})
	}
	reply := admit(w, cfg)
	if err := reply.Check(cfg, &newKey(t).PublicKey, time.Now()); err == nil {
		t.Error("a certificate for another key is accepted")
	}
}

// TestSecretsAreNotPrinted renders everything that holds a secret in the ways that logs do.
func TestSecretsAreNotPrinted(t *testing.T) {
	const canary = "canary-7f3a"
	role := VoterRole{State: "new", IssuerKey: canary}
	for _, v := range []any{Config{Token: canary}, Request{Token: canary}, role, &role, Reply{Voter: &role}} {
		var log bytes.Buffer
		slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "v", v)
		slog.New(slog.NewTextHandler(&log, nil)).Info("x", "v", v)
		_, _ = fmt.Fprintf(&log, "%v %+v %s", v, v, v)
		if strings.Contains(log.String(), canary) {
			t.Errorf("%T prints its secret: %s", v, log.String())
		}
	}
}

func FuzzRequest(f *testing.F) {
	key, err := pki.NewKey()
	if err != nil {
		f.Fatal(err)
	}
	csr, err := pki.NewCSR(key, "x")
	if err != nil {
		f.Fatal(err)
	}
	raw, err := json.Marshal(Request{Host: "n1", HostID: testHostID, Token: "t", CSR: string(csr)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte(`{"host":"n1"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		req, pub, err := decodeRequest(bytes.NewReader(raw))
		if err != nil {
			if !errors.Is(err, ErrBadRequest) {
				t.Errorf("%v is not ErrBadRequest", err)
			}
			return
		}
		if pub == nil || !roster.ValidID(req.HostID) || !roster.ValidName(req.Host) || req.Token == "" {
			t.Errorf("accepted %+v", req)
		}
	})
}

func FuzzReply(f *testing.F) {
	f.Add(200, []byte(`{"certificate":"x","roster":[{"id":"a"}],"voter":{"state":"new"}}`))
	f.Add(403, []byte(`{"error":"x","code":"token_used"}`))
	f.Fuzz(func(t *testing.T, status int, raw []byte) {
		reply, err := decodeReply(status, bytes.NewReader(raw))
		if err == nil && status != http.StatusOK {
			t.Errorf("status %d is no error", status)
		}
		if err == nil && reply.Check(Config{CA: "x"}, nil, time.Now()) == nil {
			t.Error("an unverifiable reply is accepted")
		}
	})
}
