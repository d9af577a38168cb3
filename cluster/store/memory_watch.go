package store

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// memoryWatch is one watch. Its fields are guarded by the engine's mu. While it is attached every commit appends to
// pending; while it is not (its client is cut) it knows only where it was.
type memoryWatch struct {
	client   *MemoryClient
	prefix   string
	attached bool
	after    int64 // when detached: everything up to here was delivered
	pending  []Change
	err      error
	wake     chan struct{}
}

// Watch delivers every change of keys with prefix after a revision.
func (c *MemoryClient) Watch(ctx context.Context, prefix string, after int64) <-chan Change {
	changes := make(chan Change)
	w := &memoryWatch{client: c, prefix: prefix, after: after, wake: make(chan struct{}, 1)}
	c.engine.mu.Lock()
	defer c.engine.mu.Unlock()
	if c.closed {
		close(changes)
		return changes
	}
	c.watches[w] = true
	if !c.cut {
		w.attach()
	}
	c.wg.Go(func() {
		defer close(changes)
		defer w.forget()
		w.run(ctx, changes)
	})
	return changes
}

func (w *memoryWatch) run(ctx context.Context, changes chan<- Change) {
	for {
		select {
		case <-w.wake:
		case <-ctx.Done():
			return
		case <-w.client.closing:
			return
		}
		change, ok := w.take()
		if !ok {
			continue
		}
		select {
		case changes <- change:
		case <-ctx.Done():
			return
		case <-w.client.closing:
			return
		}
		if change.Err != nil {
			return
		}
	}
}

// take merges what is pending into one change: a slow reader gets fewer, larger ones.
func (w *memoryWatch) take() (Change, bool) {
	e := w.client.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case len(w.pending) == 0 && w.err != nil:
		return Change{Revision: w.after, Err: w.err}, true
	case len(w.pending) == 0:
		return Change{}, false
	}
	last := w.pending[len(w.pending)-1]
	change := Change{Revision: last.Revision, Events: last.Events}
	if len(w.pending) > 1 {
		change.Events = nil
		for _, p := range w.pending {
			change.Events = append(change.Events, p.Events...)
		}
	}
	w.pending = nil
	w.after = change.Revision
	return change, true
}

func (w *memoryWatch) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// attach connects the watch to the store and collects what it has missed. mu is held.
func (w *memoryWatch) attach() {
	e := w.client.engine
	if w.err != nil {
		return
	}
	if w.after+1 < e.compacted {
		w.err = fmt.Errorf("cannot watch %s: %w: the oldest is %d", w.prefix, ErrCompacted, e.compacted)
		w.signal()
		return
	}
	i, _ := slices.BinarySearchFunc(e.history, w.after+1, func(c Change, rev int64) int { return int(c.Revision - rev) })
	for _, change := range e.history[i:] {
		if events := below(w.prefix, change.Events); len(events) > 0 {
			w.pending = append(w.pending, Change{Revision: change.Revision, Events: events})
		}
	}
	w.attached = true
	e.addWatch(w)
	w.signal()
}

// detach disconnects the watch. What it had not delivered is lost on the way, and read again later. mu is held.
func (w *memoryWatch) detach() {
	if !w.attached {
		return
	}
	e := w.client.engine
	if len(w.pending) == 0 {
		w.after = max(w.after, e.revision)
	}
	w.pending = nil
	w.attached = false
	e.removeWatch(w)
}

// forget ends the watch.
func (w *memoryWatch) forget() {
	e := w.client.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	w.detach()
	delete(w.client.watches, w)
}

func (e *memoryEngine) addWatch(w *memoryWatch) {
	if len(e.watches[w.prefix]) == 0 {
		i, found := slices.BinarySearch(e.lengths, len(w.prefix))
		if !found {
			e.lengths = slices.Insert(e.lengths, i, len(w.prefix))
		}
	}
	e.watches[w.prefix] = append(e.watches[w.prefix], w)
}

// removeWatch leaves lengths alone: there are few, and one too many costs a look-up.
func (e *memoryEngine) removeWatch(w *memoryWatch) {
	rest := slices.DeleteFunc(e.watches[w.prefix], func(other *memoryWatch) bool { return other == w })
	if len(rest) == 0 {
		delete(e.watches, w.prefix)
		return
	}
	e.watches[w.prefix] = rest
}

// notify gives a revision's events to the watches of every prefix they lie under. mu is held.
func (e *memoryEngine) notify(revision int64, events []Event) {
	var seen map[string]bool
	for _, event := range events {
		for _, length := range e.lengths {
			if length > len(event.Key) {
				break
			}
			prefix := event.Key[:length]
			if len(e.watches[prefix]) == 0 || seen[prefix] {
				continue
			}
			if seen == nil {
				seen = make(map[string]bool)
			}
			seen[prefix] = true
			change := Change{Revision: revision, Events: below(prefix, events)}
			for _, w := range e.watches[prefix] {
				if revision > w.after {
					w.pending = append(w.pending, change)
					w.signal()
				}
			}
		}
	}
}

// below returns the events under a prefix, events itself if all are.
func below(prefix string, events []Event) []Event {
	for i, event := range events {
		if strings.HasPrefix(event.Key, prefix) {
			continue
		}
		kept := slices.Clone(events[:i])
		for _, event := range events[i+1:] {
			if strings.HasPrefix(event.Key, prefix) {
				kept = append(kept, event)
			}
		}
		return kept
	}
	return events
}
