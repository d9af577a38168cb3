package store_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/musterhq/muster/cluster/store"
	"github.com/musterhq/muster/cluster/store/storetest"
)

// TestMemory runs the suite on a virtual clock, where a session's minute takes no time.
func TestMemory(t *testing.T) {
	for _, c := range storetest.Cases() {
		t.Run(c.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := store.NewMemory(time.Now)
				t.Cleanup(func() { _ = m.Close() })
				c.Run(t, storetest.Backend{
					Open:    func(*testing.T) store.Store { return m.Client() },
					Compact: func(_ *testing.T, rev int64) { m.Compact(rev) },
					TTL:     3 * time.Second,
				})
			})
		})
	}
}

func put(t *testing.T, st store.Store, key, value string) int64 {
	t.Helper()
	rev, err := st.Commit(t.Context(), store.Commit{Ops: []store.Op{store.Put(key, []byte(value))}})
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

func TestMemoryCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := store.NewMemory(time.Now)
		defer m.Close()
		c := m.Client()
		defer c.Close()
		after := put(t, c, "/a", "1")
		changes := c.Watch(t.Context(), "/", after)

		c.Cut()
		if _, err := c.Get(t.Context(), "/a"); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("Get while cut: %v", err)
		}
		if _, err := c.RangeStale(t.Context(), "/"); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("RangeStale while cut: %v", err)
		}
		put(t, m, "/a", "2")
		synctest.Wait()
		select {
		case change := <-changes:
			t.Errorf("a cut client saw %+v", change)
		default:
		}

		c.Heal()
		if change := <-changes; len(change.Events) != 1 || string(change.Events[0].Value) != "2" {
			t.Errorf("after healing: %+v", change)
		}
	})
}

func TestMemoryCutMissesCompactedRevisions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := store.NewMemory(time.Now)
		defer m.Close()
		c := m.Client()
		defer c.Close()
		busy := c.Watch(t.Context(), "/", put(t, c, "/a", "1"))
		c.Cut()
		put(t, m, "/a", "2")
		m.Compact(put(t, m, "/a", "3"))
		c.Heal()
		if change := <-busy; !errors.Is(change.Err, store.ErrCompacted) {
			t.Errorf("watch that missed compacted revisions: %+v", change)
		}
	})
}

// TestMemoryPartitionedSession checks both views of a session whose holder is cut off: the holder gives up no later
// than the store does.
func TestMemoryPartitionedSession(t *testing.T) {
	for name, pause := range map[string]func(*store.MemoryClient){
		"cut": (*store.MemoryClient).Cut, "paused": (*store.MemoryClient).PauseSessions,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const ttl = 6 * time.Second
				m := store.NewMemory(time.Now)
				defer m.Close()
				c := m.Client()
				defer c.Close()
				s, err := c.NewSession(t.Context(), ttl)
				if err != nil {
					t.Fatal(err)
				}
				rev, err := m.Commit(t.Context(), store.Commit{Ops: []store.Op{{Key: "/a", Session: s.ID()}}})
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(ttl * 3) // on the bubble's clock: kept alive
				pause(c)
				changes := m.Watch(t.Context(), "/a", rev)
				begin := time.Now()
				<-changes
				select {
				case <-s.Done():
				default:
					t.Error("the store gave the session up before its holder did")
				}
				if took := time.Since(begin); took < ttl*2/3 || took > ttl+time.Millisecond {
					t.Errorf("expired after %s, ttl is %s", took, ttl)
				}
			})
		})
	}
}

func TestMemorySessionSurvivesShortCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := store.NewMemory(time.Now)
		defer m.Close()
		s, err := m.NewSession(t.Context(), 6*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		for range 5 {
			m.Cut()
			time.Sleep(3 * time.Second)
			m.Heal()
			time.Sleep(3 * time.Second)
		}
		select {
		case <-s.Done():
			t.Error("session ended although it was renewed in time")
		default:
		}
	})
}

