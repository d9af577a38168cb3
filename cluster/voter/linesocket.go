package voter

import (
	"errors"
	"io"
	"net"
	"os"
	"reflect"
	"syscall"

	"golang.org/x/sys/unix"
)

// errDrained says that there is nothing more to read now. TLS takes it for a deadline, after which a connection goes on.
var errDrained = os.ErrDeadlineExceeded

// lineSocket is a connection as it was accepted, which can be taken from Go's runtime: from then on nothing is woken when
// something comes, and who reads or writes does not wait.
type lineSocket struct {
	net.Conn
	fd      int  // -1 while it is the runtime's
	drained bool // the last read took all that there was
}

// detach goes on with a descriptor of its own.
func (s *lineSocket) detach() error {
	is, ok := socketIn(s.Conn)
	if !ok {
		return errors.New("the connection's socket is hidden")
	}
	raw, err := is.SyscallConn()
	if err != nil {
		return err
	}
	fd, dupErr := -1, error(nil)
	if err := raw.Control(func(of uintptr) { fd, dupErr = unix.FcntlInt(of, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return err
	}
	if dupErr != nil {
		return dupErr
	}
	s.fd = fd
	return s.Conn.Close() // which ends neither the other descriptor nor the connection
}

// socketIn finds the socket in what etcd wraps it in, to count its connections, in a field Conn.
func socketIn(c net.Conn) (s syscall.Conn, ok bool) {
	for c != nil {
		if s, ok = c.(syscall.Conn); ok {
			return s, true
		}
		wrap := reflect.Indirect(reflect.ValueOf(c))
		if wrap.Kind() != reflect.Struct {
			return nil, false
		}
		inner := wrap.FieldByName("Conn")
		if !inner.IsValid() || !inner.CanInterface() {
			return nil, false
		}
		c, _ = inner.Interface().(net.Conn)
	}
	return nil, false
}

// Read implements net.Conn.
func (s *lineSocket) Read(p []byte) (int, error) {
	if s.fd < 0 {
		return s.Conn.Read(p)
	}
	if s.drained {
		s.drained = false
		return 0, errDrained
	}
	n, err := unix.Read(s.fd, p)
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return 0, errDrained
	case err != nil:
		return 0, os.NewSyscallError("read", err)
	case n == 0:
		return 0, io.EOF
	}
	s.drained = n < len(p)
	return n, nil
}

// Write implements net.Conn. A host that has not taken so much that some bytes find no room is given up.
func (s *lineSocket) Write(p []byte) (int, error) {
	if s.fd < 0 {
		return s.Conn.Write(p)
	}
	n, err := unix.Write(s.fd, p)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	return max(n, 0), err
}

// Close implements net.Conn.
func (s *lineSocket) Close() error {
	if s.fd < 0 {
		return s.Conn.Close()
	}
	return unix.Close(s.fd)
}
