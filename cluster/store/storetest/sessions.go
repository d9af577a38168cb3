package storetest

import (
	"errors"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/cluster/store"
)

var sessionCases = map[string]func(*fixture){
	"session binds keys":          sessionBinds,
	"session is kept alive":       sessionKeptAlive,
	"session expires":             sessionExpires,
	"session revoked":             sessionRevoked,
	"session ended elsewhere":     sessionUnknown,
	"sessions are distinct":       sessionsDistinct,
	"expiry is one revision":      expiryOneRevision,
	"session lets go of its keys": sessionLetsGo,
}

func (f *fixture) bind(name string, s store.Session) int64 {
	f.Helper()
	return f.commit(store.Commit{Ops: []store.Op{{Key: f.key(name), Value: []byte("v"), Session: s.ID()}}})
}

func sessionBinds(f *fixture) {
	s := f.session(f.st, f.TTL)
	if s.ID() == 0 {
		f.Fatal("session with ID 0")
	}
	rev := f.bind("a", s)
	want := store.Item{
		Key: f.key("a"), Value: []byte("v"), CreateRevision: rev, ModRevision: rev, Session: s.ID(),
	}
	if d := cmp.Diff(want, f.get("a")); d != "" {
		f.Error(d)
	}
}

func sessionKeptAlive(f *fixture) {
	s := f.session(f.st, f.TTL)
	f.bind("a", s)
	f.rest(2*f.TTL + f.TTL/2)
	if isClosed(s.Done()) {
		f.Error("session ended although its client lives")
	}
	if f.get("a").ModRevision == 0 {
		f.Error("key is gone although its session lives")
	}
}

func sessionExpires(f *fixture) {
	holder := f.Open(f.T)
	s := f.session(holder, f.TTL)
	rev := f.bind("a", s)
	changes := f.st.Watch(f.ctx, f.prefix, rev)
	if err := holder.Close(); err != nil {
		f.Fatal(err)
	}
	f.wait(s.Done(), "end of the session")
	if d := cmp.Diff([]string{"a deleted"}, f.told(f.events(changes, 1))); d != "" {
		f.Error(d)
	}
	_, err := f.st.Commit(f.ctx, store.Commit{Ops: []store.Op{{Key: f.key("b"), Session: s.ID()}}})
	if !errors.Is(err, store.ErrSessionLost) {
		f.Errorf("put under an expired session: %v", err)
	}
}

func sessionRevoked(f *fixture) {
	s := f.session(f.st, f.TTL)
	f.bind("a", s)
	if err := s.Revoke(f.ctx); err != nil {
		f.Fatal(err)
	}
	if !isClosed(s.Done()) {
		f.Error("revoked session is not done")
	}
	if f.get("a").ModRevision != 0 {
		f.Error("key outlives its revoked session")
	}
	if err := s.Revoke(f.ctx); err != nil {
		f.Errorf("second Revoke: %v", err)
	}
}

func sessionUnknown(f *fixture) {
	s := f.session(f.st, f.TTL)
	if err := s.Revoke(f.ctx); err != nil {
		f.Fatal(err)
	}
	rev := f.put("a", "1")
	_, err := f.st.Commit(f.ctx, store.Commit{Ops: []store.Op{
		store.Put(f.key("a"), []byte("2")), {Key: f.key("b"), Session: s.ID()},
	}})
	if !errors.Is(err, store.ErrSessionLost) {
		f.Errorf("put under a revoked session: %v", err)
	}
	if item := f.get("a"); item.ModRevision != rev {
		f.Error("the refused commit wrote a part")
	}
}

func sessionsDistinct(f *fixture) {
	s1, s2 := f.session(f.st, f.TTL), f.session(f.open(), f.TTL)
	if s1.ID() == s2.ID() {
		f.Fatalf("two sessions with ID %x", s1.ID())
	}
	f.bind("a", s1)
	f.bind("b", s2)
	if err := s1.Revoke(f.ctx); err != nil {
		f.Fatal(err)
	}
	if d := cmp.Diff([]string{"b=v"}, f.names(f.view().Items)); d != "" {
		f.Error(d)
	}
	if isClosed(s2.Done()) {
		f.Error("revoking one session ended another")
	}
}

func expiryOneRevision(f *fixture) {
	s := f.session(f.st, f.TTL)
	f.bind("b", s)
	rev := f.bind("a", s)
	changes := f.st.Watch(f.ctx, f.prefix, rev)
	if err := s.Revoke(f.ctx); err != nil {
		f.Fatal(err)
	}
	if d := cmp.Diff([]string{"a deleted", "b deleted"}, f.told(f.next(changes).Events)); d != "" {
		f.Error(d)
	}
}

func sessionLetsGo(f *fixture) {
	s := f.session(f.st, f.TTL)
	f.bind("a", s)
	f.bind("b", s)
	f.put("a", "free")
	f.remove("b")
	f.put("b", "free")
	if err := s.Revoke(f.ctx); err != nil {
		f.Fatal(err)
	}
	if d := cmp.Diff([]string{"a=free", "b=free"}, f.names(f.view().Items)); d != "" {
		f.Error(d)
	}
}