func TestMemoryQuorum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const ttl = 6 * time.Second
		m := store.NewMemory(time.Now)
		defer m.Close()
		s, err := m.NewSession(t.Context(), ttl)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.Commit(t.Context(), store.Commit{Ops: []store.Op{{Key: "/a", Session: s.ID()}}}); err != nil {
			t.Fatal(err)
		}
		m.SetQuorum(false)
		if _, err := m.Range(t.Context(), "/"); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("Range without quorum: %v", err)
		}
		<-s.Done() // the holder cannot know
		time.Sleep(10 * ttl)
		view, err := m.RangeStale(t.Context(), "/")
		if err != nil || len(view.Items) != 1 {
			t.Errorf("without quorum nothing expires: %+v, %v", view, err)
		}
		m.SetQuorum(true)
		time.Sleep(ttl - 1)
		if item, err := m.Get(t.Context(), "/a"); err != nil || item.ModRevision == 0 {
			t.Errorf("sessions have their whole ttl again: %+v, %v", item, err)
		}
		time.Sleep(time.Millisecond + 2)
		if item, err := m.Get(t.Context(), "/a"); err != nil || item.ModRevision != 0 {
			t.Errorf("key outlives its session: %+v, %v", item, err)
		}
	})
}

func TestMemoryLoseAnswer(t *testing.T) {
	m := store.NewMemory(time.Now)
	defer m.Close()
	m.LoseAnswer()
	_, err := m.Commit(t.Context(), store.Commit{Ops: []store.Op{store.Put("/a", nil)}})
	if !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("lost answer: %v", err)
	}
	if item, err := m.Get(t.Context(), "/a"); err != nil || item.ModRevision == 0 {
		t.Errorf("the commit was not written: %+v, %v", item, err)
	}
	put(t, m, "/a", "2")
}

// TestMemoryCampaignSurvivesLostAnswer: the candidacy was written although nobody said so.
func TestMemoryCampaignSurvivesLostAnswer(t *testing.T) {
	m := store.NewMemory(time.Now)
	defer m.Close()
	s, err := m.NewSession(t.Context(), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	m.LoseAnswer()
	l, err := m.Campaign(t.Context(), "/leader/", "one", s)
	if err != nil {
		t.Fatal(err)
	}
	_, err = m.Commit(t.Context(), store.Commit{Guards: []store.Guard{l.Fence()}})
	if err != nil {
		t.Errorf("fence does not hold: %v", err)
	}
}

// TestMemoryLeaderCompacted: a leader that was cut off while its watch's revisions were compacted is still the leader.
func TestMemoryLeaderCompacted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := store.NewMemory(time.Now)
		defer m.Close()
		c := m.Client()
		defer c.Close()
		s, err := c.NewSession(t.Context(), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		l, err := c.Campaign(t.Context(), "/leader/", "one", s)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		c.Cut()
		for i := range 10 {
			m.Compact(put(t, m, "/a", fmt.Sprint(i)))
		}
		c.Heal()
		synctest.Wait()
		select {
		case <-l.Done():
			t.Error("leadership was lost to a compaction")
		default:
		}
		if err := l.Resign(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// benchmarkCommit writes 128 records of a kilobyte at once.
func benchmarkCommit(b *testing.B, st store.Store) {
	value := make([]byte, 1<<10)
	var c store.Commit
	for i := range store.MaxOps {
		c.Ops = append(c.Ops, store.Put(fmt.Sprintf("/bench/%03d", i), value))
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := st.Commit(b.Context(), c); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*store.MaxOps)/b.Elapsed().Seconds(), "ops/s")
}

// benchmarkWatch writes one key that so many watches wait for.
func benchmarkWatch(b *testing.B, st store.Store, watchers int) {
	ctx, cancel := context.WithCancel(b.Context())
	after, err := st.Commit(ctx, store.Commit{Ops: []store.Op{store.Put("/fan/a", nil)}})
	if err != nil {
		b.Fatal(err)
	}
	var got, ended sync.WaitGroup
	for range watchers {
		changes := st.Watch(ctx, "/fan/", after)
		ended.Go(func() {
			for change := range changes {
				got.Add(-len(change.Events))
			}
		})
	}
	b.ReportAllocs()
	for b.Loop() {
		got.Add(watchers)
		if _, err := st.Commit(ctx, store.Commit{Ops: []store.Op{store.Put("/fan/a", nil)}}); err != nil {
			b.Fatal(err)
		}
		got.Wait()
	}
	b.ReportMetric(float64(b.N*watchers)/b.Elapsed().Seconds(), "events/s")
	cancel()
	ended.Wait()
}

func BenchmarkMemoryCommit(b *testing.B) {
	m := store.NewMemory(time.Now)
	defer m.Close()
	benchmarkCommit(b, m)
}

func BenchmarkMemoryWatch(b *testing.B) {
	for _, watchers := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint(watchers), func(b *testing.B) {
			m := store.NewMemory(time.Now)
			defer m.Close()
			benchmarkWatch(b, m, watchers)
		})
	}
}
