//go:build lab

package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	ossignal "os/signal"
	"path/filepath"
	"runtime/pprof"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/agent/pause"
	"github.com/musterhq/muster/agent/runtime/sim"
	"github.com/musterhq/muster/cluster/join"
	"github.com/musterhq/muster/cluster/roster"
)

// What is measured.
const (
	idleVoters = 3
	idleFor    = time.Minute
	joins      = 16 // at once
	wave       = 50 // hosts that begin to live at once: to shake hands is dear, and these are all on one machine
)

// idleHosts is 1,000 or what MUSTER_IDLE_HOSTS says.
func idleHosts(t *testing.T) int {
	text := os.Getenv("MUSTER_IDLE_HOSTS")
	if text == "" {
		return 1000
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

const (
	// voterEnv has this binary be a voter's musterd: the directory of its host.
	voterEnv = "MUSTER_IDLE_VOTER"
	// profilesEnv is a directory for CPU profiles of the minute that is measured, if the voters shall leave any.
	profilesEnv = "MUSTER_IDLE_PROFILES"
)

func init() {
	if root := os.Getenv(voterEnv); root != "" {
		if err := runVoter(root); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
}

func runVoter(root string) error {
	ctx, stop := ossignal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	run := func() error {
		return Run(ctx, Config{Root: root, Version: "test", Log: slog.New(slog.DiscardHandler)})
	}
	if dir := os.Getenv(profilesEnv); dir != "" {
		return profiled(filepath.Join(dir, fmt.Sprintf("voter-%d.pprof", os.Getpid())), run)
	}
	return run()
}

// profiled writes what the processors do from one SIGUSR1 to the next to a file.
func profiled(path string, run func() error) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	signals, end, done := make(chan os.Signal, 1), make(chan struct{}), make(chan error, 1)
	ossignal.Notify(signals, syscall.SIGUSR1)
	wait := func() {
		select {
		case <-signals:
		case <-end:
		}
	}
	go func() {
		wait()
		err := pprof.StartCPUProfile(f)
		wait()
		pprof.StopCPUProfile()
		done <- err
	}()
	err = run()
	close(end)
	return errors.Join(err, <-done, f.Close())
}

// TestIdle is `make bench-idle`. Three voters, each a process, keep a cluster of hosts that do nothing but live: real agents,
// which joined with tokens and have certificates, connections and sessions of their own, all in this process. It reports
// the processors that the voters use in a minute; promised is a tenth of one core for 1,000 hosts.
//
// On two idle cores, before hosts had lines: 17.2 %, and the hosts themselves 19.8 %; they join in 23 s. Where thirty other
// programs waited for the cores, which makes everything dearer: 8.3 % with 150 and 11.9 % with 400; without hosts, which is
// mostly raft's heartbeats and being woken for them, 6.7 %. Before, among five others: 14.0 % with 500 and 20.9 % with 1,000
// before hosts had lines. Among thirty: 11.9 % with 150 before signs of life came together and were passed on in one message,
// and 28.3 % with 250 before keep-alives stood for probes.
func TestIdle(t *testing.T) {
	o := newOperator(t)
	o.lease, o.log = 5*time.Second, slog.New(slog.DiscardHandler)
	hosts := idleHosts(t)
	var voters roster.Roster
	for n := range idleVoters {
		voters = append(voters, o.host(n+1, true))
	}
	pids := o.formProcesses(voters)
	c := o.client()
	o.await(time.Minute, func() error { return ready(t, c, idleVoters) })
	o.joinAll(c, voters, hosts)
	o.await(5*time.Minute, func() error { return ready(t, c, idleVoters+hosts) })
	if err := pause.For(t.Context(), 20*time.Second); err != nil { // until everybody has the roster
		t.Fatal(err)
	}
	t.Logf("%d hosts are idle", hosts)
	profile(t, pids)
	began, voted, lived := time.Now(), used(t, pids...), used(t, os.Getpid())
	if err := pause.For(t.Context(), idleFor); err != nil {
		t.Fatal(err)
	}
	profile(t, pids)
	share := func(of time.Duration) float64 { return 100 * of.Seconds() / time.Since(began).Seconds() }
	t.Logf("%d idle hosts: their voters use %.1f %% of one core, all together; the hosts themselves %.1f %%", hosts,
		share(used(t, pids...)-voted), share(used(t, os.Getpid())-lived))
	if err := ready(t, c, idleVoters+hosts); err != nil {
		t.Error(err)
	}
}

// profile has the voters begin, or end, to profile.
func profile(t *testing.T, pids []int) {
	if os.Getenv(profilesEnv) == "" {
		return
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGUSR1); err != nil {
			t.Fatal(err)
		}
	}
}

// ready checks that so many hosts are.
func ready(t *testing.T, c *api.Client, want int) error {
	s, err := c.Status(t.Context())
	if err != nil {
		return err
	}
	n := 0
	for _, h := range s.Hosts {
		if h.State == api.HostReady {
			n++
		}
	}
	if n != want || s.Voters.Healthy != idleVoters {
		return fmt.Errorf("%d of %d hosts are ready", n, want)
	}
	return nil
}

// formProcesses is form with a process for each host.
func (o *operator) formProcesses(hosts roster.Roster) (pids []int) {
	o.t.Helper()
	o.members = hosts
	for _, h := range hosts {
		secret, _ := join.NewToken()
		o.provide(h, secret, nil)
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), voterEnv+"="+o.roots[h.Name])
		if err := cmd.Start(); err != nil {
			o.t.Fatal(err)
		}
		o.t.Cleanup(func() {
			_ = cmd.Process.Signal(syscall.SIGTERM)
			_ = cmd.Wait()
		})
		pids = append(pids, cmd.Process.Pid)
	}
	o.admit(hosts)
	return pids
}

