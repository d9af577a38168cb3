package omaha_test

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/agent/omaha"
	"github.com/musterhq/muster/agent/release"
	"github.com/musterhq/muster/cloudconfig/golden"
)

var start = time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)

// world is a server with a repository of two releases, and a clock.
type world struct {
	*omaha.Server
	t      *testing.T
	now    time.Time
	ledger *omaha.Ledger
	broken error // of the catalog
}

func newWorld(t *testing.T, policy release.Policy) *world {
	w := &world{t: t, now: start, ledger: omaha.NewLedger()}
	flatcar := func(version string, channels ...string) release.Release {
		return release.Release{Custom: release.Custom{
			Version: version, Engine: omaha.Engine, Arch: "amd64", Channels: channels, Files: []string{"flatcar_production_update.gz"},
		}}
	}
	w.Server = omaha.NewServer(omaha.Config{
		Catalog: func() (release.Catalog, error) {
			return release.Catalog{Releases: []release.Release{
				flatcar("4081.2.0", "alpha", "beta", "stable"), flatcar("4152.0.0", "alpha"),
				{Custom: release.Custom{Version: "9999.0.0", Engine: "ab", Arch: "amd64", Channels: release.Channels}},
			}}, w.broken
		},
		Package: func(_ context.Context, r release.Release) (omaha.Package, string, error) {
			payload := []byte("payload of " + r.Version)
			return omaha.Package{
				Name: "sum.flatcar_production_update.gz", Size: int64(len(payload)), SHA1: sha1.Sum(payload), SHA256: sha256.Sum256(payload),
			}, "/targets/" + r.Dir() + "/", nil
		},
		Groups: map[string]string{"edge": "alpha"}, Policy: policy, Now: func() time.Time { return w.now }, Log: slog.New(slog.DiscardHandler),
	}, w.ledger)
	return w
}

// post sends a request as update_engine does.
func (w *world) post(body string) (status int, answer string) {
	w.t.Helper()
	r := httptest.NewRequestWithContext(w.t.Context(), http.MethodPost, "http://10.0.0.1:8080"+omaha.Path, strings.NewReader(body))
	r.Header.Set("Content-Type", "text/xml")
	to := httptest.NewRecorder()
	w.Handler().ServeHTTP(to, r)
	return to.Code, to.Body.String()
}

// ask is what a machine that runs a version is offered, "" for nothing.
func (w *world) ask(id, track, version, boot string, events ...omaha.Event) string {
	w.t.Helper()
	var told strings.Builder
	for _, e := range events {
		fmt.Fprintf(&told, `<event eventtype="%d" eventresult="%d" errorcode="%d"/>`, e.Type, e.Result, e.Code)
	}
	status, body := w.post(fmt.Sprintf(`<request protocol="3.0"><app appid="{%s}" version="%s" track="%s" machineid="%s" bootid="%s" board="amd64-usr">`+
		`<ping r="1"/><updatecheck/>%s</app></request>`, omaha.AppID, version, track, id, boot, told.String()))
	var answer struct {
		App struct {
			Check struct {
				Manifest struct {
					Version string `xml:"version,attr"`
				} `xml:"manifest"`
			} `xml:"updatecheck"`
		} `xml:"app"`
	}
	if err := xml.Unmarshal([]byte(body), &answer); err != nil || status != http.StatusOK {
		w.t.Fatalf("%d %v %s", status, err, body)
	}
	return answer.App.Check.Manifest.Version
}

// TestGolden answers the requests of testdata as they are answered there.
func TestGolden(t *testing.T) {
	requests, err := filepath.Glob("testdata/*.request.xml")
	if err != nil || len(requests) == 0 {
		t.Fatal("there are no requests", err)
	}
	for _, path := range requests {
		t.Run(filepath.Base(path), func(t *testing.T) {
			body, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			w := newWorld(t, release.Policy{})
			status, answer := w.post(string(body))
			golden.Compare(t, strings.TrimSuffix(path, ".request.xml")+".response.xml", []byte(fmt.Sprintf("<!-- %d -->\n%s\n", status, answer)))
		})
	}
}

// TestRollout has canaries go first, and stops where a release fails or falls back.
func TestRollout(t *testing.T) {
	installed := omaha.Event{Type: omaha.EventInstalled, Result: omaha.ResultSuccess}
	rebooted := omaha.Event{Type: omaha.EventComplete, Result: omaha.ResultReboot}
	const old, latest = "4000.0.0", "4081.2.0"
	w := newWorld(t, release.Policy{Canaries: map[string]string{"id": "c1"}, Soak: time.Hour})
	for i, step := range []struct {
		id, runs, boot string
		events         []omaha.Event
		after          time.Duration
		want           string
	}{
		{"c1", old, "1", nil, 0, latest},
		{"s1", old, "1", nil, 0, ""}, // the canary is not well yet
		{"c1", old, "1", []omaha.Event{installed}, time.Minute, latest},
		{"c1", latest, "2", []omaha.Event{rebooted}, time.Minute, ""},
		{"s1", old, "1", nil, 59 * time.Minute, ""}, // it has not soaked
		{"s1", old, "1", nil, 2 * time.Minute, latest},
		{"s2", old, "1", []omaha.Event{{Type: omaha.EventComplete, Code: 9}}, 0, latest},
		{"s2", old, "1", []omaha.Event{{Type: omaha.EventComplete, Code: 9}}, 0, latest}, // the network's failure
		{"s1", old, "1", []omaha.Event{installed}, 0, latest},
		{"s1", old, "2", nil, time.Minute, ""}, // it rebooted into the old one
		{"s2", old, "1", nil, 0, ""},           // and so nobody follows
	} {
		w.now = w.now.Add(step.after)
		if got := w.ask(step.id, "stable", step.runs, step.boot, step.events...); got != step.want {
			t.Errorf("step %d: offered %q, want %q: %+v", i, got, step.want, w.ledger.Machines[step.id])
		}
	}
	if is := w.ledger.Machines["s1"]; is.Failed != latest || is.Event != "fell back from "+latest {
		t.Errorf("what is remembered of a machine that fell back: %+v", is)
	}
	if why := w.ledger.Machines["s2"].Reason; !strings.Contains(why, "stopped") {
		t.Errorf("why a machine waits: %q", why)
	}
}

