package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/musterhq/muster/agent/api"
)

// wandering is a cluster whose unit a is on one host after the other, for ten seconds each; nowhere is "".
type wandering struct {
	fleet
	hosts []string
	began time.Time
	opens []api.LogOptions
}

func (f *wandering) at() int { return min(int(time.Since(f.began)/(10*time.Second)), len(f.hosts)-1) }

func (f *wandering) Status(context.Context) (api.Status, error) {
	s := api.Status{}
	switch host := f.hosts[f.at()]; host {
	case "":
		s.Units = []api.UnitStatus{unit("a", "", "pending", "launched", "")}
	default:
		s.Units = []api.UnitStatus{unit("a", host, "running", "launched", "")}
	}
	return s, nil
}

func (f *wandering) WatchStatus(ctx context.Context, yield func(api.Status) bool) error {
	for {
		s, _ := f.Status(ctx)
		if !yield(s) {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
	}
}

// Logs breaks off when the host is lost, which is what it is while the unit is nowhere.
func (f *wandering) Logs(ctx context.Context, name string, o api.LogOptions, w io.Writer) error {
	f.opens = append(f.opens, o)
	if o.Host != f.hosts[f.at()] {
		return api.Errorf(http.StatusNotFound, "", "unit %s is not on host %s", name, o.Host)
	}
	fmt.Fprintf(w, "%s on %s\n", name, o.Host)
	for f.hosts[f.at()] != "" {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
	return errors.New("connection reset")
}

// TestFollowLog: the log goes on where the unit goes, whether it was moved or its host was lost.
func TestFollowLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &wandering{hosts: []string{"node-1", "node-2", "", "node-3"}, began: time.Now()}
		var out, errs bytes.Buffer
		c := &cli{out: &out, err: &errs, now: time.Now}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := c.followLog(ctx, f, "a", api.LogOptions{Follow: true, Lines: 3}, &out); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("ended with %v", err)
		}
		if want := "a on node-1\na on node-2\na on node-3\n"; out.String() != want {
			t.Errorf("got %q, want %q", out.String(), want)
		}
		if want := "muster: a is on node-2 now\nmuster: a is on node-3 now\n"; errs.String() != want {
			t.Errorf("told %q, want %q", errs.String(), want)
		}
		first, second := f.opens[0], f.opens[1]
		if first.Lines != 3 || !first.Since.IsZero() || second.Lines != -1 || f.began.Add(10*time.Second).Sub(second.Since).Abs() > 10*time.Second {
			t.Errorf("asked for %+v, then for %+v", first, second)
		}
	})
}

// TestFollowLogRefused: what will not be otherwise later is told at once.
func TestFollowLogRefused(t *testing.T) {
	f := newSmallFleet("a.service launched")
	c := &cli{out: io.Discard, err: io.Discard, now: time.Now}
	err := c.followLog(t.Context(), f, "b.service", api.LogOptions{Follow: true}, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "there is no unit b.service") {
		t.Errorf("an unknown unit: %v", err)
	}
	if err := c.followLog(t.Context(), f, "a.service", api.LogOptions{Follow: true, Host: "node-9"}, io.Discard); err != nil {
		t.Errorf("one host alone: %v", err)
	}
}
