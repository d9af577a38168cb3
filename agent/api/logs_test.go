package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// logFleet remembers what was asked of a unit's log.
type logFleet struct {
	*fakeFleet
	asked []LogOptions
}

func (f *logFleet) Logs(_ context.Context, _ string, o LogOptions, w io.Writer) error {
	f.asked = append(f.asked, o)
	_, err := w.Write(nil)
	return err
}

func TestLogOptionsArrive(t *testing.T) {
	a := newAuthority(t, testCluster)
	f := &logFleet{fakeFleet: &fakeFleet{}}
	server := newServer(f.fakeFleet)
	server.Fleet = f
	c := testClient(t, a.client(t, "operator"), Endpoint{Address: a.serve(t, server)})
	sent := []LogOptions{
		{Lines: -1},
		{
			Host: "node-2", Lines: 7, Priority: "err", Output: "short-iso",
			Since: time.Date(2026, 3, 4, 5, 6, 7, 89000, time.UTC),
		},
	}
	for _, o := range sent {
		if err := c.Logs(t.Context(), `a\x2d@--follow.service`, o, io.Discard); err != nil {
			t.Fatal(err)
		}
	}
	if len(f.asked) != len(sent) || f.asked[0] != sent[0] || f.asked[1] != sent[1] {
		t.Errorf("asked for %+v, want %+v", f.asked, sent)
	}
	var e *Error
	_, err := c.do(t.Context(), request{method: http.MethodGet, path: unitPath("a.service") + "/logs?since=yesterday"})
	if !errors.As(err, &e) || e.Status != http.StatusBadRequest || !strings.Contains(e.Hint, "RFC 3339") {
		t.Errorf("since=yesterday: %v", err)
	}
}
