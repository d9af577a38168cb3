package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/musterhq/muster/agent/fleet"
	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func id(n int) string { return fmt.Sprintf("%032x", n) }

func member(n int) roster.Host {
	return roster.Host{
		ID: id(n), Name: fmt.Sprintf("node-%d", n), Generation: 1, Provider: "cloud-a",
		Address: fmt.Sprintf("127.1.%d.%d", n/250, n%250+1), Ports: roster.DefaultPorts(), Voter: n <= 3,
	}
}

// cluster is a memory store with the records that tests put there.
type cluster struct {
	*store.Memory
	t *testing.T
}

func newCluster(t *testing.T) *cluster {
	c := &cluster{Memory: store.NewMemory(time.Now), t: t}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func write[T any](c *cluster, key string, marshal func(T) ([]byte, error), value T) {
	c.t.Helper()
	data, err := marshal(value)
	if err != nil {
		c.t.Fatal(err)
	}
	c.commit(store.Put(key, data))
}

func (c *cluster) commit(ops ...store.Op) {
	c.t.Helper()
	if _, err := c.Commit(c.t.Context(), store.Commit{Ops: ops}); err != nil {
		c.t.Fatal(err)
	}
}

// join makes a member that is alive.
func (c *cluster) join(hosts ...int) {
	c.t.Helper()
	for _, n := range hosts {
		write(c, store.RosterKey(id(n)), store.Marshal[store.RosterRecord], store.RosterRecord{Host: member(n)})
		write(c, store.HostKey(id(n)), store.Marshal[store.HostRecord], store.HostRecord{})
		write(c, store.AliveKey(id(n)), store.Marshal[store.Alive], store.Alive{})
	}
}

func (c *cluster) submit(name, rules string, desired store.Desired) {
	c.t.Helper()
	content := "[Service]\nExecStart=/bin/sleep 1\n" + rules
	data, err := store.Marshal(store.UnitRecord{File: store.FileSum([]byte(content)), Desired: desired})
	if err != nil {
		c.t.Fatal(err)
	}
	c.commit(store.Put(store.FileKey(store.FileSum([]byte(content))), []byte(content)), store.Put(store.UnitKey(name), data))
}

// placed is "unit@host" of everything that is scheduled, sorted.
func (c *cluster) placed() []string {
	c.t.Helper()
	v, err := fleet.Load(c.t.Context(), c, []string{store.PrefixSchedule}, false)
	if err != nil {
		c.t.Fatal(err)
	}
	var list []string
	for host, r := range v.Schedule {
		for u := range r.Record.Each() {
			list = append(list, fmt.Sprintf("%s@%d", u.Name, number(host)))
		}
	}
	slices.Sort(list)
	return list
}

func number(id string) (n int) {
	_, _ = fmt.Sscanf(id, "%x", &n)
	return n
}

// lead starts a scheduling leader over its own connection and returns how to end it.
func (c *cluster) lead(name string) (conn *store.MemoryClient, end func()) {
	c.t.Helper()
	conn = c.Client()
	s := &Scheduler{Store: conn, Log: quiet()}
	l := &Leader{
		Store: conn, Candidate: name, Log: quiet(),
		First:  func(context.Context, store.Guard) error { return nil },
		Duties: []Duty{s.Run},
	}
	ctx, cancel := context.WithCancel(c.t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	return conn, func() {
		c.t.Helper()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			c.t.Errorf("leader: %v", err)
		}
		_ = conn.Close()
	}
}

func (c *cluster) leader() string {
	c.t.Helper()
	v, err := fleet.Load(c.t.Context(), c, []string{store.PrefixLeader}, false)
	if err != nil {
		c.t.Fatal(err)
	}
	return v.Leader()
}

func (c *cluster) expect(what string, want ...string) {
	c.t.Helper()
	if got := c.placed(); !slices.Equal(got, want) {
		c.t.Errorf("%s: %v are scheduled, want %v", what, got, want)
	}
}

func TestScheduling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.join(1, 2)
		_, end := c.lead("node-1")
		defer end()
		c.submit("a.service", "", store.DesiredLaunched)
		c.submit("b.service", "", store.DesiredLoaded)
		c.submit("idle.service", "", store.DesiredInactive)
		time.Sleep(time.Second)
		c.expect("two units over two hosts", "a.service@1", "b.service@2")

		c.submit("c.service", "[X-Fleet]\nMachineMetadata=host=node-3\n", store.DesiredLaunched)
		time.Sleep(time.Second)
		c.expect("a unit that fits nowhere", "a.service@1", "b.service@2")

		c.join(3)
		time.Sleep(time.Second)
		c.expect("its host has come", "a.service@1", "b.service@2", "c.service@3")

		c.commit(store.Delete(store.UnitKey("a.service")))
		c.submit("b.service", "", store.DesiredInactive)
		time.Sleep(time.Second)
		c.expect("units that are not wanted any more", "c.service@3")
		item, err := c.Get(t.Context(), store.ScheduleKey(id(1)))
		if err != nil || item.ModRevision == 0 {
			t.Errorf("the record of a host without units is gone: %v; it says that the host shall have none", err)
		}
	})
}

