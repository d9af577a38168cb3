package store_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/musterhq/muster/cluster/store"
	"github.com/musterhq/muster/cluster/store/storetest"
)

func dial(tb testing.TB, endpoints ...string) *store.Etcd {
	tb.Helper()
	st, err := store.DialEtcd(tb.Context(), store.EtcdConfig{Endpoints: endpoints, Prefer: endpoints[0]})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = st.Close() })
	return st
}

// TestEtcd runs the suite against a real member.
func TestEtcd(t *testing.T) {
	endpoint := endpointOf(startEtcd(t, nil))
	t.Run("suite", func(t *testing.T) { // ends when its parallel cases have
		storetest.Run(t, func(*testing.T) storetest.Backend {
			return storetest.Backend{
				Open: func(t *testing.T) store.Store {
					st, err := store.DialEtcd(t.Context(), store.EtcdConfig{Endpoints: []string{endpoint}})
					if err != nil {
						t.Fatal(err)
					}
					return st
				},
				Compact: func(t *testing.T, rev int64) { compact(t, endpoint, rev) },
				TTL:     2 * time.Second, // the least that a member with default timing grants
			}
		})
	})
}

// TestEtcdLeavesMember loses the member in use while a watch, a session and an election hang on it, in each way that a
// member can be lost. Everything must go on over the other one without a gap.
func TestEtcdLeavesMember(t *testing.T) {
	endpoint := endpointOf(startEtcd(t, nil))
	for name, lose := range map[string]func(*relay){"frozen": (*relay).freeze, "killed": (*relay).kill} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			first, second := startRelay(t, endpoint), startRelay(t, endpoint)
			st := dial(t, first.endpoint(), second.endpoint())
			key := "/" + name + "/a"
			session, err := st.NewSession(t.Context(), 10*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			leadership, err := st.Campaign(t.Context(), "/"+name+"/leader/", "one", session)
			if err != nil {
				t.Fatal(err)
			}
			changes := st.Watch(t.Context(), key, put(t, st, key, "0"))
			if got := st.Endpoint(); got != first.endpoint() {
				t.Fatalf("uses %s, prefers %s", got, first.endpoint())
			}

			lose(first)
			other := dial(t, endpoint)
			for i := range 10 {
				put(t, other, key, fmt.Sprint(i))
			}
			for i := 0; i < 10; {
				change, ok := <-changes
				if !ok || change.Err != nil {
					t.Fatalf("watch ended: %v", change.Err)
				}
				for _, e := range change.Events {
					if string(e.Value) != fmt.Sprint(i) {
						t.Fatalf("event %d is %s: the watch lost or repeated something", i, e.Value)
					}
					i++
				}
			}
			if got := st.Endpoint(); got != second.endpoint() {
				t.Errorf("uses %s, the other is %s", got, second.endpoint())
			}
			if _, err := st.Commit(t.Context(), store.Commit{
				Guards: []store.Guard{leadership.Fence()}, Ops: []store.Op{store.Put(key, nil)},
			}); err != nil {
				t.Errorf("leadership did not survive: %v", err)
			}
			select {
			case <-session.Done():
				t.Error("session did not survive")
			case <-leadership.Done():
				t.Error("leadership did not survive")
			default:
			}
		})
	}
}

// TestEtcdPassesSilentMember: whoever turns to a member that accepts connections and says nothing asks another one before it
// gives that one up.
func TestEtcdPassesSilentMember(t *testing.T) {
	var lc net.ListenConfig
	silent, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	givenUp := make(chan struct{})
	var wg sync.WaitGroup
	t.Cleanup(func() {
		silent.Close()
		wg.Wait()
	})
	wg.Go(func() {
		defer close(givenUp)
		if conn, err := silent.Accept(); err == nil {
			defer conn.Close()
			_, _ = io.Copy(io.Discard, conn)
		}
	})
	front, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer front.Close()
	wg.Go(func() {
		conn, err := front.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		select {
		case <-givenUp:
			t.Error("the next member was asked only when the silent one had been given up")
		default:
		}
	})
	st := dial(t, "http://"+silent.Addr().String(), "http://"+front.Addr().String(), endpointOf(startEtcd(t, nil)))
	put(t, st, "/a", "1")
}

