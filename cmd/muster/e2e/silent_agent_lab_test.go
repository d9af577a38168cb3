//go:build lab

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/agent/api"
)

// TestSilentAgent offers a musterd that starts and never joins. The first host that takes it goes back by itself when its tries
// are used up, keeps the lock, and nobody follows.
func TestSilentAgent(t *testing.T) {
	r := newReleases(t)
	file := strings.Replace(updatingFile(r, "agent", musterdOf(t, "1.0.0"), 4, 3, 4), "within: 40s", "within: 10s", 1)
	c := newCluster(t, file, map[string]string{"nap@.service": napUnit})
	c.must("up", "--yes")
	c.eventually(time.Minute, whole(4, 3, 4))
	c.updates(time.Minute, allRun("1.0.0", 4))
	silent := filepath.Join(t.TempDir(), "musterd")
	if err := os.WriteFile(silent, []byte("#!/bin/sh\nexec sleep 100000\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	r.add("agent", "1.0.1", silent)
	u := c.updates(5*time.Minute, func(u api.Update) error {
		if u.Hold == nil {
			return fmt.Errorf("the rollout is not held")
		}
		return nil
	})
	t.Logf("%s is back after %v: %s", u.Hold.Host, time.Since(began).Round(time.Second), u.Hold.Reason)
	for _, h := range u.Hosts {
		if h.Version != "1.0.0" {
			t.Errorf("%s runs %s", h.Host, h.Version)
		}
	}
	if locks := c.must("lock", "status").stdout; !strings.Contains(locks, u.Hold.Host) {
		t.Errorf("%s, on which the release failed, does not hold the lock:\n%s", u.Hold.Host, locks)
	}
	c.eventually(time.Minute, whole(4, 3, 4))
}