// TestLostHost moves units when the alive record ends, and leaves those that fit nowhere else where they are.
func TestLostHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.join(1, 2)
		_, end := c.lead("node-1")
		defer end()
		c.submit("a.service", "", store.DesiredLaunched)
		time.Sleep(time.Second)
		c.submit("only2.service", "[X-Fleet]\nMachineMetadata=host=node-2\n", store.DesiredLaunched)
		time.Sleep(time.Second)
		c.submit("b.service", "", store.DesiredLaunched)
		time.Sleep(time.Second)
		c.expect("before", "a.service@1", "b.service@1", "only2.service@2")

		c.commit(store.Delete(store.AliveKey(id(1))))
		time.Sleep(Doubt + 100*time.Millisecond)
		c.expect("host 1 is lost", "a.service@2", "b.service@2", "only2.service@2")

		c.join(1)
		c.commit(store.Delete(store.AliveKey(id(2))))
		time.Sleep(Doubt + 100*time.Millisecond)
		c.expect("host 2 is lost, with a unit that fits nowhere else", "a.service@1", "b.service@1", "only2.service@2")

		c.join(2)
		time.Sleep(time.Second)
		c.expect("it is back", "a.service@1", "b.service@1", "only2.service@2")
	})
}

// TestHostLeaves removes the schedule of a host that is in the roster no more, and places its units anew.
func TestHostLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.join(1, 2)
		_, end := c.lead("node-1")
		defer end()
		c.submit("a.service", "", store.DesiredLaunched)
		time.Sleep(time.Second)
		c.expect("before", "a.service@1")
		c.commit(store.Delete(store.RosterKey(id(1))), store.Delete(store.AliveKey(id(1))))
		time.Sleep(time.Second)
		c.expect("after", "a.service@2")
		if item, err := c.Get(t.Context(), store.ScheduleKey(id(1))); err != nil || item.ModRevision != 0 {
			t.Errorf("its schedule is still there (%v)", err)
		}
	})
}

// TestFrozenLeader freezes the leader, lets another take over and wakes the first: nothing that it had in mind is
// written, and no unit is scheduled twice.
func TestFrozenLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.join(1, 2)
		first, endFirst := c.lead("node-1")
		defer endFirst()
		time.Sleep(time.Second)
		_, endSecond := c.lead("node-2")
		defer endSecond()
		time.Sleep(time.Second)
		if got := c.leader(); got != "node-1" {
			t.Fatalf("%s leads, want node-1", got)
		}

		first.Cut() // as when the process is stopped: nothing goes out, and nothing that comes is seen
		time.Sleep(sessionTTL + time.Second)
		if got := c.leader(); got != "node-2" {
			t.Fatalf("%s leads %v after the leader froze, want node-2", got, sessionTTL+time.Second)
		}
		c.submit("a.service", "", store.DesiredLaunched)
		time.Sleep(time.Second)
		before := c.placed()
		if len(before) != 1 {
			t.Fatalf("the second leader scheduled %v", before)
		}
		first.Heal()
		time.Sleep(10 * time.Second)
		if after := c.placed(); !slices.Equal(before, after) {
			t.Errorf("the first leader changed %v to %v", before, after)
		}
		if got := c.leader(); got != "node-2" {
			t.Errorf("%s leads, want node-2", got)
		}
	})
}

