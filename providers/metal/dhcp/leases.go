package dhcp

import (
	"hash/fnv"
	"net/netip"
	"time"
)

const (
	offerTime   = time.Minute      // an offer that is not taken is forgotten after this
	declineTime = 10 * time.Minute // an address that a client found in use is left alone for this
)

// mac is an Ethernet address.
type mac [6]byte

type lease struct {
	holder mac // zero for an address that somebody else uses
	until  time.Time
}

// leases are the addresses of a pool, from first to last, that clients hold.
type leases struct {
	first, last netip.Addr
	size        int
	held        map[netip.Addr]lease
	of          map[mac]netip.Addr // the inverse of held
}

func newLeases(first, last netip.Addr) *leases {
	return &leases{
		first: first, last: last, size: distance(first, last) + 1, held: map[netip.Addr]lease{}, of: map[mac]netip.Addr{},
	}
}

// offer returns the address that a client has or may have: its own, the one that it wishes for, or the first free one from
// a place that follows from its MAC. It reports false when none is left.
func (l *leases) offer(m mac, wish netip.Addr, now time.Time) (netip.Addr, bool) {
	if own, ok := l.of[m]; ok && l.free(own, m, now) {
		l.hold(own, m, latest(l.held[own].until, now.Add(offerTime)))
		return own, true
	}
	if l.contains(wish) && l.free(wish, m, now) {
		l.hold(wish, m, now.Add(offerTime))
		return wish, true
	}
	hash := fnv.New32a()
	hash.Write(m[:])
	start := int(hash.Sum32() % uint32(l.size))
	for i := range l.size {
		if addr := advance(l.first, (start+i)%l.size); l.free(addr, m, now) {
			l.hold(addr, m, now.Add(offerTime))
			return addr, true
		}
	}
	return netip.Addr{}, false
}

// bind gives a client the address for a time, or reports false when it is not to be had.
func (l *leases) bind(m mac, addr netip.Addr, until, now time.Time) bool {
	if !l.contains(addr) || !l.free(addr, m, now) {
		return false
	}
	l.hold(addr, m, until)
	return true
}

// release takes an address back from its holder.
func (l *leases) release(m mac, addr netip.Addr) {
	if own, ok := l.of[m]; ok && own == addr {
		delete(l.of, m)
		delete(l.held, addr)
	}
}

// decline leaves an address alone that its holder found in use.
func (l *leases) decline(m mac, addr netip.Addr, now time.Time) {
	if own, ok := l.of[m]; ok && own == addr {
		delete(l.of, m)
		l.held[addr] = lease{until: now.Add(declineTime)}
	}
}

func (l *leases) hold(addr netip.Addr, m mac, until time.Time) {
	if old, ok := l.held[addr]; ok && old.holder != m {
		delete(l.of, old.holder)
	}
	if old, ok := l.of[m]; ok && old != addr {
		delete(l.held, old)
	}
	l.held[addr], l.of[m] = lease{m, until}, addr
}

func (l *leases) free(addr netip.Addr, m mac, now time.Time) bool {
	held, ok := l.held[addr]
	return !ok || held.holder == m || !now.Before(held.until)
}

func (l *leases) contains(addr netip.Addr) bool {
	return addr.Is4() && !addr.Less(l.first) && !l.last.Less(addr)
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func distance(from, to netip.Addr) int { return int(number(to)) - int(number(from)) }

func advance(addr netip.Addr, by int) netip.Addr {
	n := number(addr) + uint32(by)
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

func number(addr netip.Addr) uint32 {
	b := addr.As4()
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}
