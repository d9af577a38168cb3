package agent

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/agent/partition"
	"github.com/musterhq/muster/agent/runtime"
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

// forgetful is a holder that does not tell what its guard has killed.
type forgetful struct{ *holding }

func (f forgetful) Hold(until time.Duration) (killed bool, err error) {
	_, err = f.holding.Hold(until)
	return false, err
}

// deaf is a contact to which nobody tells that the session has ended.
type deaf struct{ *contact }

func (deaf) lost(int64) {}

// told is what a contact is told.
type told interface {
	renewed(session int64, sent time.Duration)
	announced(session, revision int64)
	scheduled(revision int64, strays bool)
	lost(session int64)
	now() partition.Contact
}

// TestContactTellsTheGuard follows a host from its announcement to the end of its session: what the guard is told, and that
// what it has killed counts as not started.
func TestContactTellsTheGuard(t *testing.T) {
	same := func(h *holding) runtime.Runtime { return h }
	for _, tt := range []struct {
		name   string
		holder func(*holding) runtime.Runtime
		made   func(*contact) told
		wrong  []string
	}{
		{name: "as it is", holder: same, made: func(c *contact) told { return c }},
		{
			name: "without hearing of the guard", holder: func(h *holding) runtime.Runtime { return forgetful{h} },
			made: func(c *contact) told { return c }, wrong: []string{"that the guard has killed is forgotten"},
		},
		{
			name: "without hearing of the end", holder: same, made: func(c *contact) told { return deaf{c} },
			wrong: []string{"nobody hears that the session has ended", "at 1m50s the guard was told 2m1s, want 1m54s", "at 1m50s the guard was told 2m1s, want 1m54s"},
		},
	} {
		if d := cmp.Diff(tt.wrong, followContact(tt.holder, tt.made)); d != "" {
			t.Errorf("%s: %s", tt.name, d)
		}
	}
}

// followContact says what is wrong.
func followContact(holder func(*holding) runtime.Runtime, made func(*contact) told) (wrong []string) {
	const ttl = 16 * time.Second
	now := 100 * time.Second
	h, news := &holding{}, 0
	bare := newContact(ttl, holder(h), func() time.Duration { return now }, quiet())
	bare.changed = func() { news++ }
	c := made(bare)
	check := func(ok bool, format string, args ...any) {
		if !ok {
			wrong = append(wrong, fmt.Sprintf(format, args...))
		}
	}
	last := func(want time.Duration) {
		is := h.until[len(h.until)-1]
		check(is == want, "at %v the guard was told %v, want %v", now, is, want)
	}
	c.renewed(1, now)
	c.announced(1, 10)
	check(len(h.until) == 0, "before the schedule is read the guard is told %v", h.until)
	c.scheduled(10, false)
	last(115 * time.Second)

	now = 110 * time.Second
	h.killed = true
	epoch, heard := c.now().Epoch, news
	c.renewed(1, 105*time.Second)
	last(120 * time.Second)
	check(c.now().Epoch != epoch && news != heard, "that the guard has killed is forgotten")
	epoch = c.now().Epoch
	c.renewed(1, 106*time.Second)
	last(121 * time.Second)
	check(c.now().Epoch == epoch, "the guard is believed to have killed, and has not")

	heard = news
	c.lost(1)
	check(news != heard, "nobody hears that the session has ended")
	last(114 * time.Second) // a quarter of the session's life
	c.renewed(2, 112*time.Second)
	last(114 * time.Second)
	return wrong
}
