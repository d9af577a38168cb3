package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/cluster/apply"
	"github.com/musterhq/muster/providers"
)

func TestAsk(t *testing.T) {
	p := examplePlan()
	for answer, want := range map[string]bool{
		"y\n": true, "yes\n": true, " YES \n": true, "y": true, "n\n": false, "\n": false, "": false, "yep\n": false,
	} {
		var shown bytes.Buffer
		c := &cli{in: strings.NewReader(answer), err: &shown}
		ok, err := c.ask(t.Context(), p, question{about: p.Destroys(), do: "Destroy"})
		if err != nil || ok != want {
			t.Errorf("%q: %t, %v", answer, ok, err)
		}
		for _, part := range []string{"old-1", "not in the cluster file", "Destroy 1 host? [y/N]"} {
			if !strings.Contains(shown.String(), part) {
				t.Errorf("%q is not in the question:\n%s", part, shown.String())
			}
		}
	}
}

// TestAskInterrupted: ^C at the question ends it although the terminal's read does not.
func TestAskInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	reader, writer := io.Pipe()
	defer writer.Close()
	c := &cli{in: reader, err: io.Discard}
	if ok, err := c.ask(ctx, examplePlan(), question{}); ok || !errors.Is(err, context.Canceled) {
		t.Errorf("%t, %v", ok, err)
	}
}

func TestOutcome(t *testing.T) {
	refused := &apply.HostError{Host: "node-1", Provider: "a", Err: fmt.Errorf("cannot create: %w", providers.ErrQuota)}
	w := &work{}
	for _, tt := range []struct {
		name   string
		err    error
		status int
		want   string
	}{
		{"not confirmed", fmt.Errorf("x: %w", apply.ErrNotConfirmed), statusFailed, "not confirmed"},
		{"a part", &apply.PartialError{Failed: []*apply.HostError{refused}, Total: 3}, statusPartial, "1 of 3 hosts failed"},
		{"all", refused, statusFailed, "ask the provider for more"},
		{"throttled", fmt.Errorf("x: %w", providers.ErrThrottled), statusFailed, "again later"},
		{"nobody to ask", usage("--yes", "nobody"), statusUsage, "--yes"},
	} {
		var b bytes.Buffer
		if got := report(&b, w.outcome(tt.err)); got != tt.status || !strings.Contains(b.String(), tt.want) {
			t.Errorf("%s: status %d\n%s", tt.name, got, b.String())
		}
	}
}

// TestInterrupted: a verb that ends because of ^C says what is left to do, and nothing of contexts.
func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var out, errs bytes.Buffer
	c := &cli{in: strings.NewReader(""), out: &out, err: &errs, drivers: providers.NewRegistry(), now: time.Now}
	c.connect = func(context.Context) (fleet, error) {
		cancel()
		return nil, fmt.Errorf("cannot list: %w", ctx.Err())
	}
	if status := c.execute(ctx, []string{"status"}); status != statusFailed {
		t.Errorf("exit status %d", status)
	}
	if got := errs.String(); !strings.Contains(got, "interrupted") || strings.Contains(got, "context") {
		t.Errorf("it says: %s", got)
	}
}

func BenchmarkHelp(b *testing.B) {
	for b.Loop() {
		run(b.Context(), []string{"--help"}, strings.NewReader(""), io.Discard, io.Discard)
	}
}
