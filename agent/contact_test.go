package agent

import (
	"testing"
	"time"
)

// holding notes what it is told.
type holding struct {
	fakeRuntime
	until  []time.Duration
	killed bool // what the next call says
}

func (h *holding) Holds() bool { return true }

func (h *holding) Held() (time.Duration, bool) { return 0, false }

func (h *holding) Hold(until time.Duration) (killed bool, err error) {
	killed, h.killed = h.killed, false
	h.until = append(h.until, until)
	return killed, nil
}

// TestContactTellsTheGuard follows a host from its announcement to the end of its session: what the guard is told, and that
// what it has killed counts as not started.
func TestContactTellsTheGuard(t *testing.T) {
	const ttl = 16 * time.Second
	now := 100 * time.Second
	h, told := &holding{}, 0
	c := newContact(ttl, h, func() time.Duration { return now }, quiet())
	c.changed = func() { told++ }
	last := func(want time.Duration) {
		t.Helper()
		if n := len(h.until); n == 0 || h.until[n-1] != want {
			t.Errorf("at %v the guard was told %v, want %v at last", now, h.until, want)
		}
	}
	c.renewed(1, now)
	c.announced(1, 10)
	if len(h.until) > 0 {
		t.Errorf("before the schedule is read the guard is told %v", h.until)
	}
	c.scheduled(10, false)
	last(115 * time.Second)

	now = 110 * time.Second
	h.killed = true
	before, news := c.now().Epoch, told
	c.renewed(1, 105*time.Second)
	last(120 * time.Second)
	if c.now().Epoch == before || told == news {
		t.Error("that the guard has killed is forgotten")
	}
	before = c.now().Epoch
	c.renewed(1, 106*time.Second)
	last(121 * time.Second)
	if c.now().Epoch != before {
		t.Error("the guard is believed to have killed, and has not")
	}

	news = told
	c.lost(1)
	last(114 * time.Second) // a quarter of the session's life
	if told == news {
		t.Error("nobody hears that the session has ended")
	}
	c.renewed(2, 112*time.Second)
	last(114 * time.Second)
}