// joinAll lets all hosts join before any of them is at work, so that a thousand rosters are not followed by a thousand
// hosts, and then has all of them work.
func (o *operator) joinAll(c *api.Client, voters roster.Roster, count int) {
	o.t.Helper()
	var hosts roster.Roster
	var dial []string
	for _, v := range voters {
		dial = append(dial, v.APIAddress())
	}
	for n := range count {
		h := o.host(idleVoters+n+1, false)
		h.Address = fmt.Sprintf("127.%d.%d.%d", 201+n/40000, 1+n/250, 1+n%250)
		hosts = append(hosts, h)
	}
	began := time.Now()
	g, ctx := errgroup.WithContext(o.t.Context())
	g.SetLimit(joins)
	for _, h := range hosts {
		secret, sum := join.NewToken()
		asked := h
		asked.Address, asked.Ports = "", roster.Ports{}
		o.provide(h, secret, dial)
		g.Go(func() error {
			if err := c.AddToken(ctx, api.TokenRequest{Host: asked, TTL: 10 * time.Minute, Hash: sum}); err != nil {
				return err
			}
			return o.joinOnly(ctx, h)
		})
	}
	if err := g.Wait(); err != nil {
		o.t.Fatal(err)
	}
	o.t.Logf("%d hosts joined in %v", len(hosts), time.Since(began).Round(time.Second))
	for i, h := range hosts {
		o.live(h)
		if n := i + 1; n%wave == 0 {
			o.await(5*time.Minute, func() error { return ready(o.t, c, len(voters)+n) })
		}
	}
}

// joinOnly is the part of Run that joins.
func (o *operator) joinOnly(ctx context.Context, at roster.Host) error {
	return o.as(ctx, at, func(host, join.Storage, join.Identity, net.Listener) error { return nil })
}

// live has a host do everything that Run does, but for units, of which it has none.
func (o *operator) live(at roster.Host) {
	ctx, cancel := context.WithCancel(o.t.Context())
	done := make(chan error, 1)
	go func() {
		done <- o.as(ctx, at, func(h host, storage join.Storage, id join.Identity, l net.Listener) error {
			self, _ := id.Roster.ByID(h.HostID)
			a := &agent{
				host: h, self: self, id: id, storage: storage, facts: h.facts("test"), log: o.log, runtime: sim.New(time.Now),
				updater: newUpdater(h, "test", func(error) {}, o.log),
			}
			defer a.close()
			if err := errors.Join(a.openCredentials(ctx), a.openStore(ctx)); err != nil {
				return err
			}
			a.manage()
			return a.run(ctx, l)
		})
	}()
	o.t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			o.t.Errorf("%s: %v", at.Name, err)
		}
	})
}

// as does something as a host that has joined.
func (o *operator) as(ctx context.Context, at roster.Host, do func(host, join.Storage, join.Identity, net.Listener) error) error {
	root := o.roots[at.Name]
	h, err := boot(root, o.log)
	if err != nil {
		return err
	}
	storage, err := join.OpenStorage(root)
	if err != nil {
		return err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", at.APIAddress())
	if err != nil {
		return err
	}
	defer func() { _ = l.Close() }()
	id, err := identify(ctx, h, storage, l, h.facts("test"), o.log)
	if err != nil {
		return err
	}
	return do(h, storage, id, l)
}

// await is eventually with another patience.
func (o *operator) await(patience time.Duration, try func() error) {
	o.t.Helper()
	ctx, cancel := context.WithTimeout(o.t.Context(), patience)
	defer cancel()
	for {
		err := try()
		if err == nil {
			return
		}
		if pause.For(ctx, time.Second) != nil {
			o.t.Fatal(err)
		}
	}
}

// used is the processor time of processes so far: utime and stime of proc_pid_stat(5), in ticks of 10 ms.
func used(t *testing.T, pids ...int) (sum time.Duration) {
	t.Helper()
	for _, pid := range pids {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			t.Fatal(err)
		}
		fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+2:]))
		user, _ := strconv.Atoi(fields[11])
		system, _ := strconv.Atoi(fields[12])
		sum += time.Duration(user+system) * 10 * time.Millisecond
	}
	return sum
}
