package fleetapi

import (
	"bufio"
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/musterhq/muster/cloudconfig/golden"
)

// TestGolden plays recorded conversations. In testdata/*.txtar a file named "world" says what happens to the cluster
// (see world.tell), any other is a request, blank line, arrow, blank line, and the response that it must have.
func TestGolden(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no conversations: %v", err)
	}
	for _, path := range paths {
		t.Run(conversation(path), func(t *testing.T) {
			archive, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			w := newWorld(t)
			for i, file := range archive.Files {
				if file.Name == "world" {
					for line := range strings.Lines(string(file.Data)) {
						w.tell(line)
					}
					continue
				}
				request, want, _ := strings.Cut(string(file.Data), arrow)
				got := w.play(request)
				if diff := cmp.Diff(want, got); diff != "" && !golden.Updating() {
					t.Errorf("%s (-want +got):\n%s", file.Name, diff)
				}
				archive.Files[i].Data = []byte(request + arrow + got)
			}
			if !golden.Updating() {
				return
			}
			if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// arrow stands between a request and its response.
const arrow = "\n=>\n"

// play sends a request as it stands in a conversation and renders the response: status, headers, blank line, body.
func (w *world) play(text string) string {
	w.t.Helper()
	head, body, _ := strings.Cut(text, "\n\n")
	line, headers, _ := strings.Cut(head, "\n")
	raw := strings.TrimSpace(line) + " HTTP/1.1\r\nHost: domain-sock\r\n"
	for h := range strings.Lines(headers) {
		raw += strings.TrimSpace(h) + "\r\n"
	}
	body = strings.TrimSpace(body)
	raw += fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body)
	request, err := http.ReadRequest(bufio.NewReader(strings.NewReader(raw)))
	if err != nil {
		w.t.Fatalf("%s: %v", line, err)
	}
	recorder := httptest.NewRecorder()
	w.ServeHTTP(recorder, request.WithContext(w.t.Context()))
	return render(recorder)
}

func render(r *httptest.ResponseRecorder) string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%d %s\n", r.Code, http.StatusText(r.Code))
	var lines []string
	for key, values := range r.Result().Header {
		for _, value := range values {
			lines = append(lines, key+": "+value+"\n")
		}
	}
	slices.Sort(lines)
	b.WriteString(strings.Join(lines, ""))
	if r.Body.Len() > 0 {
		fmt.Fprintf(&b, "\n%s\n", r.Body)
	}
	return b.String()
}
