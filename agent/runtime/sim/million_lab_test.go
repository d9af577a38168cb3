//go:build lab

package sim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/musterhq/muster/agent/control"
	"github.com/musterhq/muster/agent/fleet"
	"github.com/musterhq/muster/agent/schedule"
	"github.com/musterhq/muster/cluster/store"
)

// What is measured.
const (
	manyHosts     = 5000
	manyInstances = 1_000_000
	perHost       = manyInstances / manyHosts
	voters        = 3
	connections   = 8 // that the simulated hosts share
)

// memberEnv has this binary be one member of etcd: NAME CLIENT-PORT PEER-PORT DIR CLUSTER.
const memberEnv = "MUSTER_SIM_MEMBER"

func init() {
	if spec := os.Getenv(memberEnv); spec != "" {
		if err := serveMember(strings.Fields(spec)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
}

// serveMember runs a member, as cluster/voter tunes it but without TLS, until standard input ends.
func serveMember(spec []string) error {
	at := func(port string) []url.URL { return []url.URL{{Scheme: "http", Host: "127.0.0.1:" + port}} }
	cfg := embed.NewConfig()
	cfg.Name, cfg.Dir, cfg.InitialCluster = spec[0], spec[3], spec[4]
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = at(spec[1]), at(spec[1])
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = at(spec[2]), at(spec[2])
	cfg.SnapshotCount, cfg.SnapshotCatchUpEntries = 5000, 1000
	cfg.QuotaBackendBytes = 8 << 30
	cfg.GRPCAdditionalServerOptions = []grpc.ServerOption{
		grpc.StaticStreamWindowSize(store.StreamWindow), grpc.StaticConnWindowSize(store.ConnWindow),
	}
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	server, err := embed.StartEtcd(cfg)
	if err != nil {
		return err
	}
	defer server.Close()
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// etcd is three members, each a process.
type etcd struct {
	endpoints []string
	pids      []int
}

func startEtcd(tb testing.TB) *etcd {
	tb.Helper()
	ports := freePorts(tb, 2*voters)
	var cluster []string
	for i := range voters {
		cluster = append(cluster, fmt.Sprintf("m%d=http://127.0.0.1:%s", i, ports[2*i+1]))
	}
	e := &etcd{}
	dir := tb.TempDir()
	for i := range voters {
		name := fmt.Sprintf("m%d", i)
		spec := []string{name, ports[2*i], ports[2*i+1], filepath.Join(dir, name), strings.Join(cluster, ",")}
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), memberEnv+"="+strings.Join(spec, " "))
		cmd.Stderr = os.Stderr
		stdin, err := cmd.StdinPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(func() {
			_ = stdin.Close()
			_ = cmd.Wait()
		})
		e.endpoints = append(e.endpoints, "http://127.0.0.1:"+ports[2*i])
		e.pids = append(e.pids, cmd.Process.Pid)
	}
	return e
}

func freePorts(tb testing.TB, n int) []string {
	tb.Helper()
	var ports []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			tb.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		_, port, _ := net.SplitHostPort(l.Addr().String())
		ports = append(ports, port)
	}
	return ports
}

func (e *etcd) dial(tb testing.TB) store.Store {
	tb.Helper()
	s, err := store.DialEtcd(tb.Context(), store.EtcdConfig{Endpoints: e.endpoints, Log: quiet(), Timeout: time.Minute})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = s.Close() })
	return s
}

// used is the processor time of a process so far: utime and stime of proc_pid_stat(5), in ticks of 10 ms.
func used(tb testing.TB, pid int) time.Duration {
	tb.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		tb.Fatal(err)
	}
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+2:]))
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

// resident is a process's memory, in MiB: VmHWM of proc_pid_status(5), its greatest so far.
func resident(tb testing.TB, pid int) int {
	tb.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		tb.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), "VmHWM:")
	kib, _ := strconv.Atoi(strings.Fields(rest)[0])
	return kib >> 10
}

// watch is a stopwatch of the clock and of processors, those of this process and of etcd's members.
type watch struct {
	tb           testing.TB
	etcd         *etcd
	began        time.Time
	ours, theirs time.Duration
}

func (e *etcd) watch(tb testing.TB) watch {
	w := watch{tb: tb, etcd: e, began: time.Now(), ours: used(tb, os.Getpid())}
	for _, pid := range e.pids {
		w.theirs += used(tb, pid)
	}
	return w
}

func (w watch) report(what string) (wall time.Duration) {
	w.tb.Helper()
	wall = time.Since(w.began)
	now := w.etcd.watch(w.tb)
	w.tb.Logf("%-46s %8.2f s wall, %6.2f s of processors: %.2f s here, %.2f s etcd's members", what, wall.Seconds(),
		(now.ours - w.ours + now.theirs - w.theirs).Seconds(), (now.ours - w.ours).Seconds(), (now.theirs - w.theirs).Seconds())
	return wall
}

