package control

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/musterhq/muster/cluster/store"
)

// TestDoubt ends the sessions of two hosts. One begins another in time and keeps its unit; the other does not.
func TestDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.join(1, 2, 3)
		_, end := c.lead("node-3")
		defer end()
		for _, name := range []string{"a.service", "b.service", "c.service"} {
			c.submit(name, "", store.DesiredLaunched)
			time.Sleep(time.Second)
		}
		c.expect("before", "a.service@1", "b.service@2", "c.service@3")

		c.commit(store.Delete(store.AliveKey(id(1))), store.Delete(store.AliveKey(id(2))))
		time.Sleep(Doubt / 2)
		c.join(1)
		time.Sleep(Doubt/2 - time.Millisecond)
		c.expect("while in doubt", "a.service@1", "b.service@2", "c.service@3")
		time.Sleep(100 * time.Millisecond)
		c.expect("after it", "a.service@1", "b.service@1", "c.service@3")
		time.Sleep(10 * Doubt)
		c.expect("long after it", "a.service@1", "b.service@1", "c.service@3")
	})
}

func TestSessionTTL(t *testing.T) {
	for lease, want := range map[time.Duration]time.Duration{
		5 * time.Second: 4 * time.Second, 2 * time.Second: time.Second, time.Minute: 59 * time.Second,
	} {
		if got := SessionTTL(lease); got != want {
			t.Errorf("lease %v: session of %v, want %v", lease, got, want)
		}
	}
}
