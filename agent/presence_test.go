package agent

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/musterhq/muster/cluster/store"
)

// TestRecordRemoved takes a living host's record away, as a voter that wakes up may: the host does not wait for its next
// sign of life to announce itself again.
func TestRecordRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := store.NewMemory(time.Now)
		defer func() { _ = memory.Close() }()
		began := time.Now()
		p := &presence{
			store: memory, id: id(1), ttl: time.Minute, now: time.Now, log: quiet(), begun: func() {},
			herald:  &herald{store: memory, id: id(1), log: quiet(), news: newSignal(), writing: make(chan struct{}, 1)},
			contact: newContact(time.Minute, newFakeRuntime(), func() time.Duration { return time.Since(began) }, quiet()),
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- p.run(ctx) }()
		synctest.Wait()

		before, err := memory.Get(ctx, store.AliveKey(id(1)))
		if err != nil || before.ModRevision == 0 {
			t.Fatalf("not announced: %v", err)
		}
		if _, err := memory.Commit(ctx, store.Commit{Ops: []store.Op{store.Delete(store.AliveKey(id(1)))}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(500 * time.Millisecond)
		after, err := memory.Get(ctx, store.AliveKey(id(1)))
		if err != nil || after.ModRevision == 0 || after.Session == before.Session {
			t.Errorf("not announced again under another session: %+v, %v", after, err)
		}
		if said := announcements(t, memory); said != 2 {
			t.Errorf("the host says that it was announced %d times", said)
		}
		p.herald.gaveUp(map[string]int64{"db.service": 3})
		if _, err := p.herald.write(ctx, nil); err != nil || announcements(t, memory) != 2 {
			t.Errorf("what else it says counts as an announcement: %v", err)
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// announcements are how often a host says that it was announced.
func announcements(t *testing.T, s store.Store) int64 {
	t.Helper()
	item, err := s.Get(t.Context(), store.HostKey(id(1)))
	if err != nil {
		t.Fatal(err)
	}
	said, err := store.Unmarshal[store.HostRecord](item.Value)
	if err != nil {
		t.Fatal(err)
	}
	return said.Announced
}
