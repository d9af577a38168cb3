package gateway

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// Bounds of connections, which cost memory and file descriptors whether or not anything is asked on them.
const (
	connsEach    = 1024             // of one caller from behind a bridge
	connsAll     = 16384            // of all callers at one listener
	readPatience = 30 * time.Second // until a caller takes the next piece of an answer
)

// listener closes connections beyond those bounds at once, and gives up callers that do not read what they asked for.
type listener struct {
	net.Listener
	bridged bool

	mu   sync.Mutex
	all  int
	each map[netip.Addr]int // only where callers are bridged
}

func newListener(l net.Listener, p Policy) *listener {
	return &listener{Listener: l, bridged: p.Bridged, each: map[netip.Addr]int{}}
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from := addressIn(c.RemoteAddr().String())
		if l.take(from) {
			return &conn{Conn: c, done: sync.OnceFunc(func() { l.giveBack(from) })}, nil
		}
		_ = c.Close()
	}
}

func (l *listener) take(from netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all >= connsAll || l.each[from] >= connsEach {
		return false
	}
	l.all++
	if l.bridged {
		l.each[from]++
	}
	return true
}

func (l *listener) giveBack(from netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all--
	if !l.bridged {
		return
	}
	if l.each[from]--; l.each[from] == 0 {
		delete(l.each, from)
	}
}

type conn struct {
	net.Conn
	done func()
}

// Write implements net.Conn.
func (c *conn) Write(b []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(readPatience)); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

// Close implements net.Conn.
func (c *conn) Close() error {
	defer c.done()
	return c.Conn.Close()
}

// addressIn is the address of an address and port, without either where it is something else.
func addressIn(addrPort string) netip.Addr {
	at, _ := netip.ParseAddrPort(addrPort)
	return at.Addr().Unmap()
}
