package keys

import (
	"context"
	"fmt"
	"sort"
	"strings"
	"sync"
)

// HistorySize is how many events a host keeps, as a server of version 2 did.
const HistorySize = 1000

// historyBytes bounds what they take, roughly, should they carry large values: fewer are kept then.
const historyBytes = 64 << 20

// history keeps the last events and wakes those who wait for more.
type history struct {
	mu       sync.Mutex
	events   []Event // the i-th of all is at i%HistorySize
	count    int     // of all events ever
	oldest   int     // the number of the first event that is kept
	bytes    int64   // that the events take
	floor    int64   // the index from which on nothing is missing
	watchers map[string]map[*Watcher]struct{}
}

func newHistory() *history { return &history{watchers: map[string]map[*Watcher]struct{}{}} }

// add appends an event and wakes those whom it concerns.
func (h *history) add(e Event) {
	if e.refresh {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.bytes += e.size()
	for h.count-h.oldest == HistorySize || h.bytes > historyBytes && h.count > h.oldest {
		h.drop()
	}
	if len(h.events) < HistorySize {
		h.events = append(h.events, e)
	} else {
		h.events[h.count%HistorySize] = e
	}
	h.count++
	key := e.Node.Key
	h.wake("/", e)
	for _, p := range ancestors(key) {
		h.wake(p, e)
	}
	if key != "/" {
		h.wake(key, e)
	}
	if removal(e) {
		for p := range h.watchers {
			if isBelow(key, p) {
				h.wake(p, e)
			}
		}
	}
}

func (h *history) wake(path string, e Event) {
	for w := range h.watchers[path] {
		if w.matches(e) {
			w.signal()
		}
	}
}

func (h *history) drop() {
	e := &h.events[h.oldest%HistorySize]
	h.bytes -= e.size()
	*e = Event{}
	h.oldest++
}

func (h *history) at(i int) Event { return h.events[i%HistorySize] }

// start is the number of the first event with at least an index, or the refusal if some may be gone.
func (h *history) start(index int64) (int, *Error) {
	first := h.floor
	if h.oldest > 0 {
		first = max(first, h.at(h.oldest).Index)
	}
	if index < first {
		return 0, refuse(CodeCleared, fmt.Sprintf("the requested history has been cleared [%d/%d]", first, index))
	}
	later := func(i int) bool { return h.at(h.oldest+i).Index >= index }
	return h.oldest + sort.Search(h.count-h.oldest, later), nil
}

// Watcher waits for events of a path. It is for one goroutine.
type Watcher struct {
	history   *history
	path      string
	recursive bool
	next      int   // number of the next event to look at
	since     int64 // index of the first event that may be told
	past      int   // events below this number were there before the watcher
	wakes     chan struct{}
}

// watch begins to wait for events from an index on, 0 for those to come.
func (h *history) watch(path string, recursive bool, index int64) (*Watcher, *Error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	w := &Watcher{
		history: h, path: path, recursive: recursive, since: index, next: h.count, past: h.count,
		wakes: make(chan struct{}, 1),
	}
	if index > 0 {
		var refusal *Error
		if w.next, refusal = h.start(index); refusal != nil {
			return nil, refusal
		}
	}
	if h.watchers[path] == nil {
		h.watchers[path] = map[*Watcher]struct{}{}
	}
	h.watchers[path][w] = struct{}{}
	return w, nil
}

// Close ends the watcher.
func (w *Watcher) Close() {
	w.history.mu.Lock()
	defer w.history.mu.Unlock()
	delete(w.history.watchers[w.path], w)
	if len(w.history.watchers[w.path]) == 0 {
		delete(w.history.watchers, w.path)
	}
}

func (w *Watcher) signal() {
	select {
	case w.wakes <- struct{}{}:
	default:
	}
}

// matches tells whether an event is about the path: about it, below it if the watcher is recursive, or about a directory
// above that was removed.
func (w *Watcher) matches(e Event) bool {
	key := e.Node.Key
	if key == w.path {
		return true
	}
	if w.recursive && isBelow(w.path, key) {
		return true
	}
	return removal(e) && isBelow(key, w.path)
}

// removal tells of an event that removed a directory.
func removal(e Event) bool {
	return (e.Action == ActionDelete || e.Action == ActionExpire) && e.PrevNode != nil && e.PrevNode.Dir
}

// isBelow tells whether p is in the directory or deeper.
func isBelow(dir, p string) bool {
	if dir == "/" {
		return p != "/"
	}
	return len(p) > len(dir) && p[len(dir)] == '/' && strings.HasPrefix(p, dir)
}

// Next waits for the next event. Its error is ctx's, or an Error where the watcher fell back behind the history or the
// history ended.
func (w *Watcher) Next(ctx context.Context) (Event, error) {
	for {
		e, found, err := w.scan()
		if found || err != nil {
			return e, err
		}
		select {
		case <-ctx.Done():
			return Event{}, ctx.Err()
		case <-w.wakes:
		}
	}
}

// scan looks at what has come since. What is hidden is told only if it was there before the watcher, as a server of version
// 2 has it.
func (w *Watcher) scan() (Event, bool, error) {
	h := w.history
	h.mu.Lock()
	defer h.mu.Unlock()
	if w.next < h.oldest {
		return Event{}, false, refuse(CodeCleared, "more has happened than is kept")
	}
	for ; w.next < h.count; w.next++ {
		e := h.at(w.next)
		if e.Index >= w.since && w.matches(e) && (w.next < w.past || !hidden(w.path, e.Node.Key)) {
			w.next++
			return e, true, nil
		}
	}
	return Event{}, false, nil
}

// begin says that from an index on nothing will be missing, and that something before it is.
func (h *history) begin(index int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.floor = index
}