// TestFencedWrites has a leader that does not notice that its session is over: every write of its is refused.
func TestFencedWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.join(1)
		conn := c.Client()
		defer conn.Close()
		session, err := conn.NewSession(t.Context(), sessionTTL)
		if err != nil {
			t.Fatal(err)
		}
		lead, err := conn.Campaign(t.Context(), store.PrefixLeader, "node-1", session)
		if err != nil {
			t.Fatal(err)
		}
		fence := lead.Fence()
		conn.PauseSessions()
		time.Sleep(2 * sessionTTL)
		c.submit("a.service", "", store.DesiredLaunched)
		c.commit(store.Put(store.FileKey("unused"), []byte("x")))

		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		s := &Scheduler{Store: conn, Log: quiet()}
		if err := s.Run(ctx, fence); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Run: %v", err)
		}
		c.expect("a deposed leader")
		j := &Janitor{Store: conn, Now: time.Now, Log: quiet()}
		if err := j.Sweep(t.Context(), fence); !errors.Is(err, store.ErrConflict) {
			t.Errorf("Sweep: %v", err)
		}
		b := &Bootstrap{Store: conn, Cluster: store.Cluster{Name: "demo"}, Log: quiet()}
		if err := b.Run(t.Context(), fence); !errors.Is(err, store.ErrConflict) {
			t.Errorf("Bootstrap: %v", err)
		}
	})
}

// TestLeaderResigns ends a leader in good order: the next one need not wait for its session.
func TestLeaderResigns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		_, endFirst := c.lead("node-1")
		time.Sleep(time.Second)
		_, endSecond := c.lead("node-2")
		defer endSecond()
		time.Sleep(time.Second)
		began := time.Now()
		endFirst()
		synctest.Wait()
		if got := c.leader(); got != "node-2" || time.Since(began) > 0 {
			t.Errorf("%s leads after %v, want node-2 at once", got, time.Since(began))
		}
	})
}

// TestStoreAway takes the quorum away and gives it back; scheduling goes on by itself.
func TestStoreAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.join(1)
		_, end := c.lead("node-1")
		defer end()
		c.submit("a.service", "", store.DesiredLaunched)
		time.Sleep(time.Second)
		c.SetQuorum(false)
		time.Sleep(time.Minute)
		c.SetQuorum(true)
		c.submit("b.service", "", store.DesiredLaunched)
		time.Sleep(5 * time.Second)
		c.expect("after a minute without quorum", "a.service@1", "b.service@1")
	})
}

// TestLostAnswer loses the answer to the commit of a schedule: what was written is found, and nothing is done twice.
func TestLostAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.join(1, 2)
		conn, end := c.lead("node-1")
		defer end()
		time.Sleep(time.Second)
		conn.LoseAnswer()
		c.submit("a.service", "", store.DesiredLaunched)
		time.Sleep(5 * time.Second)
		if got := c.placed(); len(got) != 1 {
			t.Errorf("scheduled %v", got)
		}
	})
}

// TestDuplicates finds a unit in the schedules of two hosts, as a leader that was cut short between two commits leaves it:
// the host that lives keeps it.
func TestDuplicates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.join(1, 2, 3)
		c.commit(store.Delete(store.AliveKey(id(3))))
		c.submit("a.service", "", store.DesiredLaunched)
		file := store.FileSum([]byte("[Service]\nExecStart=/bin/sleep 1\n"))
		for _, n := range []int{2, 3} {
			write(c, store.ScheduleKey(id(n)), store.Marshal[store.ScheduleRecord], store.ScheduleRecord{
				Units: []store.ScheduledUnit{{Name: "a.service", File: file, Desired: store.DesiredLaunched}},
			})
		}
		_, end := c.lead("node-1")
		defer end()
		time.Sleep(Doubt + time.Second)
		c.expect("after", "a.service@2")
	})
}

// TestStaleSchedule writes from a view in which a record is older than it is by now.
func TestStaleSchedule(t *testing.T) {
	c := newCluster(t)
	c.join(1)
	record := store.ScheduleRecord{Units: []store.ScheduledUnit{}}
	write(c, store.ScheduleKey(id(1)), store.Marshal[store.ScheduleRecord], record)
	fence := store.Guard{Key: "/muster/leader/none", Kind: store.GuardCreateRevision}
	s := &schedulerRound{Scheduler: &Scheduler{Store: c, Log: quiet()}, fence: fence, unseen: map[string]change{}}
	for name, ch := range map[string]change{
		"new":     {host: id(1), parts: []part{{record: record}}},
		"changed": {host: id(1), parts: []part{{revision: 1, record: record}}},
		"gone":    {host: id(1), parts: []part{{revision: 1}}, gone: true},
	} {
		if _, err := s.write(t.Context(), []change{ch}); !errors.Is(err, store.ErrConflict) {
			t.Errorf("%s: %v, want a conflict", name, err)
		}
	}
}

// TestManyHosts schedules over more hosts than fit into one commit.
func TestManyHosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		const hosts = 300
		for n := range hosts {
			c.join(n + 1)
			c.submit(fmt.Sprintf("u%03d.service", n), "", store.DesiredLaunched)
		}
		_, end := c.lead("node-1")
		defer end()
		time.Sleep(time.Second)
		used := map[string]bool{}
		for _, p := range c.placed() {
			_, host, _ := strings.Cut(p, "@")
			used[host] = true
		}
		if len(used) != hosts {
			t.Errorf("%d units over %d hosts use %d", hosts, hosts, len(used))
		}
	})
}

