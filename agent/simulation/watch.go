package simulation

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/musterhq/muster/cluster/store"
)

// watch tells a process of changes, some time after they were made and in their order: all of its goroutines at once that
// asked for the same at the same moment.
type watch struct {
	*server
	process *process
	prefix  string
	sinks   []*sink

	after   int64 // everything up to here was told
	upTo    int64 // everything up to here is on its way
	stalled bool  // the way is cut
}

// sink is where one goroutine of a process hears of changes.
type sink struct {
	mu      sync.Mutex
	closed  bool // guarded by mu
	changes chan store.Change
}

// backlog is how many changes may wait for a watcher. More would be a watcher that is stuck.
const backlog = 1000

// Watch delivers changes. It survives whatever happens to the network.
func (c *client) Watch(ctx context.Context, prefix string, after int64) <-chan store.Change {
	s := &sink{changes: make(chan store.Change, backlog)}
	context.AfterFunc(ctx, s.close)
	r := &request{process: c.process, label: fmt.Sprint("watch ", prefix, " after ", after), execute: func() any { return s }}
	r.carry = func(twins []*request) {
		w := &watch{server: c.server, process: c.process, prefix: prefix, after: after, upTo: after}
		for _, r := range twins {
			w.sinks = append(w.sinks, r.execute().(*sink))
		}
		w.watches = append(slices.DeleteFunc(w.watches, (*watch).isClosed), w)
		w.stir()
	}
	c.post(r)
	return s.changes
}

func (s *sink) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	close(s.changes)
}

func (s *sink) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// isClosed says whether nobody listens any more.
func (w *watch) isClosed() bool {
	return !slices.ContainsFunc(w.sinks, func(s *sink) bool { return !s.isClosed() })
}

// tell says whether a change found room.
func (s *sink) tell(change store.Change) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return true
	}
	select {
	case s.changes <- change:
		return true
	default:
		return false
	}
}

// stir begins to tell what has not been told, unless something is on its way.
func (w *watch) stir() {
	now := w.tables.Revision
	if w.stalled || w.upTo > w.after || w.after >= now {
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
	if w.isClosed() {
		return
	}
	if len(change.Events) > 0 {
		m := w.process.machine
		m.tell("%s: hears of %s up to %d", m.host.Name, w.prefix, w.upTo)
		if w.prefix == store.ScheduleKey(m.host.ID) {
			m.hear(w.upTo)
		}
		for _, s := range w.sinks {
			if !s.tell(change) {
				w.fail("%s does not read what it watches: %s", m.host.Name, w.prefix)
			}
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
