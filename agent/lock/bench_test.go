package lock

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/musterhq/muster/cluster/store"
)

// BenchmarkHandOver has 1,000 hosts reboot for no time, 20 at once, through three members of etcd that are processes and
// sync every write: all of them wait, each on its own key over one of eight connections, and give the lock back as soon as
// they have it. A hand-over is a place that goes from one host to the next; the figure to hold is 150 a second.
//
// On two idle cores it is 605 a second, and 2.7 ms of processor time of all four processes for one; 126 a second where the
// cores had a dozen other programs to serve.
func BenchmarkHandOver(b *testing.B) {
	const hosts, most, connections = 1000, 20, 8
	m := startMembers(b)
	leader := m.dial(b.Context(), false)
	var ids []string
	for n := range hosts {
		ids = append(ids, fmt.Sprintf("host-%04d", n))
	}
	if err := enrol(b.Context(), leader, ids); err != nil {
		b.Fatal(err)
	}
	k := &Keeper{Store: leader, Now: time.Now}
	if err := k.SetMax(b.Context(), group, most, "operator", ""); err != nil {
		b.Fatal(err)
	}
	var stores []store.Store
	for range connections {
		stores = append(stores, m.dial(b.Context(), false))
	}
	f := &fleet{most: most}
	for n, id := range ids {
		f.claims = append(f.claims, &Claim{Store: stores[n%connections], Host: id, Boot: "1"})
	}
	var used time.Duration
	b.ResetTimer()
	for range b.N {
		b.StopTimer()
		f.ask(b)
		before := m.used()
		b.StartTimer()
		f.rotate(b, leader)
		used += m.used() - before
	}
	b.ReportMetric(float64(b.N*hosts)/b.Elapsed().Seconds(), "handovers/s")
	b.ReportMetric(float64(used.Microseconds())/1000/float64(b.N*hosts), "cpu-ms/handover")
	if over := f.over.Load(); over > 0 {
		b.Fatalf("%d hosts had the lock at once, or more", over)
	}
}

// fleet is hosts that all have the lock once.
type fleet struct {
	claims    []*Claim
	tickets   []int64
	most      int64
	has, over atomic.Int64
}

// ask has every host wait.
func (f *fleet) ask(b *testing.B) {
	f.tickets = make([]int64, len(f.claims))
	g, ctx := errgroup.WithContext(b.Context())
	g.SetLimit(64)
	for n, c := range f.claims {
		g.Go(func() (err error) {
			f.tickets[n], err = c.Ask(ctx, group, "")
			return err
		})
	}
	if err := g.Wait(); err != nil {
		b.Fatal(err)
	}
}

// rotate returns when every host has had the lock.
func (f *fleet) rotate(b *testing.B, leader store.Store) {
	g, ctx := errgroup.WithContext(b.Context())
	leading, depose := context.WithCancel(ctx)
	answered := make(chan error, 1)
	go func() { answered <- answerAll(leading, leader) }()
	for n, c := range f.claims {
		g.Go(func() error { return f.take(ctx, c, f.tickets[n]) })
	}
	err := g.Wait()
	depose()
	if <-answered; err != nil {
		b.Fatal(err)
	}
}

// take waits for the lock and gives it back.
func (f *fleet) take(ctx context.Context, c *Claim, ticket int64) error {
	if err := c.Await(ctx, ticket); err != nil {
		return err
	}
	if n := f.has.Add(1); n > f.most {
		f.over.Store(n)
	}
	f.has.Add(-1)
	return c.Release(ctx, "")
}

// answerAll is the leader's part, as agent/control does it.
func answerAll(ctx context.Context, s store.Store) error {
	made := map[string]int64{}
	pace := store.Pace{Settle: time.Millisecond, Bound: 5 * time.Millisecond}
	return store.Follow(ctx, s, Prefixes, pace, func(t *store.Tables) (err error) {
		for group, revision := range made {
			if t.Locks[group].Revision < revision {
				return nil
			}
		}
		_, made, err = Answer(ctx, s, t, nil, anybody, time.Now())
		return err
	})
}

// used is the processor time of this process and of the members so far (proc_pid_stat(5), in ticks of 10 ms): on a machine
// that others use too it says more than the clock.
func (m *members) used() time.Duration {
	m.tb.Helper()
	var sum time.Duration
	pids := []int{os.Getpid()}
	for _, p := range m.live {
		pids = append(pids, p.cmd.Process.Pid)
	}
	for _, pid := range pids {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			m.tb.Skip("processor time is read from /proc: ", err)
		}
		_, rest, _ := strings.Cut(string(data), ") ")
		for _, ticks := range strings.Fields(rest)[11:13] {
			n, err := strconv.Atoi(ticks)
			if err != nil {
				m.tb.Fatal(err)
			}
			sum += time.Duration(n) * 10 * time.Millisecond
		}
	}
	return sum
}