// TestUnreadable keeps units whose record a newer muster wrote where they are, and schedules nothing while a host's
// record cannot be read.
func TestUnreadable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.join(1)
		_, end := c.lead("node-1")
		defer end()
		c.submit("a.service", "", store.DesiredLaunched)
		time.Sleep(time.Second)
		c.commit(store.Put(store.UnitKey("a.service"), []byte(`{"v":2}`)))
		c.submit("b.service", "", store.DesiredLaunched)
		time.Sleep(time.Second)
		c.expect("a unit of a newer version", "a.service@1", "b.service@1")

		c.commit(store.Put(store.RosterKey(id(1)), []byte(`{"v":2}`)))
		c.submit("c.service", "", store.DesiredLaunched)
		time.Sleep(time.Minute)
		c.expect("a host of a newer version", "a.service@1", "b.service@1")
		c.join(1)
		time.Sleep(5 * time.Second)
		c.expect("it can be read again", "a.service@1", "b.service@1", "c.service@1")
	})
}

func TestSweep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.join(1)
		c.submit("a.service", "", store.DesiredInactive)
		c.commit(store.Put(store.FileKey("unused"), []byte("x")), store.Put(store.FileKey("scheduled"), []byte("y")))
		write(c, store.ScheduleKey(id(1)), store.Marshal[store.ScheduleRecord],
			store.ScheduleRecord{Units: []store.ScheduledUnit{{Name: "b.service", File: "scheduled"}}})
		write(c, store.StatesKey(id(9)), store.Marshal[store.StatesRecord], store.StatesRecord{})
		write(c, store.HostKey(id(9)), store.Marshal[store.HostRecord], store.HostRecord{})
		write(c, store.AliveKey(id(9)), store.Marshal[store.Alive], store.Alive{})
		write(c, store.OrderKey(id(9)), store.Marshal[store.OrderRecord], store.OrderRecord{Order: store.OrderCordon})
		write(c, store.OrderKey(id(1)), store.Marshal[store.OrderRecord], store.OrderRecord{Order: store.OrderCordon})
		write(c, store.TokenKey("old"), store.Marshal[store.Token], store.Token{Expires: time.Now().Add(-time.Second)})
		write(c, store.TokenKey("new"), store.Marshal[store.Token], store.Token{Expires: time.Now().Add(time.Hour)})
		before := keys(c)

		j := &Janitor{Store: c, Now: time.Now, Log: quiet()}
		fence := store.Guard{Key: "/muster/leader/none", Kind: store.GuardCreateRevision}
		if err := j.Sweep(t.Context(), fence); err != nil {
			t.Fatal(err)
		}
		var gone []string
		for _, key := range before {
			if !slices.Contains(keys(c), key) {
				gone = append(gone, key)
			}
		}
		want := []string{
			store.AliveKey(id(9)), store.FileKey("unused"), store.HostKey(id(9)), store.OrderKey(id(9)), store.StatesKey(id(9)),
			store.TokenKey("old"),
		}
		if !slices.Equal(gone, want) {
			t.Errorf("removed %v, want %v", gone, want)
		}
	})
}

func keys(c *cluster) []string {
	c.t.Helper()
	view, err := c.Range(c.t.Context(), store.Prefix)
	if err != nil {
		c.t.Fatal(err)
	}
	var list []string
	for _, item := range view.Items {
		list = append(list, item.Key)
	}
	return list
}

func TestBootstrap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		var members roster.Roster
		for n := range 200 {
			members = append(members, member(n+1))
		}
		b := &Bootstrap{Store: c, Cluster: store.Cluster{ID: "c", Name: "demo", LeaseMillis: 5000}, Roster: members, Log: quiet()}
		fence := store.Guard{Key: "/muster/leader/none", Kind: store.GuardCreateRevision}
		if err := b.Run(t.Context(), fence); err != nil {
			t.Fatal(err)
		}
		if got := len(keys(c)); got != 201 {
			t.Errorf("%d records, want 201", got)
		}
		c.commit(store.Delete(store.RosterKey(id(7))))
		if err := b.Run(t.Context(), fence); err != nil {
			t.Fatal(err)
		}
		if got := len(keys(c)); got != 200 {
			t.Errorf("%d records after a host left: it has come back", got)
		}
	})
}
