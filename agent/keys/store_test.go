package keys

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"github.com/musterhq/muster/agent/keys/keystest"
)

// startStore runs a host's store until the end of the test or until stop.
func startStore(tb testing.TB, cfg Config) (s *Store, stop func()) {
	tb.Helper()
	s = New(cfg)
	ctx, cancel := context.WithCancel(context.WithoutCancel(tb.Context()))
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Run(ctx) })
	stop = func() { cancel(); wg.Wait() }
	tb.Cleanup(stop)
	ready, giveUp := context.WithTimeout(ctx, 30*time.Second)
	defer giveUp()
	if err := s.Sync(ready); err != nil {
		tb.Fatal(err)
	}
	return s, stop
}

func do(t *testing.T, s *Store, w Write) Event {
	t.Helper()
	e, err := s.Do(t.Context(), w)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func code(err error) int {
	var refusal *Error
	if errors.As(err, &refusal) {
		return refusal.Code
	}
	return 0
}

func next(t *testing.T, w *Watcher) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	e, err := w.Next(ctx)
	if err != nil {
		t.Fatal(err)
	}
	text := e.Action + " " + e.Node.Key + " " + e.Node.Value
	if e.PrevNode != nil {
		text += " after " + e.PrevNode.Value
	}
	return text
}

func expect(t *testing.T, w *Watcher, want ...string) {
	t.Helper()
	for _, want := range want {
		if got := next(t, w); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestVersion3 writes with a plain client of version 3, and watches with version 2.
func TestVersion3(t *testing.T) {
	etcd := keystest.Start(t, "")
	s, _ := startStore(t, Config{Client: etcd.Client})
	w, err := s.Watch(t.Context(), "/", true, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	put := func(key, value string, opts ...clientv3.OpOption) {
		t.Helper()
		_, err := etcd.Client.Put(ctx, Values+key, value, opts...)
		must(err)
	}
	remove := func(key string, opts ...clientv3.OpOption) {
		t.Helper()
		_, err := etcd.Client.Delete(ctx, Values+key, opts...)
		must(err)
	}
	put("/a/b", "1")
	put("/a/b", "2")
	expect(t, w, "set /a/b 1", "set /a/b 2 after 1")
	do(t, s, Write{Key: "/a/b", Value: "3", PrevValue: "2"})
	put("/a/b", "4") // which is a set: it has a new index of creation
	expect(t, w, "compareAndSwap /a/b 3 after 2", "set /a/b 4 after 3")
	e, err := s.Get(ctx, Read{Key: "/a/b", Quorum: true})
	must(err)
	if e.Node.Created != e.Node.Modified || e.Node.Created != e.Index {
		t.Errorf("created at %d, modified at %d, now %d", e.Node.Created, e.Node.Modified, e.Index)
	}
	put("/a", "behind a directory")
	put("//a//b", "no path")
	put("/a/c", "5")
	remove("/a/", clientv3.WithPrefix())
	expect(t, w, "set /a/c 5", "delete /a/b  after 4", "delete /a/c  after 5")
	do(t, s, Write{Key: "/ttl", Value: "2", TTL: new(time.Second)})
	lease, err := etcd.Client.Grant(ctx, 2)
	must(err)
	put("/leased", "3", clientv3.WithLease(lease.ID))
	put("/removed", "4", clientv3.WithLease(lease.ID))
	remove("/removed")
	expect(t, w, "set /ttl 2", "set /leased 3", "set /removed 4", "delete /removed  after 4")
	ends := []string{next(t, w), next(t, w)}
	slices.Sort(ends)
	if !slices.Equal(ends, []string{"expire /leased  after 3", "expire /ttl  after 2"}) {
		t.Errorf("got %q", ends)
	}
}

// TestTwoHosts counts and queues through two hosts at once: nothing is lost, nothing is doubled, and the order in which files
// appear is that of their names.
func TestTwoHosts(t *testing.T) {
	etcd := keystest.Start(t, "")
	one, _ := startStore(t, Config{Client: etcd.Client})
	two, _ := startStore(t, Config{Client: etcd.Client})
	do(t, one, Write{Key: "/n", Value: "0"})
	if err := two.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	w, err := two.Watch(t.Context(), "/queue", true, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	const each, workers = 10, 4
	g, ctx := errgroup.WithContext(t.Context())
	for i := range workers {
		s := []*Store{one, two}[i%2]
		g.Go(func() error {
			for range each {
				if err := increment(ctx, s); err != nil {
					return err
				}
				if _, err := s.Do(ctx, Write{Kind: Post, Key: "/queue", Value: "job"}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	e, err := two.Get(t.Context(), Read{Key: "/n", Quorum: true})
	if err != nil || e.Node.Value != strconv.Itoa(each*workers) {
		t.Errorf("counted to %v, %v", e.Node, err)
	}
	last := ""
	for range each * workers {
		name := next(t, w)
		if name <= last {
			t.Errorf("%s came after %s", name, last)
		}
		last = name
	}
}

// increment adds one by compare-and-swap, as a client of version 2 does, from a read that may be old.
func increment(ctx context.Context, s *Store) error {
	for {
		e, err := s.Get(ctx, Read{Key: "/n"})
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(e.Node.Value)
		if err != nil {
			return err
		}
		_, err = s.Do(ctx, Write{Key: "/n", Value: strconv.Itoa(n + 1), PrevIndex: uint64(e.Node.Modified)})
		if code(err) != CodeCompare {
			return err
		}
	}
}

// TestRestart has another host come later: its tree is the same, and so is its history as far as the store has it.
func TestRestart(t *testing.T) {
	etcd := keystest.Start(t, "")
	s, stop := startStore(t, Config{Client: etcd.Client})
	do(t, s, Write{Key: "/d/f", Value: "1"})
	do(t, s, Write{Key: "/d/f", Value: "2", PrevExist: new(true)})
	do(t, s, Write{Key: "/d/empty", Dir: true})
	do(t, s, Write{Key: "/gone/f", Value: "1"})
	do(t, s, Write{Key: "/gone", Kind: Delete, Recursive: true})
	do(t, s, Write{Key: "/short/x", Value: "1"})
	do(t, s, Write{Key: "/short", PrevExist: new(true), TTL: new(time.Second)})
	want, err := s.Get(t.Context(), Read{Key: "/d", Recursive: true})
	if err != nil {
		t.Fatal(err)
	}
	stop() // before it could end /short, which the lease has to do
	later, stop := startStore(t, Config{Client: etcd.Client})
	got, err := later.Get(t.Context(), Read{Key: "/d", Recursive: true, Quorum: true})
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(flat(got.Node)) != fmt.Sprint(flat(want.Node)) {
		t.Errorf("got %v, want %v", flat(got.Node), flat(want.Node))
	}
	w, err := later.Watch(t.Context(), "/", true, 2)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, w, "set /d/f 1", "update /d/f 2 after 1", "set /d/empty ", "set /gone/f 1", "delete /gone  after ", "set /short/x 1",
		"update /short  after ", "expire /short  after ")
	w.Close()
	stop()
	if _, err := etcd.Client.Compact(t.Context(), later.State().Index); err != nil {
		t.Fatal(err)
	}
	last, _ := startStore(t, Config{Client: etcd.Client})
	if got, err = last.Get(t.Context(), Read{Key: "/d", Recursive: true}); err != nil || fmt.Sprint(flat(got.Node)) != fmt.Sprint(flat(want.Node)) {
		t.Errorf("got %v, %v", flat(got.Node), err)
	}
	if _, err := last.Watch(t.Context(), "/", true, 2); code(err) != CodeCleared {
		t.Errorf("the history was compacted, and yet: %v", err)
	}
}

func flat(n *Node) (all []string) {
	if n == nil {
		return nil
	}
	all = append(all, fmt.Sprint(n.Key, n.Value, n.Dir, n.Modified, n.Created))
	for _, child := range n.Nodes {
		all = append(all, flat(child)...)
	}
	return all
}

// TestTooBig fills a mirror: version 2 is refused, then, after version 3 went on, everything is, until there is less.
func TestTooBig(t *testing.T) {
	etcd := keystest.Start(t, "")
	s, _ := startStore(t, Config{Client: etcd.Client, Limit: 10_000, Timeout: 2 * time.Second})
	do(t, s, Write{Key: "/a", Value: string(make([]byte, 9_000))})
	if _, err := s.Do(t.Context(), Write{Key: "/b", Value: string(make([]byte, 9_000))}); code(err) != CodeRaft {
		t.Errorf("more than fits was taken: %v", err)
	}
	do(t, s, Write{Kind: Delete, Key: "/a"})
	if _, err := etcd.Client.Put(t.Context(), Values+"/c", string(make([]byte, 30_000))); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), Read{Key: "/", Quorum: true}); code(err) != CodeRaft {
		t.Errorf("the mirror holds too much: %v", err)
	}
	if s.State().Ready {
		t.Error("the mirror is still ready")
	}
}
