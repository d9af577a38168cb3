package agent

import (
	"context"
	"testing"
	"time"

	"github.com/musterhq/muster/cluster/store"
)

// TestRest stops what runs before a reboot, in its own time, and leaves it stopped; it stays the host's, and comes back with the
// host, or when there is no reboot after all.
func TestRest(t *testing.T) {
	inBubble(t, 1, func(w *world) {
		h := w.hosts[1]
		h.runtime.delay("slow.service", time.Minute)
		w.submit("slow.service", body, store.DesiredLaunched)
		w.submit("quick.service", body, store.DesiredLaunched)
		time.Sleep(time.Second)
		rest := func(timeout time.Duration) (took time.Duration) {
			h.executor.rest(true)
			ctx, cancel := context.WithTimeout(w.t.Context(), timeout)
			defer cancel()
			began := time.Now()
			err := h.executor.down(ctx)
			if late := time.Since(began) >= timeout; (err != nil) != late {
				t.Errorf("after %v: %v", time.Since(began), err)
			}
			return time.Since(began)
		}
		if took := rest(30 * time.Second); took < 30*time.Second {
			t.Errorf("it did not wait for what takes long, but %v", took)
		}
		rest(time.Minute)
		time.Sleep(time.Minute)
		w.expect("at rest", "1:")
		if !w.view().Ready(id(1)) || len(w.view().Schedule[id(1)].Record.Units) != 2 {
			t.Errorf("at rest the host has %+v", w.view().Schedule[id(1)].Record.Units)
		}
		h.executor.rest(false)
		time.Sleep(time.Second)
		w.expect("awake", "1: quick.service slow.service")

		rest(2 * time.Minute)
		h.stop()
		h.reboot()
		h.start()
		time.Sleep(time.Second)
		w.expect("after the reboot", "1: quick.service slow.service")
	})
}
