package agent

import (
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/musterhq/muster/agent/partition"
	"github.com/musterhq/muster/agent/runtime"
	"github.com/musterhq/muster/cluster/store"
)

// contact is this host's partition.Contact, as its managers share it, and what they tell the runtime of it. The methods
// return soon.
type contact struct {
	clock   func() time.Duration // guard.Now, or a test's
	wall    func() time.Time
	holder  runtime.Holder // nil if the runtime has none
	log     *slog.Logger
	changed func() // told when units may have to stop, or may go on

	mu    sync.Mutex
	is    partition.Contact // guarded by mu
	since time.Time         // of the wall clock, for people: when the store was heard last; guarded by mu
}

// newContact begins without any. What an agent before this one held goes on.
func newContact(ttl time.Duration, rt runtime.Runtime, clock func() time.Duration, log *slog.Logger) *contact {
	c := &contact{
		clock: clock, wall: time.Now, log: log, changed: func() {}, is: partition.New(partition.Times{TTL: ttl}, clock()),
		since: time.Now(),
	}
	if holder, ok := rt.(runtime.Holder); ok && holder.Holds() {
		c.holder = holder
		if until, held := holder.Held(); held {
			c.is = c.is.Recall(until)
		}
	}
	return c
}

// holdMillis is what the host says of itself: HostRecord.HoldMillis.
func (c *contact) holdMillis() int64 {
	if c.holder == nil {
		return 0
	}
	return c.now().Release().Milliseconds()
}

func (c *contact) now() partition.Contact {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.is
}

// renewed notes a sign of life. One that comes late wakes who has stopped units for want of it.
func (c *contact) renewed(session int64, sent time.Duration) {
	late := false
	c.step(func(is partition.Contact, now time.Duration) partition.Contact {
		next := is.Renewed(session, sent, now)
		late = !is.MayRun(store.PartitionStop, 0, now) || next.Epoch != is.Epoch
		return next
	})
	if late {
		c.changed()
	}
}

func (c *contact) announced(session, revision int64) {
	c.step(func(is partition.Contact, _ time.Duration) partition.Contact { return is.Announced(session, revision) })
	c.changed()
}

func (c *contact) lost(session int64) {
	c.step(func(is partition.Contact, now time.Duration) partition.Contact { return is.Lost(session, now) })
	c.changed()
}

// scheduled notes that the host obeys its schedule as of a revision.
func (c *contact) scheduled(revision int64, strays bool) {
	c.step(func(is partition.Contact, now time.Duration) partition.Contact {
		return is.Scheduled(revision, strays, now)
	})
}

// step goes on, and tells the runtime until when strict units may run. A value that is told late says itself that it is.
func (c *contact) step(f func(is partition.Contact, now time.Duration) partition.Contact) {
	c.mu.Lock()
	defer c.mu.Unlock()
	was, _ := c.is.KillAt()
	heard, _ := c.is.Heard()
	c.is = f(c.is, c.clock())
	if again, _ := c.is.Heard(); again != heard {
		c.since = c.wall()
	}
	until, held := c.is.KillAt()
	if c.holder == nil || !held || until == was {
		return
	}
	killed, err := c.holder.Hold(until)
	if err != nil {
		c.log.Error("cannot go on with units of Singleton=strict", "err", err)
	}
	if killed {
		c.is = c.is.Killed()
		c.changed()
	}
}

// withheld says why a unit is not run for want of contact.
func (c *contact) withheld(p store.Partition) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	option := "OnPartition=stop"
	if p == store.PartitionStrict {
		option = "Singleton=strict"
	}
	if c.holder == nil && p == store.PartitionStrict {
		return "stopped: nothing on this host could end it in time, and the unit is " + option
	}
	return fmt.Sprintf("stopped: this host has no contact with the store since %s, and the unit is %s",
		c.since.UTC().Format(time.RFC3339), option)
}
