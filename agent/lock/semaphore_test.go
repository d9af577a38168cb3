package lock

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/musterhq/muster/cluster/store"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func word(by string) Word { return Word{At: noon, By: by, Reason: "because"} }

func refused(err error) bool {
	var r *Refused
	return errors.As(err, &r)
}

// TestSemaphore holds any sequence of changes to a set with a bound: never more holders than the maximum, but those that
// were there when it was lowered, and every change in the history, once.
func TestSemaphore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g, held, events := New(), map[string]store.LockHolder{}, 0
		for range rapid.IntRange(1, 60).Draw(t, "changes") {
			h := store.LockHolder{
				ID:     rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "id"),
				Kind:   rapid.SampledFrom([]store.HolderKind{store.HolderHost, store.HolderOperator}).Draw(t, "kind"),
				Boot:   rapid.SampledFrom([]string{"1", "2"}).Draw(t, "boot"),
				Ticket: rapid.Int64Range(0, 1).Draw(t, "ticket"),
			}
			before, was := g, fmt.Sprint(g)
			var changed bool
			var err error
			had, has := held[h.ID]
			switch rapid.IntRange(0, 3).Draw(t, "verb") {
			case 0:
				g, changed, err = Acquire(g, h, word("x"))
				mine := has && same(had, h)
				if ok := mine || !has && len(held) < before.Max; ok != (err == nil) || changed != (ok && !mine) {
					t.Fatalf("acquire %+v in %v: %v, changed %v", h, was, err, changed)
				}
				if changed {
					held[h.ID] = h
				}
			case 1:
				g, changed, err = Release(g, h, word("x"))
				if changed != (has && had.Kind == h.Kind) || (err != nil) != (has && had.Kind != h.Kind) {
					t.Fatalf("release %+v in %v: %v, changed %v", h, was, err, changed)
				}
				if changed {
					delete(held, h.ID)
				}
			case 2:
				if g, changed = Force(g, h.ID, word("x")); changed != has {
					t.Fatalf("force %s in %v: changed %v", h.ID, was, changed)
				}
				delete(held, h.ID)
			case 3:
				most := rapid.IntRange(-1, 3).Draw(t, "max")
				g, changed, err = SetMax(g, most, word("x"))
				if changed != (most >= 0 && most != before.Max) || (err != nil) != (most < 0) {
					t.Fatalf("max %d in %v: %v, changed %v", most, was, err, changed)
				}
			}
			if err != nil && !refused(err) {
				t.Fatal(err)
			}
			if fmt.Sprint(before) != was {
				t.Fatal("a value was changed in place")
			}
			if changed {
				events++
			}
			check(t, g, held, events)
		}
	})
}

func check(t *rapid.T, g store.LockRecord, held map[string]store.LockHolder, events int) {
	if len(g.Holders) != len(held) || len(g.History) != events {
		t.Fatalf("%d holders and %d events, want %d and %d", len(g.Holders), len(g.History), len(held), events)
	}
	if !slices.IsSortedFunc(g.Holders, func(a, b store.LockHolder) int { return strings.Compare(a.ID, b.ID) }) {
		t.Fatalf("not sorted: %v", g.Holders)
	}
}

func TestHistoryIsBounded(t *testing.T) {
	g := New()
	for n := range 3 * store.LockHistory {
		g, _, _ = SetMax(g, 10+n, word("x"))
	}
	if n := len(g.History); n != store.LockHistory {
		t.Errorf("%d events", n)
	}
	if last := g.History[len(g.History)-1]; !strings.HasPrefix(last.Reason, "from 308 to 309") {
		t.Errorf("the last is %+v", last)
	}
}

func TestNames(t *testing.T) {
	for name, want := range map[string]bool{
		"default": true, "web+1": true, "a.b-c": true, "%2Fx": true, "": false, "a/b": false, "a b": false,
		strings.Repeat("a", 65): false,
	} {
		if ValidGroup(name) != want {
			t.Errorf("group %q", name)
		}
	}
	for id, want := range map[string]bool{"a": true, "": false, "a b": false, "ä": false, strings.Repeat("a", 129): false} {
		if ValidHolder(id) != want {
			t.Errorf("holder %q", id)
		}
	}
}
