package simulation

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/musterhq/muster/cluster/store"
)

// watch tells a process of changes, some time after they were made and in their order.
type watch struct {
	*server
	process *process
	prefix  string
	changes chan store.Change

	// Of the world's.
	attached bool
	after    int64 // everything up to here was told
	upTo     int64 // everything up to here is on its way
	stalled  bool  // the way is cut

	mu     sync.Mutex
	closed bool // guarded by mu
}

// backlog is how many changes may wait for a watcher. More would be a watcher that is stuck.
const backlog = 1000

// Watch delivers changes. It survives whatever happens to the network.
func (c *client) Watch(ctx context.Context, prefix string, after int64) <-chan store.Change {
	w := &watch{
		server: c.server, process: c.process, prefix: prefix, after: after, upTo: after, changes: make(chan store.Change, backlog),
	}
	context.AfterFunc(ctx, w.close)
	r := &request{process: c.process, label: "watch " + prefix, execute: func() any { w.attach(); return nil }}
	r.carry = func(twins []*request) {
		for _, r := range twins {
			r.execute()
		}
	}
	c.post(r)
	return w.changes
}

func (w *watch) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	close(w.changes)
}

func (w *watch) attach() {
	w.watches = slices.DeleteFunc(w.watches, func(other *watch) bool { return other.isClosed() })
	w.watches = append(w.watches, w)
	w.attached = true
	w.stir()
}

func (w *watch) isClosed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.closed
}

// stir begins to tell what has not been told, unless something is on its way.
func (w *watch) stir() {
	now := w.tables.Revision
	if !w.attached || w.stalled || w.upTo > w.after || w.after >= now {
		return
	}
	w.upTo = now
	m := w.process.machine
	m.after(m.delay(), func() {
		if m.noAnswers+m.noRequests > 0 {
			w.stalled, w.upTo = true, w.after
			return
		}
		w.process.do(w.arrive)
	})
}

func (w *watch) arrive() {
	change := w.since(w.prefix, w.after, w.upTo)
	if w.Mutant == EmptyStops {
		change, _ = emptied(change)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return
	}
	if len(change.Events) > 0 {
		m := w.process.machine
		m.tell("%s: hears of %s up to %d", m.host.Name, w.prefix, w.upTo)
		if w.prefix == store.ScheduleKey(m.host.ID) {
			m.hear(w.upTo)
		}
		select {
		case w.changes <- change:
		default:
			w.fail("%s does not read what it watches: %s", m.host.Name, w.prefix)
		}
	}
	w.after = w.upTo
	w.stir()
}

// reconnect has the machine's watches go on after the network was cut.
func (m *machine) reconnect() {
	for _, w := range m.server.watches {
		if w.process.machine == m && w.stalled {
			m.after(m.between(50*time.Millisecond, time.Second), func() {
				if w.stalled = false; w.Mutant == LosesEvents {
					w.after, w.upTo = w.tables.Revision, w.tables.Revision
				}
				w.stir()
			})
		}
	}
}