// TestEtcdCommitToFrozenMember: the answer can no longer come, and the caller must hear so before its patience ends.
func TestEtcdCommitToFrozenMember(t *testing.T) {
	endpoint := endpointOf(startEtcd(t, nil))
	r := startRelay(t, endpoint)
	st := dial(t, r.endpoint())
	put(t, st, "/a", "1")
	r.freeze()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err := st.Commit(ctx, store.Commit{Ops: []store.Op{store.Put("/a", []byte("2"))}})
	if !errors.Is(err, store.ErrUnavailable) || ctx.Err() != nil {
		t.Errorf("commit to a frozen member: %v", err)
	}
	_, err = st.RangeStale(ctx, "/")
	if !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("stale read of a frozen member: %v", err)
	}
	r.thaw()
	if item, err := st.Get(ctx, "/a"); err != nil || item.ModRevision == 0 {
		t.Errorf("after thawing: %+v, %v", item, err)
	}
}

// TestEtcdLeavesDoubtedMember: a member that freezes long before it is due to be probed is left for another one since a call
// waits for it, while the call is still under way.
func TestEtcdLeavesDoubtedMember(t *testing.T) {
	endpoint := endpointOf(startEtcd(t, nil))
	first, second := startRelay(t, endpoint), startRelay(t, endpoint)
	st, err := store.DialEtcd(t.Context(), store.EtcdConfig{
		Endpoints: []string{first.endpoint(), second.endpoint()}, Prefer: first.endpoint(), Probe: time.Hour, Timeout: time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	put(t, st, "/a", "1")
	first.freeze()
	if item, err := st.Get(t.Context(), "/a"); err != nil || string(item.Value) != "1" {
		t.Errorf("read: %+v, %v", item, err)
	}
	if got := st.Endpoint(); got != second.endpoint() {
		t.Errorf("uses %s, the other is %s", got, second.endpoint())
	}
}

// TestEtcdSessionOfFrozenMember: nobody answers, so the session must be given up by the local clock.
func TestEtcdSessionOfFrozenMember(t *testing.T) {
	endpoint := endpointOf(startEtcd(t, nil))
	r := startRelay(t, endpoint)
	st := dial(t, r.endpoint())
	session, err := st.NewSession(t.Context(), 3*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	rev, err := st.Commit(t.Context(), store.Commit{Ops: []store.Op{{Key: "/a", Session: session.ID()}}})
	if err != nil {
		t.Fatal(err)
	}
	deleted := dial(t, endpoint).Watch(t.Context(), "/a", rev)
	r.freeze()
	<-deleted
	select {
	case <-session.Done():
	default:
		t.Error("the store gave the session up before its holder did")
	}
}

func TestEtcdSetEndpoints(t *testing.T) {
	endpoint := endpointOf(startEtcd(t, nil))
	first, second := startRelay(t, endpoint), startRelay(t, endpoint)
	st := dial(t, first.endpoint())
	changes := st.Watch(t.Context(), "/a", put(t, st, "/a", "1"))
	st.SetEndpoints([]string{second.endpoint()})
	first.kill()
	put(t, dial(t, endpoint), "/a", "2")
	if change := <-changes; len(change.Events) != 1 || string(change.Events[0].Value) != "2" {
		t.Errorf("after the endpoints changed: %+v", change)
	}
	if got := st.Endpoint(); got != second.endpoint() {
		t.Errorf("uses %s, want %s", got, second.endpoint())
	}
}

func TestEtcdUnreachable(t *testing.T) {
	r := startRelay(t, "http://127.0.0.1:1")
	r.kill()
	st, err := store.DialEtcd(t.Context(), store.EtcdConfig{Endpoints: []string{r.endpoint()}, Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	_, err = st.Get(t.Context(), "/a")
	if !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Get: %v", err)
	}
	t.Log(err)
	if _, err := st.RangeStale(t.Context(), "/"); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("RangeStale: %v", err)
	}
}

func TestEtcdNoEndpoints(t *testing.T) {
	if _, err := store.DialEtcd(t.Context(), store.EtcdConfig{}); err == nil {
		t.Error("dialled nothing")
	}
}

func TestEtcdRefusals(t *testing.T) {
	st := dial(t, endpointOf(startEtcd(t, nil)))
	huge := store.Commit{Ops: []store.Op{store.Put("/a", make([]byte, 4<<20))}}
	_, err := st.Commit(t.Context(), huge)
	if err == nil || errors.Is(err, store.ErrUnavailable) {
		t.Errorf("commit of 4 MiB: %v; want an error that says it is for good", err)
	}
	if _, err := st.NewSession(t.Context(), 0); err == nil {
		t.Error("made a session without time to live")
	}
}

func BenchmarkEtcdCommit(b *testing.B) { benchmarkCommit(b, dial(b, endpointOf(startEtcd(b, nil)))) }

func BenchmarkEtcdWatch(b *testing.B) {
	st := dial(b, endpointOf(startEtcd(b, nil)))
	for _, watchers := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint(watchers), func(b *testing.B) { benchmarkWatch(b, st, watchers) })
	}
}
