package voter

import (
	"errors"
	"fmt"
	"time"
)

// Timing is how fast the voters notice that their leader is gone. All voters of a cluster have the same.
//
// It bounds failover. The lease of a killed host ends TTL after its last keep-alive; etcd's leader looks for ended leases
// every 0.5 s (lease/lessor.go). When the killed host was the leader, the others notice after 1 to 2 Elections (raft
// draws it anew each time), and the new leader gives every lease its full TTL and one Election more (Lessor.Promote).
// So a lease is over at the latest after
//
//	2 Election + TTL + Election + 0.5 s = TTL + 1.7 s    for one site, where Election is 0.4 s
//
// which leaves 0.3 s of the promised TTL + 2 s for deciding and starting.
//
// It bounds for how long nothing can be written, too: 2 Elections, and up to 0.6 s more at a host whose voter was frozen with
// its leadership (store.Etcd), which is less than 1.5 s for one site, and 3.4 s for the longest that ForLease gives.
type Timing struct {
	Heartbeat time.Duration // of the leader; about a round trip between voters. Whole milliseconds.
	Election  time.Duration // a voter that hears none for this long calls an election; 5 Heartbeats at least
}

// OneSite is for voters within a few milliseconds of each other, on machines of their own. It is the default.
func OneSite() Timing {
	return Timing{Heartbeat: 80 * time.Millisecond, Election: 400 * time.Millisecond}
}

// ForLease fits the lease that an operator chose: whoever gives hosts three times as long to speak, because they are slow
// or far apart, gives their voters three times as long too. At most it takes TTL + 4.7 s until a lease is over, and
// round trips of 250 ms.
func ForLease(ttl time.Duration) Timing {
	const usual, longest = 5 * time.Second, 280 * time.Millisecond
	t := OneSite()
	heartbeat := (t.Heartbeat * ttl / usual).Truncate(time.Millisecond)
	t.Heartbeat = min(max(heartbeat, t.Heartbeat), longest)
	t.Election = 5 * t.Heartbeat
	return t
}

// Failover is the longest that a lease of length ttl outlives the last sign of life of its holder, if that holder led.
func (t Timing) Failover(ttl time.Duration) time.Duration {
	const lessorPeriod = 500 * time.Millisecond
	return ttl + 3*t.Election + lessorPeriod
}

// orDefault replaces the zero value.
func (t Timing) orDefault() Timing {
	if t == (Timing{}) {
		return OneSite()
	}
	return t
}

// validate checks etcd's own bounds (embed.Config.Validate) before etcd does.
func (t Timing) validate() error {
	const longest = 50 * time.Second
	if t.Heartbeat < time.Millisecond || t.Heartbeat%time.Millisecond != 0 || t.Election%t.Heartbeat != 0 {
		return errors.New("the heartbeat must be whole milliseconds, and the election timeout a multiple of it")
	}
	if t.Election < 5*t.Heartbeat || t.Election > longest {
		return fmt.Errorf("the election timeout must be between 5 heartbeats and %s", longest)
	}
	return nil
}
