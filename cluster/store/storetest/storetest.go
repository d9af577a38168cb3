// Package storetest is the conformance suite of store.Store: what every implementation promises, as tests that neither
// know nor care which one they run against.
package storetest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/cluster/store"
)

// Backend is a store under test.
type Backend struct {
	// Open makes another client. Tests close it.
	Open func(t *testing.T) store.Store
	// Compact makes the store forget revisions below the given one.
	Compact func(t *testing.T, revision int64)
	// TTL is a short time to live that the store honours for sessions, as closely as it can.
	TTL time.Duration
}

// Factory gives each case a Backend. Cases keep to a key prefix of their own, so that it may be the same one.
type Factory func(t *testing.T) Backend

// Case is one test of the suite.
type Case struct {
	Name string
	Run  func(t *testing.T, b Backend)
}

// Cases returns the whole suite, for callers that wrap each test (in a synctest bubble, say). Others use Run.
func Cases() []Case {
	var cases []Case
	for _, group := range []map[string]func(*fixture){keyCases, commitCases, watchCases, sessionCases, electionCases} {
		for name, run := range group {
			cases = append(cases, Case{Name: name, Run: func(t *testing.T, b Backend) {
				f := newFixture(t, b, name)
				run(f)
			}})
		}
	}
	slices.SortFunc(cases, func(a, b Case) int { return strings.Compare(a.Name, b.Name) })
	return cases
}

// Run runs the whole suite, its cases in parallel.
func Run(t *testing.T, factory Factory) {
	for _, c := range Cases() {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			c.Run(t, factory(t))
		})
	}
}

// patience is how long a test waits for what must happen. It is no measure: a test that needs it has failed.
const patience = 60 * time.Second

// fixture is what a case works with: one client, a prefix of its own, and helpers that fail the test.
type fixture struct {
	*testing.T
	Backend
	st     store.Store
	ctx    context.Context
	prefix string
}

func newFixture(t *testing.T, b Backend, name string) *fixture {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	f := &fixture{T: t, Backend: b, ctx: ctx, prefix: "/storetest/" + name + "/"}
	f.st = f.open()
	return f
}

func (f *fixture) open() store.Store {
	f.Helper()
	st := f.Open(f.T)
	f.Cleanup(func() {
		if err := st.Close(); err != nil {
			f.Errorf("cannot close: %v", err)
		}
	})
	return st
}

func (f *fixture) key(name string) string { return f.prefix + name }

func (f *fixture) commit(c store.Commit) int64 {
	f.Helper()
	rev, err := f.st.Commit(f.ctx, c)
	if err != nil {
		f.Fatal(err)
	}
	return rev
}

func (f *fixture) put(name, value string) int64 {
	f.Helper()
	return f.commit(store.Commit{Ops: []store.Op{store.Put(f.key(name), []byte(value))}})
}

func (f *fixture) remove(name string) int64 {
	f.Helper()
	return f.commit(store.Commit{Ops: []store.Op{store.Delete(f.key(name))}})
}

func (f *fixture) get(name string) store.Item {
	f.Helper()
	item, err := f.st.Get(f.ctx, f.key(name))
	if err != nil {
		f.Fatal(err)
	}
	return item
}

func (f *fixture) view() store.View {
	f.Helper()
	view, err := f.st.Range(f.ctx, f.prefix)
	if err != nil {
		f.Fatal(err)
	}
	return view
}

// names returns the keys of items without the prefix, with their values.
func (f *fixture) names(items []store.Item) []string {
	names := []string{}
	for _, item := range items {
		names = append(names, fmt.Sprintf("%s=%s", item.Key[len(f.prefix):], item.Value))
	}
	return names
}

// next waits for a change without error.
func (f *fixture) next(changes <-chan store.Change) store.Change {
	f.Helper()
	select {
	case change, ok := <-changes:
		if !ok {
			f.Fatal("watch was closed")
		}
		if change.Err != nil {
			f.Fatalf("watch ended: %v", change.Err)
		}
		return change
	case <-f.ctx.Done():
		f.Fatal("no change came")
	}
	panic("unreachable")
}

// events collects changes until there are n events, and checks what holds of every change.
func (f *fixture) events(changes <-chan store.Change, n int) []store.Event {
	f.Helper()
	var events []store.Event
	var last int64
	for len(events) < n {
		change := f.next(changes)
		if len(change.Events) == 0 {
			f.Fatal("change without events")
		}
		if first := change.Events[0].ModRevision; first <= last {
			f.Fatalf("revision %d after change of %d: revisions are split or out of order", first, last)
		}
		for _, e := range change.Events {
			if e.ModRevision < last {
				f.Fatalf("event of revision %d after one of %d", e.ModRevision, last)
			}
			last = e.ModRevision
		}
		if change.Revision != last {
			f.Fatalf("change says revision %d, its last event %d", change.Revision, last)
		}
		events = append(events, change.Events...)
	}
	if len(events) > n {
		f.Fatalf("%d events, want %d", len(events), n)
	}
	return events
}

// wait fails the test if c is not closed in the end.
func (f *fixture) wait(c <-chan struct{}, what string) {
	f.Helper()
	select {
	case <-c:
	case <-f.ctx.Done():
		f.Fatalf("%s never happened", what)
	}
}

// rest lets time pass, for promises that something does not happen.
func (f *fixture) rest(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	<-timer.C
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func (f *fixture) session(st store.Store, ttl time.Duration) store.Session {
	f.Helper()
	s, err := st.NewSession(f.ctx, ttl)
	if err != nil {
		f.Fatal(err)
	}
	return s
}
