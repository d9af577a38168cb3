package voter

import "golang.org/x/sys/unix"

// openEpoll makes a descriptor that tells which sockets there are to read.
func openEpoll() (int, error) { return unix.EpollCreate1(unix.EPOLL_CLOEXEC) }

// addToEpoll has it tell of a socket.
func addToEpoll(epoll, socket int) error {
	return unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, socket, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(socket)})
}

// toRead tells of sockets that there are to read now, without waiting, and of as many as there is room for.
func toRead(epoll int, sockets []int32) (n int, err error) {
	var events [lineEvents]unix.EpollEvent
	n, err = unix.EpollWait(epoll, events[:min(len(events), len(sockets))], 0)
	for i := range max(n, 0) {
		sockets[i] = events[i].Fd
	}
	return n, err
}
