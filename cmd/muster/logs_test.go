package main

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/agent/api"
)

// logFleet remembers what it was asked for.
type logFleet struct {
	fleet
	asked api.LogOptions
}

func (f *logFleet) Logs(_ context.Context, _ string, o api.LogOptions, w io.Writer) error {
	f.asked = o
	_, err := w.Write([]byte("hello\n"))
	return err
}

func TestLogOptions(t *testing.T) {
	for args, want := range map[string]api.LogOptions{
		"logs web":                              {Lines: 100, Output: "cat"},
		"logs web -f -n 5 --host node-2":        {Lines: 5, Follow: true, Host: "node-2", Output: "cat"},
		"units logs web -o json -p err":         {Lines: 100, Output: "json", Priority: "err"},
		"journal web":                           {Lines: 10, Output: "short"},
		"units journal --sudo --lines=3 -f web": {Lines: 3, Follow: true, Output: "short"},
		"journal --output short-iso web":        {Lines: 10, Output: "short-iso"},
	} {
		f := &logFleet{}
		status, out, errs := asks(t, f, strings.Fields(args)...)
		if status != statusDone || out != "hello\n" || f.asked != want {
			t.Errorf("%s: %d %q %q, asked for %+v, want %+v", args, status, out, errs, f.asked, want)
		}
	}
	f := &logFleet{}
	if status, _, errs := asks(t, f, "logs", "web", "--since", "10m"); status != statusDone || f.asked.Lines != -1 ||
		time.Since(f.asked.Since) < 10*time.Minute || time.Since(f.asked.Since) > time.Hour {
		t.Errorf("%d %s, asked for %+v", status, errs, f.asked)
	}
	for _, args := range []string{"logs web -o yaml", "logs web -p error", "logs web --since soon", "logs web db", "logs"} {
		if status, _, errs := asks(t, &logFleet{}, strings.Fields(args)...); status != statusUsage {
			t.Errorf("%s: %d %s", args, status, errs)
		}
	}
}

func TestParseSince(t *testing.T) {
	zone := time.FixedZone("", 2*3600)
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, zone)
	for text, want := range map[string]string{
		"90m": "2026-03-04T03:36:07+02:00", "-1h": "2026-03-04T04:06:07+02:00", "today": "2026-03-04T00:00:00+02:00",
		"yesterday": "2026-03-03T00:00:00+02:00", "now": "2026-03-04T05:06:07+02:00", "03:04": "2026-03-04T03:04:00+02:00",
		"03:04:05": "2026-03-04T03:04:05+02:00", "2026-01-02": "2026-01-02T00:00:00+02:00",
		"2026-01-02 03:04:05": "2026-01-02T03:04:05+02:00", "2026-01-02 03:04": "2026-01-02T03:04:00+02:00",
		"2026-01-02T03:04:05Z": "2026-01-02T03:04:05Z",
	} {
		if got, err := parseSince(text, now); err != nil || got.Format(time.RFC3339) != want {
			t.Errorf("%s is %v, %v; want %s", text, got, err, want)
		}
	}
	if at, err := parseSince("last week", now); err == nil {
		t.Errorf("got %v", at)
	}
}

// Status has no unit on one host alone, so that its logs are the cluster's affair.
func (f *logFleet) Status(context.Context) (api.Status, error) { return api.Status{}, nil }
