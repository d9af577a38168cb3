package store

import (
	"math/rand/v2"
	"time"
)

// rhythm is when a session that lives for ttl after its last sign of life gives the next one.
//
// It does so every two fifths of its life, which leaves time for one member that has fallen silent, and mostly for two,
// before anybody has to act on it (partition.Contact stops strict units at 11/16 of it). Signs of life of many hosts come
// together, at times that are the same for all whose clocks are: a member that is woken for one of them finds the others
// of that moment, which costs it a fraction of being woken for each.
type rhythm struct{ ttl time.Duration }

// Beat is how far apart those moments are, counted from a whole second of the wall clock. A thousand hosts' signs of life
// over ten a second are little work at once.
const Beat = 100 * time.Millisecond

// next is when the next sign of life is due after one that was answered. After trouble, which hosts have at the same time,
// they spread over the moments again.
func (r rhythm) next(sent time.Time, troubled bool) time.Time {
	wait := 2 * r.ttl / 5
	if troubled {
		wait -= rand.N(wait/2 + 1)
	}
	due := sent.Add(wait)
	return due.Add(-min(due.Sub(due.Truncate(Beat)), wait/2))
}

// patience is how long an answer is waited for before another member is asked: longer than an election takes, in which
// nobody answers and nobody else would.
func (r rhythm) patience() time.Duration {
	const election = time.Second
	return max(election, min(r.ttl/4, probeTimeout))
}
