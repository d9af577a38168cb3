package process

import (
	"encoding/binary"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// notifier tells when a file is written to, by inotify(7).
type notifier struct {
	file *os.File
	done chan struct{}

	mu      sync.Mutex
	waiting map[int32]map[chan struct{}]bool // by watch descriptor
}

func newNotifier() (*notifier, error) {
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("cannot watch logs: inotify: %w; raise fs.inotify.max_user_instances", err)
	}
	n := &notifier{
		file: os.NewFile(uintptr(fd), "inotify"), done: make(chan struct{}), waiting: map[int32]map[chan struct{}]bool{},
	}
	go n.read()
	return n, nil
}

// next returns a channel that is closed after the next write to a file, and a function for those who stop waiting.
func (n *notifier) next(path string) (<-chan struct{}, func(), error) {
	raw, err := n.file.SyscallConn()
	if err != nil {
		return nil, nil, errClosed
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	var wd int
	var failed error
	err = raw.Control(func(fd uintptr) {
		wd, failed = unix.InotifyAddWatch(int(fd), path, unix.IN_MODIFY|unix.IN_ONESHOT)
	})
	if err != nil {
		return nil, nil, errClosed
	}
	if failed != nil {
		return nil, nil, fmt.Errorf("cannot watch %s: %w", path, failed)
	}
	news, key := make(chan struct{}), int32(wd)
	if n.waiting[key] == nil {
		n.waiting[key] = map[chan struct{}]bool{}
	}
	n.waiting[key][news] = true
	return news, func() { n.forget(key, news) }, nil
}

func (n *notifier) forget(key int32, news chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.waiting[key], news)
}

// read passes events on until the notifier is closed.
func (n *notifier) read() {
	defer close(n.done)
	buffer := make([]byte, 16<<10)
	for {
		size, err := n.file.Read(buffer)
		if err != nil {
			return
		}
		n.mu.Lock()
		for event := buffer[:size]; len(event) >= unix.SizeofInotifyEvent; {
			key := int32(binary.NativeEndian.Uint32(event))
			for news := range n.waiting[key] {
				close(news)
			}
			delete(n.waiting, key)
			name := int(binary.NativeEndian.Uint32(event[12:]))
			event = event[min(len(event), unix.SizeofInotifyEvent+name):]
		}
		n.mu.Unlock()
	}
}

// Close ends the notifier. Channels that were not closed stay open.
func (n *notifier) Close() error {
	err := n.file.Close()
	<-n.done
	return err
}
