package apply

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// TestBeginAnew forms a cluster once more when nothing is left of it, and not before.
func TestBeginAnew(t *testing.T) {
	w := newCluster(t, 3)
	w.mustUp(Options{})
	asked := 0
	anew := func() error {
		return BeginAnew(t.Context(), w.deps(nil), Options{}, func() error { asked++; return nil })
	}
	w.lose("node-1")
	w.lose("node-2")
	if err := anew(); !errors.Is(err, ErrNobodyAnswers) || !strings.Contains(err.Error(), "node-3 at a") || asked > 0 {
		t.Errorf("while a host is left: %v, asked %d times", err, asked)
	}
	w.lose("node-3")
	no := errors.New("no")
	if err := BeginAnew(t.Context(), w.deps(nil), Options{}, func() error { return no }); !errors.Is(err, no) {
		t.Errorf("not agreed to: %v", err)
	}
	for range 2 { // the second one goes on with what the first began
		if err := anew(); err != nil || asked != 1 {
			t.Fatalf("%v, asked %d times", err, asked)
		}
	}
	w.fleet.first = nil // whoever has the store's data is gone
	clear(w.fleet.members)
	r := w.mustUp(Options{})
	if len(r.Members) != 3 || slices.ContainsFunc(w.servers(), func(s string) bool { return !strings.Contains(s, "/2") }) {
		t.Errorf("%d members, instances %v", len(r.Members), w.servers())
	}
}
