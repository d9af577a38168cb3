package storetest

import (
	"errors"
	"fmt"
	"sync"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/cluster/store"
)

var keyCases = map[string]func(*fixture){
	"missing key":         missingKey,
	"range is sorted":     rangeSorted,
	"range many pages":    rangePages,
	"range everything":    rangeEverything,
	"stale range":         staleRange,
	"revisions of a key":  keyRevisions,
	"value is a copy":     valueCopy,
	"empty value":         emptyValue,
	"closed client":       closedClient,
	"cancelled call":      cancelledCall,
	"concurrent counting": concurrentCounting,
}

func missingKey(f *fixture) {
	item := f.get("nothing")
	want := store.Item{Key: f.key("nothing")}
	if d := cmp.Diff(want, item); d != "" {
		f.Error(d)
	}
	view := f.view()
	if len(view.Items) != 0 || view.Revision <= 0 {
		f.Errorf("view of nothing: %+v", view)
	}
}

func rangeSorted(f *fixture) {
	for _, name := range []string{"b", "a/2", "c", "a/10", "a"} {
		f.put(name, "v")
	}
	last := f.put("b", "w")
	view := f.view()
	if d := cmp.Diff([]string{"a=v", "a/10=v", "a/2=v", "b=w", "c=v"}, f.names(view.Items)); d != "" {
		f.Error(d)
	}
	if view.Revision < last {
		f.Errorf("view of revision %d misses commit %d", view.Revision, last)
	}
	below, err := f.st.Range(f.ctx, f.key("a/"))
	if err != nil {
		f.Fatal(err)
	}
	if d := cmp.Diff([]string{"a/10=v", "a/2=v"}, f.names(below.Items)); d != "" {
		f.Error(d)
	}
}

func rangePages(f *fixture) {
	const commits = 20
	for i := range commits {
		var c store.Commit
		for j := range store.MaxOps {
			c.Ops = append(c.Ops, store.Put(f.key(fmt.Sprintf("%02d-%03d", i, j)), []byte("v")))
		}
		f.commit(c)
	}
	view := f.view()
	if len(view.Items) != commits*store.MaxOps {
		f.Fatalf("%d items, want %d", len(view.Items), commits*store.MaxOps)
	}
	for i := 1; i < len(view.Items); i++ {
		if view.Items[i-1].Key >= view.Items[i].Key {
			f.Fatalf("%s before %s", view.Items[i-1].Key, view.Items[i].Key)
		}
	}
}

func rangeEverything(f *fixture) {
	f.put("a", "v")
	view, err := f.st.Range(f.ctx, "")
	if err != nil {
		f.Fatal(err)
	}
	for _, item := range view.Items {
		if item.Key == f.key("a") {
			return
		}
	}
	f.Error("the empty prefix does not hold every key")
}

func staleRange(f *fixture) {
	f.put("a", "v")
	view, err := f.st.RangeStale(f.ctx, f.prefix)
	if err != nil {
		f.Fatal(err)
	}
	// It may be old, but this store has one replica.
	if d := cmp.Diff([]string{"a=v"}, f.names(view.Items)); d != "" {
		f.Error(d)
	}
}

func keyRevisions(f *fixture) {
	created := f.put("a", "1")
	changed := f.put("a", "2")
	if changed <= created {
		f.Fatalf("revisions %d, %d do not ascend", created, changed)
	}
	want := store.Item{Key: f.key("a"), Value: []byte("2"), CreateRevision: created, ModRevision: changed}
	if d := cmp.Diff(want, f.get("a")); d != "" {
		f.Error(d)
	}
	f.remove("a")
	if item := f.get("a"); item.ModRevision != 0 {
		f.Errorf("deleted key is still there: %+v", item)
	}
	again := f.put("a", "3")
	if item := f.get("a"); item.CreateRevision != again {
		f.Errorf("made again at %d, CreateRevision is %d", again, item.CreateRevision)
	}
}

func valueCopy(f *fixture) {
	value := []byte("before")
	f.commit(store.Commit{Ops: []store.Op{store.Put(f.key("a"), value)}})
	copy(value, "after!")
	if got := string(f.get("a").Value); got != "before" {
		f.Errorf("value is %q: the store keeps the caller's slice", got)
	}
}

func emptyValue(f *fixture) {
	f.put("a", "")
	if item := f.get("a"); item.ModRevision == 0 || len(item.Value) != 0 {
		f.Errorf("key with empty value: %+v", item)
	}
}

func closedClient(f *fixture) {
	st := f.Open(f.T)
	changes := st.Watch(f.ctx, f.prefix, 0)
	session := f.session(st, f.TTL)
	if err := st.Close(); err != nil {
		f.Fatal(err)
	}
	f.wait(session.Done(), "end of the closed client's session")
	for range changes { // ends when the channel is closed
	}
	if _, ok := <-st.Watch(f.ctx, f.prefix, 0); ok {
		f.Error("a closed client watches")
	}
	if _, err := st.Get(f.ctx, f.key("a")); !errors.Is(err, store.ErrUnavailable) {
		f.Errorf("Get of a closed client: %v", err)
	}
	if _, err := st.NewSession(f.ctx, f.TTL); !errors.Is(err, store.ErrUnavailable) {
		f.Errorf("NewSession of a closed client: %v", err)
	}
	if err := st.Close(); err != nil {
		f.Errorf("second Close: %v", err)
	}
}

func cancelledCall(f *fixture) {
	ctx, cancel := newCancelled(f)
	defer cancel()
	if _, err := f.st.Range(ctx, f.prefix); !errors.Is(err, store.ErrUnavailable) {
		f.Errorf("Range: %v", err)
	}
	if _, err := f.st.Commit(ctx, store.Commit{Ops: []store.Op{store.Put(f.key("a"), nil)}}); err == nil {
		f.Error("Commit succeeded")
	}
}

// concurrentCounting adds one to a number many times over, each time guarded by the revision that was read.
func concurrentCounting(f *fixture) {
	const workers, rounds = 4, 10
	var wg sync.WaitGroup
	for range workers {
		st := f.open()
		wg.Go(func() {
			for range rounds {
				if err := increment(f, st); err != nil {
					f.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if got := len(f.get("count").Value); got != workers*rounds {
		f.Errorf("counted to %d, want %d", got, workers*rounds)
	}
}

func increment(f *fixture, st store.Store) error {
	for {
		item, err := st.Get(f.ctx, f.key("count"))
		if err != nil {
			return err
		}
		_, err = st.Commit(f.ctx, store.Commit{
			Guards: []store.Guard{{Key: item.Key, Kind: store.GuardModRevision, Revision: item.ModRevision}},
			Ops:    []store.Op{store.Put(item.Key, append(item.Value[:len(item.Value):len(item.Value)], '+'))},
		})
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
}
