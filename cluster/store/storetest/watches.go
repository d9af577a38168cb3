package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/cluster/store"
)

var watchCases = map[string]func(*fixture){
	"watch past and present":      watchPastAndPresent,
	"watch one prefix":            watchOnePrefix,
	"watch deletes":               watchDeletes,
	"watch from the future":       watchFuture,
	"watch whole revisions":       watchWholeRevisions,
	"watch with a slow reader":    watchSlowReader,
	"watch ends with its context": watchEnds,
	"watch compacted revisions":   watchCompacted,
	"watches are independent":     watchesIndependent,
	"watch sees every commit":     watchSeesEveryCommit,
}

// told renders events without prefix and revision.
func (f *fixture) told(events []store.Event) []string {
	told := []string{}
	for _, e := range events {
		name := e.Key[len(f.prefix):]
		if e.Deleted {
			told = append(told, name+" deleted")
			continue
		}
		told = append(told, fmt.Sprintf("%s=%s", name, e.Value))
	}
	return told
}

func watchPastAndPresent(f *fixture) {
	first := f.put("a", "1")
	f.put("a", "2")
	changes := f.st.Watch(f.ctx, f.prefix, first)
	events := f.events(changes, 1)
	f.put("a", "3")
	events = append(events, f.events(changes, 1)...)
	if d := cmp.Diff([]string{"a=2", "a=3"}, f.told(events)); d != "" {
		f.Error(d)
	}
	if e := events[0]; e.CreateRevision != first || e.ModRevision <= first {
		f.Errorf("event's item is %+v", e.Item)
	}
}

func watchOnePrefix(f *fixture) {
	after := f.put("start", "")
	changes := f.st.Watch(f.ctx, f.key("a/"), after)
	f.put("a", "no")
	f.commit(store.Commit{Ops: []store.Op{
		store.Put(f.key("a/1"), []byte("yes")), store.Put(f.key("b/1"), []byte("no")),
		store.Put(f.key("a/2"), []byte("yes")),
	}})
	change := f.next(changes)
	if d := cmp.Diff([]string{"a/1=yes", "a/2=yes"}, f.told(change.Events)); d != "" {
		f.Error(d)
	}
}

func watchDeletes(f *fixture) {
	f.put("a/1", "v")
	f.put("a/2", "v")
	after := f.put("b", "v")
	changes := f.st.Watch(f.ctx, f.prefix, after)
	rev := f.commit(store.Commit{Ops: []store.Op{store.DeletePrefix(f.key("a/")), store.Delete(f.key("never"))}})
	change := f.next(changes)
	if d := cmp.Diff([]string{"a/1 deleted", "a/2 deleted"}, f.told(change.Events)); d != "" {
		f.Error(d)
	}
	want := store.Item{Key: f.key("a/1"), ModRevision: rev}
	if d := cmp.Diff(want, change.Events[0].Item); d != "" {
		f.Errorf("deleted item: %s", d)
	}
}

// watchFuture asks for what follows a revision that is not there yet.
func watchFuture(f *fixture) {
	now := f.put("a", "0")
	const ahead = 1000
	changes := f.st.Watch(f.ctx, f.prefix, now+ahead)
	for rev := now; rev < now+ahead; {
		rev = f.put("a", "no")
	}
	f.put("a", "yes")
	for {
		for _, e := range f.next(changes).Events {
			if e.ModRevision <= now+ahead {
				f.Fatalf("event of revision %d, asked for those after %d", e.ModRevision, now+ahead)
			}
			if string(e.Value) == "yes" {
				return
			}
		}
	}
}

// watchWholeRevisions reads back commits so large that no message holds them all, and checks that none comes in two.
func watchWholeRevisions(f *fixture) {
	const commits, ops = 10, 100
	after := f.put("start", "")
	value := bytes.Repeat([]byte("x"), 8<<10)
	for range commits {
		var c store.Commit
		for i := range ops {
			c.Ops = append(c.Ops, store.Put(f.key(fmt.Sprintf("%03d", i)), value))
		}
		f.commit(c)
	}
	events := f.events(f.st.Watch(f.ctx, f.prefix, after), commits*ops) // events checks the rest
	for i, e := range events {
		if want := f.key(fmt.Sprintf("%03d", i%ops)); e.Key != want {
			f.Fatalf("event %d is of %s, want %s", i, e.Key, want)
		}
	}
}

func watchSlowReader(f *fixture) {
	const n = 300
	after := f.put("start", "")
	changes := f.st.Watch(f.ctx, f.prefix, after)
	for i := range n {
		f.put("a", fmt.Sprint(i))
	}
	for i, e := range f.events(changes, n) {
		if string(e.Value) != fmt.Sprint(i) {
			f.Fatalf("event %d has value %s", i, e.Value)
		}
	}
}

func watchEnds(f *fixture) {
	ctx, cancel := context.WithCancel(f.ctx)
	changes := f.st.Watch(ctx, f.prefix, f.put("a", "1"))
	f.put("a", "2")
	f.events(changes, 1)
	f.put("a", "3") // perhaps delivered, perhaps not
	cancel()
	for change := range changes {
		if change.Err != nil {
			f.Errorf("a watch that was ended says %v", change.Err)
		}
	}
}

func watchCompacted(f *fixture) {
	first := f.put("a", "1")
	f.put("a", "2")
	last := f.put("a", "3")
	f.Compact(f.T, last)
	changes := f.st.Watch(f.ctx, f.prefix, first-1)
	select {
	case change := <-changes:
		if !errors.Is(change.Err, store.ErrCompacted) {
			f.Errorf("got %+v, want ErrCompacted", change)
		}
	case <-f.ctx.Done():
		f.Fatal("nothing came")
	}
	if _, ok := <-changes; ok {
		f.Error("the watch goes on after its error")
	}
	// Reading again and watching from there is the remedy.
	changes = f.st.Watch(f.ctx, f.prefix, f.view().Revision)
	f.put("a", "4")
	f.events(changes, 1)
}

func watchesIndependent(f *fixture) {
	after := f.put("start", "")
	ctx, cancel := context.WithCancel(f.ctx)
	idle := f.st.Watch(ctx, f.prefix, after) // nobody reads it
	changes := f.st.Watch(f.ctx, f.prefix, after)
	other := f.open().Watch(f.ctx, f.prefix, after)
	for i := range 50 {
		f.put("a", fmt.Sprint(i))
	}
	f.events(changes, 50)
	f.events(other, 50)
	cancel()
	for range idle {
	}
	f.put("a", "last")
	f.events(changes, 1)
}

// watchSeesEveryCommit begins a watch between a read and its next change while another client writes.
func watchSeesEveryCommit(f *fixture) {
	const n = 200
	writer := f.open()
	done := make(chan error, 1)
	go func() {
		for i := range n {
			_, err := writer.Commit(f.ctx, store.Commit{Ops: []store.Op{store.Put(f.key(fmt.Sprintf("%03d", i)), nil)}})
			if err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	var view store.View
	for len(view.Items) == 0 {
		view = f.view()
	}
	seen := len(view.Items)
	for i, e := range f.events(f.st.Watch(f.ctx, f.prefix, view.Revision), n-seen) {
		if want := f.key(fmt.Sprintf("%03d", seen+i)); e.Key != want {
			f.Fatalf("event of %s, want %s", e.Key, want)
		}
	}
	if err := <-done; err != nil {
		f.Fatal(err)
	}
}
