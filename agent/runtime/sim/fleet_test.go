package sim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"

	"github.com/musterhq/muster/agent/control"
	"github.com/musterhq/muster/agent/runtime"
	"github.com/musterhq/muster/cluster/instances"
	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/store"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// members are so many hosts over four providers, and racks of 40.
func members(n int) []roster.Host {
	hosts := make([]roster.Host, n)
	for i := range hosts {
		hosts[i] = roster.Host{
			ID: fmt.Sprintf("%032x", i+1), Name: fmt.Sprintf("host-%05d", i), Generation: 1, Ports: roster.DefaultPorts(),
			Provider: fmt.Sprintf("cloud-%d", i%4), Address: fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255),
			Labels: map[string]string{"rack": fmt.Sprint(i / 40)},
		}
	}
	return hosts
}

// facts are those of a host of 64 CPUs and 256 GB.
var facts = roster.Facts{OS: "linux", Architecture: "amd64", CPUs: 64, MemoryBytes: 256 << 30}

// template is a unit file and how many instances of it there are.
type template struct {
	name, rules string
	replicas    int
}

// mix is four templates: one without rules, one spread over racks, one spread over hosts, one with reservations.
func mix(replicas int) []template {
	return []template{
		{"web0@.service", "", replicas / 4},
		{"web1@.service", "Spread=rack\n", replicas / 4},
		{"web2@.service", "Spread=host\nPriority=5\n", replicas / 4},
		{"web3@.service", "CPU=0.1\nMemory=256M\n", replicas / 4},
	}
}

// submit is the writes with which an operator starts templates.
func submit(tb testing.TB, templates []template, desired store.Desired) []store.Op {
	tb.Helper()
	var ops []store.Op
	for _, t := range templates {
		content := fmt.Sprintf("[Service]\nExecStart=/bin/web\n[X-Muster]\nReplicas=%d\n%s", t.replicas, t.rules)
		sum := store.FileSum([]byte(content))
		record, err := store.Marshal(store.UnitRecord{File: sum, Desired: desired, Replicated: true, Replicas: t.replicas})
		if err != nil {
			tb.Fatal(err)
		}
		ops = append(ops, store.Put(store.FileKey(sum), []byte(content)), store.Put(store.UnitKey(t.name), record))
	}
	return ops
}

// enrol writes hosts into the roster.
func enrol(tb testing.TB, s store.Store, hosts []roster.Host) {
	tb.Helper()
	var ops []store.Op
	for _, h := range hosts {
		record, err := store.Marshal(store.RosterRecord{Host: h})
		if err != nil {
			tb.Fatal(err)
		}
		ops = append(ops, store.Put(store.RosterKey(h.ID), record))
	}
	commit(tb, s, ops...)
}

// commit writes in as many commits as it takes.
func commit(tb testing.TB, s store.Store, ops ...store.Op) {
	tb.Helper()
	for len(ops) > 0 {
		n := min(len(ops), store.MaxOps)
		if _, err := s.Commit(tb.Context(), store.Commit{Ops: ops[:n]}); err != nil {
			tb.Fatal(err)
		}
		ops = ops[n:]
	}
}

// unfenced is a guard that always holds.
var unfenced = store.Guard{Key: "/muster/leader/none", Kind: store.GuardCreateRevision}

// active counts the instances that hosts report as active.
func active(r store.StatesRecord) int {
	n := 0
	for _, u := range r.Units {
		switch {
		case u.Active != "active":
		case u.Instances == nil:
			n++
		default:
			n += u.Instances.Len()
		}
	}
	return n
}

