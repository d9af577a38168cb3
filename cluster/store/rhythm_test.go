package store

import (
	"testing"
	"time"
)

// TestRhythm gives signs of life in time, at moments that hosts share.
func TestRhythm(t *testing.T) {
	began := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, ttl := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 7300 * time.Millisecond, 59 * time.Second} {
		r := rhythm{ttl: ttl}
		for ms := range 300 {
			sent := began.Add(time.Duration(ms) * time.Millisecond)
			for _, troubled := range []bool{false, true} {
				due := r.next(sent, troubled)
				switch wait := due.Sub(sent); {
				case wait > 2*ttl/5:
					t.Fatalf("a session of %s gives its next sign of life %s after one", ttl, wait)
				case wait < ttl/5-Beat && troubled, wait < ttl/10, wait < 2*ttl/5-Beat && !troubled:
					t.Fatalf("a session of %s gives its next sign of life as soon as %s after one", ttl, wait)
				case !due.Equal(due.Truncate(Beat)) && ttl > time.Second:
					t.Fatalf("a session of %s gives its next sign of life at %s, and no other does then", ttl, due.Format(time.StampMilli))
				}
			}
		}
	}
	for _, c := range []struct{ ttl, want time.Duration }{
		{2 * time.Second, time.Second},
		{4 * time.Second, time.Second},
		{4800 * time.Millisecond, 1200 * time.Millisecond},
		{time.Minute, probeTimeout},
	} {
		r := rhythm{ttl: c.ttl}
		if got := r.patience(); got != c.want {
			t.Errorf("a session of %s waits %s for an answer, want %s", c.ttl, got, c.want)
		}
		if left := c.ttl*11/16 - 2*c.ttl/5 - r.patience(); c.ttl >= 4*time.Second && left < 100*time.Millisecond {
			t.Errorf("a session of %s has %s to find another member before strict units are stopped", c.ttl, left)
		}
	}
}
