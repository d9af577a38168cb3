package lock

import (
	"io"
	"net"
	"sync"
	"testing"
)

// link is a TCP proxy before a member, which can be cut: what is on its way is lost, and nobody connects.
type link struct {
	listener net.Listener
	target   string
	wg       sync.WaitGroup

	mu    sync.Mutex
	cut   bool
	conns map[net.Conn]bool
}

func newLink(tb testing.TB, target string) *link {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	k := &link{listener: l, target: target, conns: map[net.Conn]bool{}}
	k.wg.Go(k.accept)
	tb.Cleanup(func() {
		_ = l.Close()
		k.set(true)
		k.wg.Wait()
	})
	return k
}

func (k *link) address() string { return k.listener.Addr().String() }

// set cuts the link or mends it.
func (k *link) set(cut bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.cut = cut; cut {
		for c := range k.conns {
			_ = c.Close()
		}
	}
}

// keep remembers a connection to be cut, unless the link is.
func (k *link) keep(c net.Conn) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.cut {
		_ = c.Close()
		return false
	}
	k.conns[c] = true
	return true
}

func (k *link) accept() {
	for {
		in, err := k.listener.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", k.target)
		if err != nil {
			_ = in.Close()
			continue
		}
		if !k.keep(in) || !k.keep(out) {
			_, _ = in.Close(), out.Close()
			continue
		}
		k.wg.Go(func() { k.copy(in, out) })
		k.wg.Go(func() { k.copy(out, in) })
	}
}

func (k *link) copy(to, from net.Conn) {
	_, _ = io.Copy(to, from)
	_, _ = to.Close(), from.Close()
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.conns, to)
	delete(k.conns, from)
}
