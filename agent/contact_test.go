package agent

import (
	"testing"
	"time"

	"github.com/musterhq/muster/agent/runtime/sim"
)

// TestLateRenewal wakes whoever stopped units when a sign of life is heard after all, and nobody for one in time.
func TestLateRenewal(t *testing.T) {
	now, woken := time.Minute, 0
	c := newContact(4*time.Second, sim.New(time.Now), func() time.Duration { return now }, quiet())
	c.changed = func() { woken++ }
	c.renewed(1, now)
	now += 3 * time.Second
	c.renewed(1, now-time.Second)
	if woken != 0 {
		t.Error("a sign of life in time wakes somebody")
	}
	now += 3 * time.Second
	c.renewed(1, now-time.Second)
	if woken != 1 {
		t.Errorf("a late sign of life wakes %d times", woken)
	}
}