// TestRefused are requests that are none, and sizes that no machine needs.
func TestRefused(t *testing.T) {
	app := `<app appid="` + omaha.AppID + `" version="1.0.0" machineid="m"><updatecheck/></app>`
	for name, body := range map[string]string{
		"nothing":          "",
		"no XML":           "hello",
		"another document": "<response protocol=\"3.0\">" + app + "</response>",
		"another protocol": `<request protocol="2.0">` + app + "</request>",
		"no application":   `<request protocol="3.0"></request>`,
		"too many":         `<request protocol="3.0">` + strings.Repeat(app, 9) + "</request>",
		"too long":         `<request protocol="3.0">` + strings.Repeat(" ", omaha.MaxRequest) + app + "</request>",
		"a long machine":   `<request protocol="3.0">` + strings.Replace(app, `"m"`, `"`+strings.Repeat("m", 201)+`"`, 1) + "</request>",
		"many events": `<request protocol="3.0">` + strings.Replace(app, "<updatecheck/>", strings.Repeat(`<event eventtype="3"/>`, 17), 1) +
			"</request>",
		"an entity": `<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]><request protocol="3.0">` + strings.Replace(app, `"m"`, `"&x;"`, 1) +
			"</request>",
	} {
		w := newWorld(t, release.Policy{})
		if status, answer := w.post(body); status != http.StatusBadRequest || !strings.Contains(answer, omaha.ErrRequest.Error()) {
			t.Errorf("%s: %d %s", name, status, answer)
		}
		if len(w.ledger.Machines) != 0 {
			t.Errorf("%s: remembered %v", name, w.ledger.Machines)
		}
	}
	w := newWorld(t, release.Policy{})
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, omaha.Path, nil)
	to := httptest.NewRecorder()
	if w.Handler().ServeHTTP(to, r); to.Code != http.StatusMethodNotAllowed {
		t.Errorf("GET: %d", to.Code)
	}
}

// TestCannotDecide has a repository that cannot be believed: nothing is offered, and the machine is told that it is an error.
func TestCannotDecide(t *testing.T) {
	w := newWorld(t, release.Policy{})
	w.broken = errors.New("expired")
	_, answer := w.post(`<request protocol="3.0"><app appid="` + omaha.AppID + `" version="1.0.0" machineid="m" track="beta"><updatecheck/></app></request>`)
	if !strings.Contains(answer, `<updatecheck status="error-internal">`) {
		t.Error(answer)
	}
}

// TestBounded remembers no more machines than it may, and forgets who has not been heard for the longest.
func TestBounded(t *testing.T) {
	l := omaha.NewLedger()
	for i := range 20_010 {
		l.Hear(omaha.Machine{ID: fmt.Sprint(i), Version: "1.0"}, nil, start.Add(time.Duration(i)*time.Second))
	}
	if len(l.Machines) != 20_000 || l.Machines["9"] != nil || l.Machines["10"] == nil {
		t.Errorf("%d machines; 9: %v, 10: %v", len(l.Machines), l.Machines["9"], l.Machines["10"])
	}
}

func FuzzRequest(f *testing.F) {
	paths, _ := filepath.Glob("testdata/*.request.xml")
	for _, path := range paths {
		if body, err := os.ReadFile(path); err == nil {
			f.Add(body)
		}
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := omaha.ReadRequest(bytes.NewReader(body))
		if err != nil {
			if !errors.Is(err, omaha.ErrRequest) {
				t.Fatal(err)
			}
			return
		}
		l := omaha.NewLedger()
		answer, reports := omaha.Answer(r, func(m omaha.Machine, events []omaha.Event) omaha.Choice {
			l.Hear(m, events, start)
			return omaha.Choice{Offer: &omaha.Offer{Version: "9999999.0", Base: "http://a/"}}
		})
		var document bytes.Buffer
		if err := answer.Write(&document); err != nil {
			t.Fatal(err)
		}
		var again struct {
			Apps []struct {
				ID string `xml:"appid,attr"`
			} `xml:"app"`
		}
		if err := xml.Unmarshal(document.Bytes(), &again); err != nil || len(again.Apps) != len(r.Apps) || len(reports) > len(r.Apps) {
			t.Fatalf("%v: %s", err, document.Bytes())
		}
		if document.Len() > 64*omaha.MaxRequest {
			t.Fatalf("%d bytes are answered with %d", len(body), document.Len())
		}
	})
}
