package voter

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/musterhq/muster/cluster/pki"
	"github.com/musterhq/muster/cluster/store"
)

// line is a host's end of one.
type line struct {
	*tls.Conn
	last byte
}

// openLine asks the voter at a URL for a line, as the holder of a certificate.
func (c *cluster) openLine(pair pki.Pair, voter int, lease clientv3.LeaseID) (*line, error) {
	c.tb.Helper()
	config := c.tls(pair)
	config.NextProtos = []string{store.LineProtocol}
	conn, err := tls.Dial("tcp", strings.TrimPrefix(c.hosts[voter].ClientURL(), "https://"), config)
	if err != nil {
		return nil, err
	}
	c.tb.Cleanup(func() { _ = conn.Close() })
	if _, err := conn.Write(binary.BigEndian.AppendUint64(nil, uint64(lease))); err != nil {
		return nil, err
	}
	var open [1]byte
	if _, err := io.ReadFull(conn, open[:]); err != nil {
		return nil, err
	}
	return &line{Conn: conn}, nil
}

// sign gives a sign of life and returns what the voter says.
func (l *line) sign() (byte, error) {
	l.last++
	if _, err := l.Write([]byte{l.last}); err != nil {
		return 0, err
	}
	var answer [2]byte
	if _, err := io.ReadFull(l, answer[:]); err != nil {
		return 0, err
	}
	if answer[0] != l.last {
		return 0, errors.New("the answer is another sign's")
	}
	return answer[1], nil
}

// TestLines keeps a host's lease alive on lines to a follower and to the leader, and nobody else's; says so when there is
// no lease any more, and ends lines whose host has no access any more and those of a voter that stops.
func TestLines(t *testing.T) {
	c := newCluster(t, 3, 2)
	voters := c.form(t.Context())
	if err := c.control().EnsureAuth(t.Context(), c.hosts); err != nil {
		t.Fatal(err)
	}
	leader := slices.IndexFunc(voters, (*Voter).Leads)
	follower := (leader + 1) % len(voters)
	mine, other := c.hostPair(c.hosts[3]), c.hostPair(c.hosts[4])
	client := c.client(c.tls(mine))
	lease := c.aliveLease(client, c.hosts[3].ID)

	var lines []*line
	for _, voter := range []int{follower, leader} {
		l, err := c.openLine(mine, voter, lease)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, l)
		for range 3 {
			if says, err := l.sign(); err != nil || says != store.LineRenewed {
				t.Errorf("of a lease that lives, a voter says %d, %v", says, err)
			}
		}
		if _, err := c.openLine(other, voter, lease); err == nil {
			t.Error("another host has a line for the lease")
		}
		control, err := c.issuer.MintControl(c.hosts[0], testCluster, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.openLine(control, voter, lease); err == nil {
			t.Error("one that is no host has a line")
		}
		for n := 1; ; n++ {
			if _, err := c.openLine(mine, voter, lease); err != nil {
				break
			} else if n == linesOfHost {
				t.Fatalf("a host has %d lines to one voter", n+1)
			}
		}
	}

	voters[leader].Close()
	if _, err := lines[1].sign(); err == nil {
		t.Error("a voter that has stopped answers")
	}
	for says := store.LineAsk; says != store.LineRenewed; { // until another leads
		var err error
		if says, err = lines[0].sign(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := client.Revoke(t.Context(), lease); err != nil {
		t.Fatal(err)
	}
	if says, err := lines[0].sign(); err != nil || says != store.LineAsk {
		t.Errorf("of a lease that was revoked, a voter says %d, %v", says, err)
	}
	if err := c.control().RemoveHost(t.Context(), c.hosts[3].ID); err != nil {
		t.Fatal(err)
	}
	for range relayAtMost + 1 {
		if _, err := lines[0].sign(); err != nil {
			return
		}
	}
	t.Error("the line of a host without access goes on")
}

// aliveLease is a lease that the host's record of its life is bound to.
func (c *cluster) aliveLease(client *clientv3.Client, host string) clientv3.LeaseID {
	c.tb.Helper()
	lease, err := client.Grant(c.tb.Context(), 600)
	if err != nil {
		c.tb.Fatal(err)
	}
	if _, err := client.Put(c.tb.Context(), store.AliveKey(host), "x", clientv3.WithLease(lease.ID)); err != nil {
		c.tb.Fatal(err)
	}
	return lease.ID
}

// TestSessionOnLines has a session go over to a line, go on over it, and do the same at another voter after that one has
// stopped.
func TestSessionOnLines(t *testing.T) {
	c := newCluster(t, 3, 1)
	voters := c.form(t.Context())
	if err := c.control().EnsureAuth(t.Context(), c.hosts); err != nil {
		t.Fatal(err)
	}
	st, err := store.DialEtcd(t.Context(), store.EtcdConfig{
		Endpoints: c.endpoints(), Prefer: c.hosts[0].ClientURL(), TLS: c.tls(c.hostPair(c.hosts[3])),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = st.Close() }()
	session, err := st.NewSession(t.Context(), 4*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	renewed := make(chan time.Duration, 1)
	session.Observe(func() time.Duration { return 0 }, func(sent time.Duration) {
		select {
		case renewed <- sent:
		default: // the test is busy
		}
	})
	await := func() {
		select {
		case <-renewed:
		case <-session.Done():
			t.Fatal("the session has ended")
		}
	}
	left := voters
	for range 2 {
		at := -1
		for at < 0 {
			await()
			at = slices.IndexFunc(left, func(v *Voter) bool { return v.lines.any() })
		}
		for range 3 {
			await()
		}
		left[at].Close()
		left = slices.Delete(slices.Clone(left), at, at+1)
		if len(left) == 1 {
			return // which cannot go on alone
		}
	}
}

// TestUntilBeat looks at lines half a beat after hosts give signs of life.
func TestUntilBeat(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for ms, want := range map[int]int{0: 50, 10: 40, 49: 1, 50: 100, 51: 99, 149: 1, 150: 100} {
		if got := untilBeat(at.Add(time.Duration(ms) * time.Millisecond)); got != time.Duration(want)*time.Millisecond {
			t.Errorf("at %d ms it is %s, want %d ms", ms, got, want)
		}
	}
}

// TestSocketIn finds the socket below what etcd counts connections with, and none where there is none.
func TestSocketIn(t *testing.T) {
	type counted struct{ net.Conn }
	tcp := &net.TCPConn{}
	if s, ok := socketIn(&counted{counted{tcp}}); !ok || s != tcp {
		t.Error("a socket that is wrapped is not found")
	}
	pipe, other := net.Pipe()
	defer func() { _, _ = pipe.Close(), other.Close() }()
	if _, ok := socketIn(counted{pipe}); ok {
		t.Error("a pipe has a socket")
	}
}
