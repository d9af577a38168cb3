package partition

import (
	"time"

	"github.com/musterhq/muster/cluster/store"
)

// Contact is what a host knows of its contact with the store. It is a value: what happens makes a new one. Times are
// readings of one clock, see the package.
type Contact struct {
	Times
	// Epoch grows when strict units may have been killed since: what was started before may not run any more.
	Epoch int

	session   int64         // the one that lives as far as is known, 0 for none
	announced int64         // the revision at which the host was announced under it, 0 if it was not yet
	current   bool          // the schedule was read after that
	heard     time.Duration // when the last renewal of any session was sent, or the host began to try
	ever      bool          // there was one
	held      bool          // strict units may run, until
	until     time.Duration // they are killed
	abrupt    bool          // without having been stopped politely, for want of time
}

// New is the contact of a host that has just begun to look for the store. It may have run units before: those of
// OnPartition=stop go on for as long as if the store had been left now.
func New(t Times, now time.Duration) Contact { return Contact{Times: t, heard: now} }

// Recall is a contact whose strict units another agent of this host held until some moment, when they are killed.
func (c Contact) Recall(until time.Duration) Contact {
	c.held, c.until = true, until
	return c
}

// Renewed notes that a session was begun or kept alive by a request sent at some moment.
func (c Contact) Renewed(session int64, sent, now time.Duration) Contact {
	if session != c.session {
		c.session, c.announced, c.current = session, 0, false
	}
	c.heard, c.ever = max(c.heard, sent), true
	if c.current {
		c = c.hold(now)
	}
	return c
}

// Announced notes the revision at which the host was announced under a session.
func (c Contact) Announced(session, revision int64) Contact {
	if session == c.session {
		c.announced, c.current = revision, false
	}
	return c
}

// Scheduled notes that the host obeys its schedule as it was at a revision. strays says that a strict unit still runs that
// the schedule does not have.
func (c Contact) Scheduled(revision int64, strays bool, now time.Duration) Contact {
	if c.current || c.announced == 0 || revision < c.announced || strays {
		return c
	}
	c.current = true
	return c.hold(now)
}

// hold counts what was heard for strict units.
func (c Contact) hold(now time.Duration) Contact {
	if !c.held || now >= c.until {
		c.Epoch++
	}
	c.held, c.until, c.abrupt = true, c.heard+c.Kill(), false
	return c
}

// Killed notes that strict units were killed because they were not held.
func (c Contact) Killed() Contact {
	c.Epoch++
	return c
}

// Lost notes that a session has ended, by the store's word or the host's own clock.
func (c Contact) Lost(session int64, now time.Duration) Contact {
	if session != c.session {
		return c
	}
	c.session, c.announced, c.current = 0, 0, false
	c.until, c.abrupt = min(c.until, now+c.verify()), true
	return c
}

// Unannounced says whether a schedule that was read at a revision is too old for the session.
func (c Contact) Unannounced(revision int64) bool { return c.announced > revision }

// KillAt is when strict units are killed unless something happens before. It is false if none may run at all.
func (c Contact) KillAt() (time.Duration, bool) { return c.until, c.held }

// Heard is when the store heard of the host for the last time, as far as the host knows. It is false if it did not since
// the host began to look for the store, which is the moment returned then.
func (c Contact) Heard() (time.Duration, bool) { return c.heard, c.ever }

// Until is how long a unit that takes stop to end may go on, and false if it has no limit.
func (c Contact) Until(p store.Partition, stop time.Duration) (time.Duration, bool) {
	switch {
	case p == store.PartitionKeep:
		return 0, false
	case p == store.PartitionStop:
		return c.heard + c.TTL, true
	case !c.held:
		return 0, true
	case c.abrupt:
		return c.until, true
	}
	return c.until - min(stop, c.TTL/4), true
}

// MayRun says whether a unit that runs may go on.
func (c Contact) MayRun(p store.Partition, stop, now time.Duration) bool {
	until, bounded := c.Until(p, stop)
	return !bounded || now < until
}

// MayStart says whether a unit may be started: strict ones only by a schedule that is known to be the host's own still.
func (c Contact) MayStart(p store.Partition, stop, now time.Duration) bool {
	switch {
	case p == store.PartitionKeep:
		return true
	case p == store.PartitionStop && !c.ever, p != store.PartitionStop && !c.current:
		return false
	}
	return c.MayRun(p, stop, now)
}
