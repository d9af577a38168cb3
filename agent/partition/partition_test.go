package partition_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/musterhq/muster/agent/partition"
	"github.com/musterhq/muster/cluster/store"
)

const ttl = 16 * time.Second

// begin is a host that was announced at revision 10 and has read its schedule since; the renewal was sent at 100 s.
func begin() partition.Contact {
	return partition.New(partition.Times{TTL: ttl}, 90*time.Second).
		Renewed(1, 100*time.Second, 101*time.Second).Announced(1, 10).Scheduled(10, false, 101*time.Second)
}

func TestContact(t *testing.T) {
	at := func(seconds float64) time.Duration { return time.Duration(seconds * float64(time.Second)) }
	for _, c := range []struct {
		name         string
		contact      partition.Contact
		now          float64
		stop         time.Duration
		strict, stay bool // whether a strict unit, and one of OnPartition=stop, may go on
		starts       bool // whether a strict unit may be started
	}{
		{name: "held", contact: begin(), now: 102, strict: true, stay: true, starts: true},
		{name: "a moment before it is killed", contact: begin(), now: 114.9, strict: true, stay: true, starts: true},
		{name: "when it is killed", contact: begin(), now: 115, stay: true},
		{name: "while it is stopped politely", contact: begin(), now: 113, stop: 2 * time.Second, stay: true},
		{name: "politeness is bounded", contact: begin(), now: 110.9, stop: time.Hour, strict: true, stay: true, starts: true},
		{name: "to a quarter", contact: begin(), now: 111, stop: time.Hour, stay: true},
		{name: "at the end of the session", contact: begin(), now: 116},
		{name: "renewed, as of when it was sent", contact: begin().Renewed(1, at(110), at(114)), now: 124.9, strict: true, stay: true, starts: true},
		{name: "which is not when it was answered", contact: begin().Renewed(1, at(110), at(114)), now: 125, stay: true},
		{name: "nothing was ever heard", contact: partition.New(partition.Times{TTL: ttl}, at(90)), now: 91, stay: true},
		{name: "and for as long as a session lives", contact: partition.New(partition.Times{TTL: ttl}, at(90)), now: 106},
		{name: "not announced yet", contact: partition.New(partition.Times{TTL: ttl}, at(90)).Renewed(1, at(100), at(100)), now: 100, stay: true},
		{
			name: "the schedule is older than the announcement", now: 101, stay: true,
			contact: partition.New(partition.Times{TTL: ttl}, at(90)).Renewed(1, at(100), at(100)).Announced(1, 10).Scheduled(9, false, at(100)),
		},
		{
			name: "what runs is not in the schedule", now: 101, stay: true,
			contact: partition.New(partition.Times{TTL: ttl}, at(90)).Renewed(1, at(100), at(100)).Announced(1, 10).Scheduled(10, true, at(100)),
		},
		{name: "the session is gone: only for moments", contact: begin().Lost(1, at(102)), now: 105.9, strict: true, stay: true},
		{name: "the session is gone, and the moments are over", contact: begin().Lost(1, at(102)), now: 106, stay: true},
		{name: "another session does not count before the schedule was read", contact: begin().Lost(1, at(102)).Renewed(2, at(103), at(103)).Announced(2, 20), now: 106, stay: true},
		{
			name: "and does after", now: 117.9, strict: true, stay: true, starts: true,
			contact: begin().Lost(1, at(102)).Renewed(2, at(103), at(103)).Announced(2, 20).Scheduled(20, false, at(104)),
		},
		{name: "of an old session nothing is lost", contact: begin().Lost(7, at(102)), now: 110, strict: true, stay: true, starts: true},
		{name: "held by the agent before", contact: partition.New(partition.Times{TTL: ttl}, at(90)).Recall(at(95)), now: 94, strict: true, stay: true},
		{name: "until then", contact: partition.New(partition.Times{TTL: ttl}, at(90)).Recall(at(95)), now: 95, stay: true},
	} {
		now := at(c.now)
		for p, want := range map[store.Partition]bool{store.PartitionKeep: true, store.PartitionStop: c.stay, store.PartitionStrict: c.strict} {
			if got := c.contact.MayRun(p, c.stop, now); got != want {
				t.Errorf("%s: that a unit of %q goes on is %v", c.name, p, got)
			}
		}
		if got := c.contact.MayStart(store.PartitionStrict, c.stop, now); got != c.starts {
			t.Errorf("%s: that a strict unit is started is %v", c.name, got)
		}
	}
}

// TestEpoch counts when strict units may have been killed.
func TestEpoch(t *testing.T) {
	c := begin()
	was := c.Epoch
	if c = c.Renewed(1, 110*time.Second, 111*time.Second); c.Epoch != was {
		t.Error("a renewal in time is taken for a late one")
	}
	if c = c.Renewed(1, 130*time.Second, 131*time.Second); c.Epoch == was {
		t.Error("a late renewal is taken for one in time")
	}
}

// TestNeverLonger runs random histories of a host beside the longest that the store may believe in its session. A strict
// unit that may run is always within a session that the store has at that moment, or has ended by mistake for less than
// Release.
func TestNeverLonger(t *testing.T) {
	for seed := range uint64(20000) {
		r := rand.New(rand.NewPCG(seed, 1))
		times := partition.Times{TTL: ttl}
		c := partition.New(times, 0)
		now := time.Duration(0)
		var session, revision int64
		var expires, gone time.Duration // of the session at the store; since when it has none
		for range 60 {
			now += time.Duration(r.Int64N(int64(ttl / 3)))
			alive := session != 0 && now < expires
			if session != 0 && !alive && gone == 0 {
				gone = expires
			}
			if c.MayRun(store.PartitionStrict, 0, now) && !alive && now-gone >= times.Release() {
				t.Fatalf("seed %d: at %v a strict unit goes on, and the store has had no session since %v", seed, now, gone)
			}
			revision++
			switch r.IntN(6) {
			case 0: // begins a session
				session, expires, gone = session+1, now+ttl, 0
				c = c.Renewed(session, now, now).Announced(session, revision)
			case 1, 2: // renews it, or learns that it is gone
				sent := now
				now += time.Duration(r.Int64N(int64(ttl / 8)))
				if alive {
					expires = sent + ttl
					c = c.Renewed(session, sent, now)
				} else {
					c = c.Lost(session, now)
				}
			case 3:
				c = c.Scheduled(revision, r.IntN(4) == 0, now)
			case 4: // ends by mistake
				if alive && r.IntN(3) == 0 {
					expires, gone = now, now
				}
			}
		}
	}
}
