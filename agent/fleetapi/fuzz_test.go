package fleetapi

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// FuzzPut sends bodies. None may be answered with 5xx, and what is made is what was sent: its options in their order.
func FuzzPut(f *testing.F) {
	seeds, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range seeds {
		archive, err := txtar.ParseFile(path)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range archive.Files {
			request, _, _ := strings.Cut(string(file.Data), arrow)
			if _, body, ok := strings.Cut(request, "\n\n"); ok && strings.HasPrefix(request, "PUT") {
				f.Add(body)
			}
		}
	}
	f.Fuzz(func(t *testing.T, body string) {
		w := newWorld(t)
		request := httptest.NewRequestWithContext(t.Context(), http.MethodPut, "/fleet/v1/units/a.service", strings.NewReader(body))
		request.Header.Set("Content-Type", "application/json")
		recorder := httptest.NewRecorder()
		w.ServeHTTP(recorder, request)
		if recorder.Code >= 500 {
			t.Fatalf("%d %s", recorder.Code, recorder.Body)
		}
		if recorder.Code != http.StatusCreated {
			return
		}
		var sent Unit
		if err := decode(httptest.NewRequestWithContext(t.Context(), http.MethodPut, "/", strings.NewReader(body)), &sent); err != nil {
			t.Fatal(err)
		}
		for i, o := range sent.Options {
			sent.Options[i].Value = strings.TrimSpace(o.Value)
		}
		if got := get[Unit](w, "/fleet/v1/units/a.service"); !slices.Equal(got.Options, sent.Options) {
			t.Fatalf("%q\nbecame %q", sent.Options, got.Options)
		}
	})
}

// FuzzPatch sends patches of metadata.
func FuzzPatch(f *testing.F) {
	f.Add(`[{"op":"add","path":"/` + machine("1") + `/metadata/a","value":"b"}]`)
	f.Add(`[{"op":"replace","path":"/` + machine("1") + `/metadata/a","value":{"value":"b"}}]`)
	f.Add(`[{"op":"remove","path":"/x/metadata/a"}]`)
	f.Add(`[{"op":"add","path":"","value":null}]`)
	f.Fuzz(func(t *testing.T, body string) {
		w := newWorld(t)
		w.tell("machine 1 10.0.0.1 a=1")
		request := httptest.NewRequestWithContext(t.Context(), http.MethodPatch, "/fleet/v1/machines", strings.NewReader(body))
		recorder := httptest.NewRecorder()
		w.ServeHTTP(recorder, request)
		if recorder.Code >= 500 {
			t.Fatalf("%d %s", recorder.Code, recorder.Body)
		}
		machines := get[MachinePage](w, "/fleet/v1/machines").Machines
		for key, value := range machines[0].Metadata {
			if key == "" || value == "" {
				t.Fatalf("%q makes the metadata %q", body, machines[0].Metadata)
			}
		}
	})
}

// FuzzToken reads page tokens. One that is taken is given again.
func FuzzToken(f *testing.F) {
	for _, seed := range []string{"ZAACAA==", "ZAACAA", "ZAAAAA==", "", "=", "////", "ZAD__w=="} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		token, err := parseToken(text)
		if err != nil {
			return
		}
		if token.limit != pageLimit || token.page == 0 {
			t.Fatalf("%q is %+v", text, token)
		}
		if again, err := parseToken(token.String()); err != nil || again != token {
			t.Fatalf("%q is %+v, which is written %q and reads %+v, %v", text, token, token, again, err)
		}
		all := []int{1, 2, 3}
		request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/?nextPageToken="+token.String(), nil)
		if _, next, err := pageOf(request, all); err != nil || next != "" {
			t.Fatalf("the page after one of three is %q, %v", next, err)
		}
	})
}
