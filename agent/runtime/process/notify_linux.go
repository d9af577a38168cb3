package process

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strings"

	"golang.org/x/sys/unix"
)

// notifySocket is where a unit says that it is ready (sd_notify(3)). Its name is abstract (unix(7)), because paths of
// local hosts are longer than a socket's may be; who speaks is known from the credentials that the kernel adds.
type notifySocket struct {
	conn *net.UnixConn
	done chan struct{}
}

// notifyAddress is NOTIFY_SOCKET: the same for every agent of the host, so that a service goes on reporting to the next.
func (u *unit) notifyAddress() string {
	sum := sha256.Sum256([]byte(u.rt.config.Instance + "\x00" + u.name))
	return "@muster-notify-" + hex.EncodeToString(sum[:16])
}

// listen opens the unit's socket, if it is not open.
func (u *unit) listen() error {
	if u.notify != nil {
		return nil
	}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: u.notifyAddress(), Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("cannot listen for the unit's readiness: %w", err)
	}
	raw, err := conn.SyscallConn()
	if err == nil {
		failed := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1) })
		if failed != nil {
			err = failed
		}
	}
	if err != nil {
		_ = conn.Close()
		return fmt.Errorf("cannot ask who reports readiness: %w", err)
	}
	u.notify = &notifySocket{conn: conn, done: make(chan struct{})}
	socket := u.notify
	u.tasks.Go(func() { socket.read(u) })
	return nil
}

// hush closes the unit's socket.
func (u *unit) hush() {
	if u.notify == nil {
		return
	}
	_ = u.notify.conn.Close()
	close(u.notify.done)
	u.notify = nil
}

// read passes what the unit says on to its loop.
func (s *notifySocket) read(u *unit) {
	text, control := make([]byte, 4096), make([]byte, 2048)
	for {
		n, size, _, _, err := s.conn.ReadMsgUnix(text, control)
		if err != nil {
			return
		}
		speaker, err := credentials(control[:size])
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text[:n])) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			m := message{of: id{PID: speaker}}
			switch {
			case name == "READY" && value == "1":
				m.kind = ready
			case name == "STATUS":
				m.kind, m.text = said, value
			default:
				continue
			}
			select {
			case u.events <- m:
			case <-s.done:
				return
			}
		}
	}
}

// credentials finds the sender of a message. Descriptors that came along are closed, which is what the sender of
// BARRIER=1 waits for.
func credentials(control []byte) (pid int, err error) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return 0, err
	}
	for _, m := range messages {
		if c, err := unix.ParseUnixCredentials(&m); err == nil {
			pid = int(c.Pid)
		}
		if fds, err := unix.ParseUnixRights(&m); err == nil {
			for _, fd := range fds {
				_ = unix.Close(fd)
			}
		}
	}
	if pid == 0 {
		return 0, errors.New("the message has no credentials")
	}
	return pid, nil
}

// speaks says whether a process may report for the unit (NotifyAccess=). One that has ended since may not: its number
// may be somebody else's.
func (u *unit) speaks(who id) bool {
	r := u.record
	switch u.current.service.NotifyAccess {
	case "all":
		j := job{unit: u.name, instance: u.rt.config.Instance, main: r.Main, control: r.Control}
		l, err := inspect(who.PID)
		return err == nil && len(j.members([]look{l})) == 1
	case "exec":
		return r.mainRuns() && r.Main.PID == who.PID || r.Control != nil && r.Control.PID == who.PID
	case "main":
		return r.mainRuns() && r.Main.PID == who.PID
	}
	return false
}
