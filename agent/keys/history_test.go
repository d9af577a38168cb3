package keys

import (
	"fmt"
	"testing"
)

func changeEvent(index int64, action, key string, dir bool) Event {
	e := Event{Action: action, Index: index, Node: &Node{Key: key, Dir: dir}}
	if action == ActionDelete {
		e.PrevNode = &Node{Key: key, Dir: dir}
	}
	return e
}

// TestMatches holds which events concern whom, as they happen and from the history.
func TestMatches(t *testing.T) {
	cases := []struct {
		path       string
		recursive  bool
		event      Event
		live, past bool
	}{
		{"/a", false, changeEvent(1, ActionSet, "/a", false), true, true},
		{"/a", false, changeEvent(1, ActionSet, "/ab", false), false, false},
		{"/a", false, changeEvent(1, ActionSet, "/a/b", false), false, false},
		{"/a", true, changeEvent(1, ActionSet, "/a/b", false), true, true},
		{"/a", true, changeEvent(1, ActionSet, "/ab", false), false, false},
		{"/", true, changeEvent(1, ActionSet, "/a/b", false), true, true},
		{"/", false, changeEvent(1, ActionSet, "/a", false), false, false},
		{"/", true, changeEvent(1, ActionSet, "/a/_b", false), false, true},
		{"/a", true, changeEvent(1, ActionSet, "/a/_b/c", false), false, true},
		{"/a/_b", true, changeEvent(1, ActionSet, "/a/_b/c", false), true, true},
		{"/a/_b", false, changeEvent(1, ActionSet, "/a/_b", false), true, true},
		{"/a/b/c", false, changeEvent(1, ActionDelete, "/a", true), true, true},
		{"/a/b/c", false, changeEvent(1, ActionDelete, "/a/b/c", false), true, true},
		{"/a/b/c", false, changeEvent(1, ActionDelete, "/a/b", false), false, false},
		{"/b", false, changeEvent(1, ActionDelete, "/a", true), false, false},
	}
	for _, c := range cases {
		h := newHistory()
		w, refusal := h.watch(c.path, c.recursive, 0)
		if refusal != nil {
			t.Fatal(refusal)
		}
		h.add(c.event)
		if woken := len(w.wakes) == 1; c.live && !woken {
			t.Errorf("%s %v: not woken by %s %s", c.path, c.recursive, c.event.Action, c.event.Node.Key)
		}
		if _, told, _ := w.scan(); told != c.live {
			t.Errorf("%s %v: told of %s %s: %v", c.path, c.recursive, c.event.Action, c.event.Node.Key, told)
		}
		w.Close()
		if w, refusal = h.watch(c.path, c.recursive, 1); refusal != nil {
			t.Fatal(refusal)
		}
		if _, told, _ := w.scan(); told != c.past {
			t.Errorf("%s %v: told later of %s %s: %v", c.path, c.recursive, c.event.Action, c.event.Node.Key, told)
		}
		w.Close()
		if len(h.watchers) != 0 {
			t.Error("a watcher is left")
		}
	}
}

// TestHistoryIsBounded holds what is kept, and what those are told who fall behind it.
func TestHistoryIsBounded(t *testing.T) {
	h := newHistory()
	h.begin(5)
	slow, _ := h.watch("/", true, 0)
	for i := range int64(HistorySize + 10) {
		h.add(changeEvent(10+i, ActionSet, fmt.Sprint("/k", i), false))
	}
	h.add(Event{Action: ActionSet, Index: 5000, Node: &Node{Key: "/k"}, refresh: true})
	if _, refusal := h.watch("/", true, 19); refusal == nil || refusal.Cause != "the requested history has been cleared [20/19]" {
		t.Errorf("got %v", refusal)
	}
	w, refusal := h.watch("/", true, 20)
	if refusal != nil {
		t.Fatal(refusal)
	}
	if e, told, err := w.scan(); !told || err != nil || e.Index != 20 {
		t.Errorf("got %v %v %v", e, told, err)
	}
	if _, _, err := slow.scan(); code(err) != CodeCleared {
		t.Errorf("a watcher that fell behind: %v", err)
	}
	last, _ := h.watch("/", true, 10+HistorySize+10)
	if _, told, _ := last.scan(); told {
		t.Error("a refresh is told")
	}
}

// TestHistoryIsLight holds that large values leave room for fewer events.
func TestHistoryIsLight(t *testing.T) {
	h := newHistory()
	large := string(make([]byte, 1<<20))
	for i := range int64(100) {
		h.add(Event{Action: ActionSet, Index: 1 + i, Node: &Node{Key: "/k", Value: large}})
	}
	if kept := h.count - h.oldest; kept != 63 || h.bytes > historyBytes {
		t.Errorf("%d events of 1 MiB are kept, %d bytes", kept, h.bytes)
	}
	if _, refusal := h.watch("/k", false, 37); refusal == nil {
		t.Error("an event that was dropped can be waited for")
	}
	if _, refusal := h.watch("/k", false, 38); refusal != nil {
		t.Error(refusal)
	}
}
