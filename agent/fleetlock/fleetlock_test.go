package fleetlock

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/agent/lock"
	"github.com/musterhq/muster/cluster/store"
)

// post is a request as Zincati sends it.
func post(t *testing.T, h *Handler, path, header, body string) (status int, kind string) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, strings.NewReader(body))
	if header != "" {
		r.Header.Set("fleet-lock-protocol", header)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	var f Failure
	if w.Code != http.StatusOK {
		if err := json.Unmarshal(w.Body.Bytes(), &f); err != nil || f.Kind == "" || f.Value == "" {
			t.Errorf("%s %s: %d %s", path, body, w.Code, w.Body)
		}
	}
	return w.Code, f.Kind
}

func TestFleetLock(t *testing.T) {
	m := store.NewMemory(time.Now)
	defer m.Close()
	k := &lock.Keeper{Store: m, Now: time.Now}
	open := &Handler{Keeper: k, Log: slog.New(slog.DiscardHandler)}
	named := &Handler{Keeper: k, Host: "0123456789abcdef0123456789abcdef", Log: open.Log}
	if err := k.Lock(t.Context(), "ours", store.LockHolder{ID: "op", Kind: store.HolderOperator}, "operator", ""); err != nil {
		t.Fatal(err)
	}
	const take, back = "/v1/pre-reboot", "/v1/steady-state"
	client := func(id, group string) string { return `{"client_params":{"id":"` + id + `","group":"` + group + `"}}` }
	for i, step := range []struct {
		by                 *Handler
		path, header, body string
		status             int
		kind               string
	}{
		{open, take, "true", client("a", "default"), 200, ""},
		{open, take, "true", client("a", "default"), 200, ""},
		{open, take, "true", client("b", "default"), 409, "lock_refused"},
		{open, back, "true", client("b", "default"), 200, ""}, // it holds nothing
		{open, back, "true", client("a", "default"), 200, ""},
		{named, take, "true", client("b", "default"), 200, ""},
		{open, take, "true", client("b", "default"), 409, "lock_refused"},
		{named, back, "true", client("b", "default"), 200, ""},
		{open, back, "true", client("op", "ours"), 409, "lock_refused"},
		{open, take, "true", client("a", "ours"), 409, "lock_refused"},
		{open, take, "true", client("a", "unheard"), 404, "unknown_group"},
		{open, take, "true", client("a", "web_1"), 400, "bad_client_params"},
		{open, take, "true", client("", "default"), 400, "bad_client_params"},
		{open, take, "true", client("a b", "default"), 400, "bad_client_params"},
		{open, take, "", client("a", "default"), 400, "missing_header"},
		{open, take, "yes", client("a", "default"), 400, "missing_header"},
		{open, take, "true", "{}", 400, "bad_client_params"},
		{open, take, "true", "", 400, "bad_body"},
		{open, take, "true", client("a", "default") + "{}", 400, "bad_body"},
		{open, take, "true", client(strings.Repeat("a", maxBody), "default"), 400, "bad_body"},
		{open, "/v1/reboot", "true", client("a", "default"), 404, "not_found"},
	} {
		if status, kind := post(t, step.by, step.path, step.header, step.body); status != step.status || kind != step.kind {
			t.Errorf("step %d: %d %s, want %d %s", i, status, kind, step.status, step.kind)
		}
	}
	w := httptest.NewRecorder()
	open.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, take, nil))
	if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != http.MethodPost {
		t.Errorf("GET: %d, Allow %q", w.Code, w.Header().Get("Allow"))
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if status, kind := post(t, open, take, "true", client("a", "default")); status != 503 || kind != "unavailable" {
		t.Errorf("without a store: %d %s", status, kind)
	}
}

func FuzzFleetLock(f *testing.F) {
	f.Add("/v1/pre-reboot", `{"client_params":{"id":"a","group":"default"}}`)
	f.Add("/v1/steady-state", `{"client_params":{"id":"a","group":"x.y-z"}}`)
	f.Add("/v1/pre-reboot", `{"client_params":[]}`)
	f.Fuzz(func(t *testing.T, path, body string) {
		m := store.NewMemory(time.Now)
		defer m.Close()
		h := &Handler{Keeper: &lock.Keeper{Store: m, Now: time.Now}, Log: slog.New(slog.DiscardHandler)}
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(body))
		r.URL.Path = path
		r.Header.Set("fleet-lock-protocol", "true")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		view, err := m.Range(t.Context(), store.Prefix)
		if err != nil || w.Code == http.StatusOK && len(view.Items) > 1 || w.Code != http.StatusOK && len(view.Items) > 0 {
			t.Fatalf("%d, %v, %+v", w.Code, err, view.Items)
		}
	})
}