// TestFleet places, runs and reports 4,000 instances on 100 hosts, and those of a host that is lost elsewhere.
func TestFleet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const hosts, replicas = 100, 4000
		memory := store.NewMemory(time.Now)
		defer func() { _ = memory.Close() }()
		var clients []store.Store
		for range 3 {
			client := memory.Client()
			defer func() { _ = client.Close() }()
			clients = append(clients, client)
		}
		enrol(t, memory, members(hosts))
		fleet, err := NewFleet(Config{
			Stores: clients[1:], Hosts: members(hosts), Facts: facts,
			Lease: 5 * time.Second, Now: time.Now, Log: quiet(),
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		g, ctx := errgroup.WithContext(ctx)
		g.Go(func() error { return fleet.Run(ctx) })
		scheduler := &control.Scheduler{Store: clients[0], Log: quiet()}
		g.Go(func() error { return scheduler.Run(ctx, unfenced) })
		time.Sleep(time.Second)
		commit(t, memory, submit(t, mix(replicas), store.DesiredLaunched)...)
		time.Sleep(time.Second)
		expect(t, memory, "begun", hosts, replicas)

		lost := members(hosts)[7].ID
		commit(t, memory, store.Delete(store.AliveKey(lost)))
		time.Sleep(control.Doubt + time.Second)
		expect(t, memory, "after a host was lost", hosts-1, replicas)
		cancel()
		if err := g.Wait(); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// expect looks at what hosts report, and how many of them run anything.
func expect(t *testing.T, s store.Store, when string, hosts, instances int) {
	t.Helper()
	view, err := s.Range(t.Context(), store.PrefixStates)
	if err != nil {
		t.Fatal(err)
	}
	busy, running := 0, 0
	for _, item := range view.Items {
		r, err := store.Unmarshal[store.StatesRecord](item.Value)
		if err != nil {
			t.Fatal(err)
		}
		if n := active(r); n > 0 {
			busy, running = busy+1, running+n
		}
	}
	if busy != hosts || running != instances {
		t.Errorf("%s: %d instances run on %d hosts, want %d on %d", when, running, busy, instances, hosts)
	}
}

func TestRuntime(t *testing.T) {
	ctx := t.Context()
	r := New(func() time.Time { return time.Unix(1, 0) })
	if err := r.Start(ctx, "a.service"); !errors.Is(err, runtime.ErrNotLoaded) {
		t.Errorf("start of what is not loaded: %v", err)
	}
	name := instances.Name("web@.service", 1)
	for _, step := range []struct {
		do   func() error
		want string
	}{
		{func() error { return r.Load(ctx, runtime.Unit{Name: name, Hash: "1"}) }, "inactive 1 "},
		{func() error { return r.Start(ctx, name) }, "active 1 1"},
		{func() error { return r.Load(ctx, runtime.Unit{Name: name, Hash: "2"}) }, "active 2 1"},
		{func() error { return r.Fail(name, "exit status 1") }, "failed 2 "},
		{func() error { return r.Start(ctx, name) }, "active 2 2"},
		{func() error { return r.Stop(ctx, name) }, "inactive 2 "},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		list, err := r.List(ctx)
		if err != nil || len(list) != 1 {
			t.Fatalf("%v, %v", list, err)
		}
		if got := fmt.Sprintf("%s %s %s", list[0].Active, list[0].Hash, list[0].RunningHash); got != step.want {
			t.Errorf("%q, want %q", got, step.want)
		}
		<-r.Changed()
	}
	if err := r.Start(ctx, name); err != nil {
		t.Fatal(err)
	}
	if err := r.Unload(ctx, name); !errors.Is(err, runtime.ErrActive) {
		t.Errorf("unload of what runs: %v", err)
	}
	if err := r.Logs(ctx, name, runtime.LogQuery{Lines: 1}, nil); err != nil {
		t.Error(err)
	}
	if err := errors.Join(r.Stop(ctx, name), r.Unload(ctx, name), r.Close()); err != nil {
		t.Error(err)
	}
	if err := r.Logs(ctx, name, runtime.LogQuery{Lines: 1}, nil); !errors.Is(err, runtime.ErrNotLoaded) {
		t.Errorf("logs of what is not loaded: %v", err)
	}
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
