package dhcp

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"pgregory.net/rapid"
)

// ask sends a packet to an authoritative responder and returns the address that came back: zero for none.
func ask(t *testing.T, r *Responder, p *dhcpv4.DHCPv4, now time.Time) netip.Addr {
	t.Helper()
	answer, err := r.Answer(p, ServerPort, nobody, now)
	if err != nil || answer.Packet.MessageType() == dhcpv4.MessageTypeNak {
		return netip.Addr{}
	}
	return address(answer.Packet.YourIPAddr)
}

func TestLeases(t *testing.T) {
	r := responder(t, false)
	const discover, request = dhcpv4.MessageTypeDiscover, dhcpv4.MessageTypeRequest
	first := ask(t, r, packet(t, discover, 1), noon)
	if got := ask(t, r, packet(t, discover, 1), noon); got != first {
		t.Errorf("offered %s, then %s", first, got)
	}
	if got := ask(t, r, packet(t, request, 1, wish(first.String()), server("10.77.0.1")), noon); got != first {
		t.Errorf("bound %s, want %s", got, first)
	}
	if got := ask(t, r, packet(t, request, 2, wish(first.String())), noon); got.IsValid() {
		t.Errorf("a second client was given %s", got)
	}
	if got := ask(t, r, packet(t, request, 2, wish(first.String())), noon.Add(time.Hour)); got != first {
		t.Errorf("after the lease, %s, want %s", got, first)
	}
	if got := ask(t, r, packet(t, discover, 1), noon.Add(time.Hour)); !got.IsValid() || got == first {
		t.Errorf("the first client was offered %s", got)
	}
	ask(t, r, packet(t, dhcpv4.MessageTypeDecline, 2, wish(first.String())), noon.Add(time.Hour))
	if got := ask(t, r, packet(t, request, 3, wish(first.String())), noon.Add(time.Hour+declineTime-1)); got.IsValid() {
		t.Errorf("a declined address was given: %s", got)
	}
	if got := ask(t, r, packet(t, request, 3, wish(first.String())), noon.Add(time.Hour+declineTime)); got != first {
		t.Errorf("an address that was declined long ago: %s", got)
	}
	ask(t, r, packet(t, dhcpv4.MessageTypeRelease, 3, dhcpv4.WithClientIP(net.IP(first.AsSlice()))), noon.Add(2*time.Hour))
	if got := ask(t, r, packet(t, discover, 4, wish(first.String())), noon.Add(2*time.Hour)); got != first {
		t.Errorf("an address that was given back: %s", got)
	}
}

func TestPoolRunsOut(t *testing.T) {
	r := responder(t, false)
	given := map[netip.Addr]bool{}
	for number := range byte(10) {
		given[ask(t, r, packet(t, dhcpv4.MessageTypeDiscover, number), noon)] = true
	}
	if len(given) != 10 {
		t.Errorf("10 clients were offered %d addresses", len(given))
	}
	_, err := r.Answer(packet(t, dhcpv4.MessageTypeDiscover, 10), ServerPort, nobody, noon)
	if err == nil || !strings.Contains(err.Error(), "all 10 addresses are leased; widen the pool") {
		t.Error(err)
	}
	if got := ask(t, r, packet(t, dhcpv4.MessageTypeDiscover, 10), noon.Add(offerTime)); !got.IsValid() {
		t.Error("offers that nobody took still hold the pool")
	}
}

// A service that begins again gives a client that asks by name the address that it had.
func TestRestartKeepsAddresses(t *testing.T) {
	before := ask(t, responder(t, false), packet(t, dhcpv4.MessageTypeDiscover, 1), noon)
	after := responder(t, false)
	if got := ask(t, after, packet(t, dhcpv4.MessageTypeRequest, 1, dhcpv4.WithClientIP(net.IP(before.AsSlice()))), noon); got != before {
		t.Errorf("%s, want %s", got, before)
	}
	if got := ask(t, responder(t, false), packet(t, dhcpv4.MessageTypeDiscover, 1), noon); got != before {
		t.Errorf("offered %s, want %s", got, before)
	}
}

// TestNoAddressTwice: whatever clients send, no two hold one address at one time, and what is kept stays within the pool.
func TestNoAddressTwice(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r := responder(t, false)
		now := noon
		bound := map[netip.Addr]lease{}
		for range rapid.IntRange(1, 60).Draw(rt, "packets") {
			number := rapid.ByteRange(0, 14).Draw(rt, "client")
			addr := rapid.SampledFrom([]string{"10.77.0.49", "10.77.0.50", "10.77.0.51", "10.77.0.52", "0.0.0.0"}).Draw(rt, "wish")
			kind := rapid.SampledFrom([]dhcpv4.MessageType{1, 3, 3, 4, 7}).Draw(rt, "type")
			now = now.Add(time.Duration(rapid.IntRange(0, 1200).Draw(rt, "seconds")) * time.Second)
			p := packet(t, kind, number, wish(addr), dhcpv4.WithClientIP(net.ParseIP(addr)))
			got := ask(t, r, p, now)
			holder := mac(p.ClientHWAddr)
			if named := address(net.ParseIP(addr)); (kind == 4 || kind == 7) && bound[named].holder == holder {
				delete(bound, named)
			}
			if kind == 3 && got.IsValid() {
				if other, ok := bound[got]; ok && other.holder != holder && now.Before(other.until) {
					rt.Fatalf("%s is %v's until %s, and %v has it at %s", got, other.holder, other.until, holder, now)
				}
				for other, l := range bound {
					if l.holder == holder {
						delete(bound, other)
					}
				}
				bound[got] = lease{holder, now.Add(time.Hour)}
			}
			if len(r.leases.held) > r.leases.size || len(r.leases.of) > r.leases.size {
				rt.Fatalf("%d addresses, %d clients", len(r.leases.held), len(r.leases.of))
			}
		}
	})
}

func TestValidate(t *testing.T) {
	for want, bend := range map[string]func(*Config){
		"URL without a path":  func(c *Config) { c.HTTP = "http://h/x" },
		"IPv4 address":        func(c *Config) { c.Server = netip.MustParseAddr("fe80::1") },
		"name of a file":      func(c *Config) { c.Loaders[Platform{}] = "../x" },
		"an IPv4 network":     func(c *Config) { c.Network.Prefix = netip.MustParsePrefix("fd00::/64") },
		"192.168.0.1 lies":    func(c *Config) { c.Network.Router = netip.MustParseAddr("192.168.0.1") },
		"as a DNS server":     func(c *Config) { c.Network.DNS = []netip.Addr{netip.MustParseAddr("fe80::1")} },
		"1 to 65536":          func(c *Config) { c.Network.First = netip.MustParseAddr("10.77.0.99") },
		"server or the route": func(c *Config) { c.Network.Last = netip.MustParseAddr("10.77.0.254") },
		"whole seconds":       func(c *Config) { c.Network.Lease = time.Second },
	} {
		c := config(false)
		bend(&c)
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if err := config(true).Validate(); err != nil {
		t.Error(err)
	}
}
