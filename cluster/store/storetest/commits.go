package storetest

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/cluster/store"
)

var commitCases = map[string]func(*fixture){
	"commit is one revision":      commitOneRevision,
	"delete prefix":               deletePrefix,
	"delete nothing":              deleteNothing,
	"guard mod revision":          guardMod,
	"guard create revision":       guardCreate,
	"guard absent key":            guardAbsent,
	"conflict writes nothing":     conflictWritesNothing,
	"guards alone":                guardsAlone,
	"commit limits":               commitLimits,
	"commit touches keys once":    commitTouchesOnce,
	"guard of a reborn key fails": guardReborn,
}

func newCancelled(f *fixture) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(f.ctx)
	cancel()
	return ctx, cancel
}

func commitOneRevision(f *fixture) {
	f.put("gone", "v")
	rev := f.commit(store.Commit{Ops: []store.Op{
		store.Put(f.key("a"), []byte("1")), store.Put(f.key("b"), []byte("2")), store.Delete(f.key("gone")),
	}})
	view := f.view()
	if d := cmp.Diff([]string{"a=1", "b=2"}, f.names(view.Items)); d != "" {
		f.Error(d)
	}
	for _, item := range view.Items {
		if item.ModRevision != rev || item.CreateRevision != rev {
			f.Errorf("%s is of revision %d/%d, the commit of %d", item.Key, item.CreateRevision, item.ModRevision, rev)
		}
	}
}

func deletePrefix(f *fixture) {
	for _, name := range []string{"a", "a/1", "a/2", "b"} {
		f.put(name, "v")
	}
	f.commit(store.Commit{Ops: []store.Op{store.DeletePrefix(f.key("a/")), store.Put(f.key("c"), nil)}})
	if d := cmp.Diff([]string{"a=v", "b=v", "c="}, f.names(f.view().Items)); d != "" {
		f.Error(d)
	}
}

func deleteNothing(f *fixture) {
	rev := f.put("a", "v")
	got := f.commit(store.Commit{Ops: []store.Op{store.Delete(f.key("b")), store.DeletePrefix(f.key("c/"))}})
	if got < rev {
		f.Errorf("revision went back from %d to %d", rev, got)
	}
	if item := f.get("a"); item.ModRevision != rev {
		f.Errorf("an unrelated key changed: %+v", item)
	}
}

// try commits a put of "w" to key b under one guard on key a.
func (f *fixture) try(kind store.GuardKind, revision int64) error {
	_, err := f.st.Commit(f.ctx, store.Commit{
		Guards: []store.Guard{{Key: f.key("a"), Kind: kind, Revision: revision}},
		Ops:    []store.Op{store.Put(f.key("b"), []byte("w"))},
	})
	return err
}

func (f *fixture) wantConflict(err error) {
	f.Helper()
	if !errors.Is(err, store.ErrConflict) {
		f.Errorf("got %v, want ErrConflict", err)
	}
}

func guardMod(f *fixture) {
	first := f.put("a", "1")
	second := f.put("a", "2")
	f.wantConflict(f.try(store.GuardModRevision, first))
	f.wantConflict(f.try(store.GuardModRevision, 0))
	if err := f.try(store.GuardModRevision, second); err != nil {
		f.Error(err)
	}
}

func guardCreate(f *fixture) {
	first := f.put("a", "1")
	second := f.put("a", "2")
	f.wantConflict(f.try(store.GuardCreateRevision, second))
	f.wantConflict(f.try(store.GuardCreateRevision, 0))
	if err := f.try(store.GuardCreateRevision, first); err != nil {
		f.Error(err)
	}
}

func guardAbsent(f *fixture) {
	for _, kind := range []store.GuardKind{store.GuardModRevision, store.GuardCreateRevision} {
		if err := f.try(kind, 0); err != nil {
			f.Error(err)
		}
		f.wantConflict(f.try(kind, 1))
	}
}

func guardReborn(f *fixture) {
	first := f.put("a", "1")
	f.remove("a")
	f.put("a", "1")
	f.wantConflict(f.try(store.GuardModRevision, first))
	f.wantConflict(f.try(store.GuardCreateRevision, first))
}

func conflictWritesNothing(f *fixture) {
	rev := f.put("a", "1")
	_, err := f.st.Commit(f.ctx, store.Commit{
		Guards: []store.Guard{
			{Key: f.key("a"), Kind: store.GuardModRevision, Revision: rev},
			{Key: f.key("missing"), Kind: store.GuardModRevision, Revision: rev},
		},
		Ops: []store.Op{store.Put(f.key("a"), []byte("2")), store.Put(f.key("b"), nil)},
	})
	f.wantConflict(err)
	if d := cmp.Diff([]string{"a=1"}, f.names(f.view().Items)); d != "" {
		f.Error(d)
	}
}

func guardsAlone(f *fixture) {
	rev := f.put("a", "1")
	guards := []store.Guard{{Key: f.key("a"), Kind: store.GuardModRevision, Revision: rev}}
	if got := f.commit(store.Commit{Guards: guards}); got < rev {
		f.Errorf("revision %d, want at least %d", got, rev)
	}
	f.put("a", "2")
	_, err := f.st.Commit(f.ctx, store.Commit{Guards: guards})
	f.wantConflict(err)
}

func commitLimits(f *fixture) {
	var c store.Commit
	for i := range store.MaxOps {
		key := f.key(fmt.Sprintf("%03d", i))
		c.Ops = append(c.Ops, store.Put(key, nil))
		c.Guards = append(c.Guards, store.Guard{Key: key})
	}
	f.commit(c)
	if got := len(f.view().Items); got != store.MaxOps {
		f.Fatalf("%d items, want %d", got, store.MaxOps)
	}
	c.Guards = nil
	c.Ops = append(c.Ops, store.Put(f.key("one more"), nil))
	if _, err := f.st.Commit(f.ctx, c); !errors.Is(err, store.ErrInvalid) {
		f.Errorf("%d ops: %v", len(c.Ops), err)
	}
}

func commitTouchesOnce(f *fixture) {
	key, dir := f.key("a"), f.key("dir/")
	for name, ops := range map[string][]store.Op{
		"put twice":          {store.Put(key, nil), store.Put(key, nil)},
		"put and delete":     {store.Put(key, nil), store.Delete(key)},
		"delete twice":       {store.Delete(key), store.Delete(key)},
		"put under prefix":   {store.DeletePrefix(dir), store.Put(dir+"b", nil)},
		"overlapping prefix": {store.DeletePrefix(dir), store.DeletePrefix(dir + "b")},
		"no key":             {store.Put("", nil)},
	} {
		if _, err := f.st.Commit(f.ctx, store.Commit{Ops: ops}); !errors.Is(err, store.ErrInvalid) {
			f.Errorf("%s: %v", name, err)
		}
	}
	if got := f.names(f.view().Items); len(got) != 0 {
		f.Errorf("refused commits wrote %v", got)
	}
}