// TestMillion is `make bench-million`. It places a million instances of four templates on 5,000 simulated hosts through a
// real etcd of three members, and waits until every host has said that they run. It reports that, placement alone,
// persistence alone, what a change of one template costs, how soon the instances of a host that dies are placed again, and
// what a bare loop costs that writes as many records.
//
// On two idle cores: 6.2 s, 11.0 s of processors, 1.9 times what placement and the bare loop took; a dead host's instances 147 ms
// after its lease, 10,000 distinct units at 23,000 a second, 610 MiB. Where a dozen other programs wanted the cores too: 15.2 s.
func TestMillion(t *testing.T) {
	members := members(manyHosts)
	e := startEtcd(t)
	operator := e.dial(t)
	enrol(t, operator, members)
	ctx, cancel := context.WithCancel(t.Context())
	g, ctx := errgroup.WithContext(ctx)
	defer func() {
		if cancel(); !errors.Is(g.Wait(), context.Canceled) {
			t.Error(g.Wait())
		}
	}()
	var stores []store.Store
	for range connections {
		stores = append(stores, e.dial(t))
	}
	hosts, err := NewFleet(Config{Stores: stores, Hosts: members, Facts: facts, Lease: time.Minute, Now: time.Now, Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	fleetCtx, endFleet := context.WithCancel(ctx)
	fleetDone := make(chan error, 1)
	go func() { fleetDone <- hosts.Run(fleetCtx) }()
	await(t, operator, store.PrefixAlive, func(v *store.Tables) bool { return len(v.Alive) == manyHosts })

	leader := e.dial(t)
	scheduler := &control.Scheduler{Store: leader, Log: quiet()}
	g.Go(func() error { return scheduler.Run(ctx, unfenced) })
	whole := placeAndRun(t, e, operator)

	endFleet()
	if err := <-fleetDone; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	alone := placement(t, e, operator)
	persistence(t, e, operator)
	failover(t, e, operator, members[4711].ID)
	alone += bareLoop(t, e, stores)
	t.Logf("%-46s %8.1f times what placement and the bare loop take", "the whole way takes", whole.Seconds()/alone.Seconds())
	t.Logf("%-46s %8d MiB here, of the leader and all hosts", "the most memory", resident(t, os.Getpid()))
	for _, pid := range e.pids {
		t.Logf("%-46s %8d MiB", "  of a member of etcd", resident(t, pid))
	}
}

// TestDistinct places 10,000 units of different names on 1,000 simulated hosts, and reports how many a second are
// persisted.
func TestDistinct(t *testing.T) {
	const hosts, units = 1000, 10_000
	e := startEtcd(t)
	operator := e.dial(t)
	enrol(t, operator, members(hosts))
	fleet, err := NewFleet(Config{
		Stores: []store.Store{e.dial(t)}, Hosts: members(hosts), Facts: facts, Lease: time.Minute, Now: time.Now, Log: quiet(),
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range fleet.shards {
		session, err := s.store.NewSession(t.Context(), time.Minute)
		if err == nil {
			err = s.join(t.Context(), session.ID())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	var ops []store.Op
	for n := range units {
		content := fmt.Sprintf("[Service]\nExecStart=/bin/unit %d\n", n)
		sum := store.FileSum([]byte(content))
		record, err := store.Marshal(store.UnitRecord{File: sum, Desired: store.DesiredLaunched})
		if err != nil {
			t.Fatal(err)
		}
		ops = append(ops, store.Put(store.FileKey(sum), []byte(content)),
			store.Put(store.UnitKey(fmt.Sprintf("unit-%05d.service", n)), record))
	}
	commit(t, operator, ops...)

	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	w := e.watch(t)
	scheduler := &control.Scheduler{Store: e.dial(t), Log: quiet()}
	go func() { done <- scheduler.Run(ctx, unfenced) }()
	await(t, operator, store.PrefixSchedule, func(v *store.Tables) bool {
		placed := 0
		for _, entry := range v.Schedule {
			placed += len(entry.Record.Units)
		}
		return placed == units
	})
	t.Logf("%-46s %8.0f a second", "10,000 distinct units placed and persisted", units/time.Since(w.began).Seconds())
	w.report("  from reading all records to the last commit")
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// glance is how often records are looked at: after each of thousands of commits, looking would be most of what is measured.
var glance = store.Pace{Settle: 2 * time.Millisecond, Bound: 10 * time.Millisecond}

// await follows records until they are as they should be.
func await(tb testing.TB, s store.Store, prefix string, done func(*store.Tables) bool) {
	tb.Helper()
	enough := errors.New("enough")
	err := store.Follow(tb.Context(), s, []string{prefix}, glance, func(v *store.Tables) error {
		if done(v) {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) {
		tb.Fatal(err)
	}
}

// placeAndRun is the whole way: from the operator's commit until the last host has reported.
func placeAndRun(t *testing.T, e *etcd, operator store.Store) (wall time.Duration) {
	var persisted atomic.Int64
	w := e.watch(t)
	go func() {
		await(t, operator, store.PrefixSchedule, func(v *store.Tables) bool { return len(v.Schedule) == manyHosts })
		persisted.Store(int64(time.Since(w.began)))
	}()
	commit(t, operator, submit(t, mix(manyInstances), store.DesiredLaunched)...)
	revisions := make(map[string]int64)
	running, on := 0, make(map[string]int)
	await(t, operator, store.PrefixStates, func(v *store.Tables) bool {
		for id, entry := range v.States {
			if revisions[id] != entry.Revision {
				running += active(entry.Record) - on[id]
				revisions[id], on[id] = entry.Revision, active(entry.Record)
			}
		}
		return running == manyInstances
	})
	wall = w.report("placed, persisted and acknowledged by all hosts")
	t.Logf("%-46s %8.2f s wall after the operator's commit", "  of that: every schedule is written", time.Duration(persisted.Load()).Seconds())
	sizes(t, operator)
	return wall
}

// sizes tells how large records are.
func sizes(t *testing.T, s store.Store) {
	for _, prefix := range []string{store.PrefixUnits, store.PrefixSchedule, store.PrefixStates} {
		view, err := s.Range(t.Context(), prefix)
		if err != nil {
			t.Fatal(err)
		}
		total, most := 0, 0
		for _, item := range view.Items {
			total, most = total+len(item.Value), max(most, len(item.Value))
		}
		t.Logf("  %-44s %8d records of %d bytes on average, %d at most", prefix, len(view.Items), total/len(view.Items), most)
	}
}

// placement decides on everything without writing anything.
func placement(t *testing.T, e *etcd, s store.Store) (wall time.Duration) {
	prefixes := []string{store.PrefixUnits, store.PrefixAlive, store.PrefixHosts, store.PrefixRoster}
	v, err := fleet.Load(t.Context(), s, prefixes, false)
	if err != nil {
		t.Fatal(err)
	}
	rules := fleet.NewRules()
	of, err := rules.Of(t.Context(), s, v)
	if err != nil {
		t.Fatal(err)
	}
	w := e.watch(t)
	snapshot := v.Snapshot(of, time.Now())
	after := schedule.After(snapshot, schedule.Decide(snapshot))
	records := v.Schedules(after, schedule.GlobalHosts(after), rules.SameRun, nil)
	wall = w.report("placement alone")
	if len(records) != manyHosts {
		t.Errorf("%d hosts have a schedule", len(records))
	}
	return wall
}

// bareLoop writes as many records as there are hosts, each of 20 kB, as fast as etcd takes them: what a program costs that
// does nothing else, and knows no better than one record a host.
func bareLoop(t *testing.T, e *etcd, stores []store.Store) (wall time.Duration) {
	const size = 20_000
	w := e.watch(t)
	g, ctx := errgroup.WithContext(t.Context())
	for n := range shards {
		g.Go(func() error {
			value := bytes.Repeat([]byte{'x'}, size)
			for i := n; i < manyHosts; i += shards {
				put := store.Put(fmt.Sprintf("/bare/%d", i), value)
				if _, err := stores[n%len(stores)].Commit(ctx, store.Commit{Ops: []store.Op{put}}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	return w.report("a bare loop that writes 5,000 records of 20 kB")
}

// persistence has every host's schedule written anew, while no host follows it.
func persistence(t *testing.T, e *etcd, s store.Store) {
	w := e.watch(t)
	commit(t, s, submit(t, mix(manyInstances), store.DesiredLoaded)...)
	revisions := make(map[string]int64)
	await(t, s, store.PrefixSchedule, func(v *store.Tables) bool {
		for id, entry := range v.Schedule {
			if entry.Record.Units[0].Desired == store.DesiredLoaded {
				revisions[id] = entry.Revision
			}
		}
		return len(revisions) == manyHosts
	})
	w.report("persistence alone: every schedule written anew")
}

// failover ends a host's session. The scheduler doubts that for a second, which belongs to the lease.
func failover(t *testing.T, e *etcd, s store.Store, id string) {
	w := e.watch(t)
	commit(t, s, store.Delete(store.AliveKey(id)))
	await(t, s, store.PrefixSchedule, func(v *store.Tables) bool {
		elsewhere := 0
		for host, entry := range v.Schedule {
			for _, u := range entry.Record.Units {
				if host != id {
					elsewhere += u.Instances.Len()
				}
			}
		}
		return elsewhere == manyInstances
	})
	wall := time.Since(w.began)
	t.Logf("%-46s %8.0f ms after its lease", fmt.Sprintf("a host died: its %d instances are placed again", perHost),
		float64((wall-control.Doubt).Microseconds())/1000)
	w.report("  with the doubt before")
}
