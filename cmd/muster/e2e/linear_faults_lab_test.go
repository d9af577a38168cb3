//go:build lab

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// brain is a cluster of hosts in network namespaces, of which the first three vote, and the ways to its keys. Its voters are
// killed, frozen and cut off from each other; nobody else is.
type brain struct {
	*cluster
	net     *spaces
	voters  []string
	doors   []*door           // of all hosts, in their order
	daemons map[string]daemon // musterd of each host
	members map[uint64]string // hosts by etcd's IDs of them
	frozen  map[string]bool
	runs    int
	wg      sync.WaitGroup // waits for what was started again
}

// daemon is a host's musterd, and what it takes to start it again.
type daemon struct {
	pid     int
	command []string
	env     []string
}

// newBrain makes the cluster; settings go into its file.
func newBrain(t testing.TB, hosts int, settings string) *brain {
	t.Helper()
	var names []string
	for n := range hosts {
		names = append(names, fmt.Sprintf("node-%d", n+1))
	}
	net := newSpaces(t, names...)
	musterd := net.musterd(t.TempDir())
	file := "version: 1\ncluster: e2e\nvoters: 3\nvoter_grace: 10m\n" + settings + "providers:\n"
	for _, cloud := range []string{"a", "b", "c"} {
		file += fmt.Sprintf("  cloud-%s: {driver: local, musterd: %s}\n", cloud, musterd)
	}
	file += fmt.Sprintf("hosts:\n  node: {count: %d, spread: [cloud-a, cloud-b, cloud-c]}\n", hosts)
	b := &brain{net: net, daemons: map[string]daemon{}, members: map[uint64]string{}, frozen: map[string]bool{}}
	t.Cleanup(b.wg.Wait)
	b.cluster = newCluster(t, file, nil)
	b.under = net.enter("operator")
	t.Cleanup(b.mend) // before the cluster ends
	b.must("up", "--yes")
	s := b.eventually(time.Minute, whole(hosts, 3, 0))
	for _, h := range s.Hosts {
		d, err := openDoor(net, h.Name, h.Address+":4001")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(d.close)
		b.doors = append(b.doors, d)
		b.daemons[h.Name] = b.daemonOf(h.Name)
		if h.Voter {
			b.voters = append(b.voters, h.Name)
		}
	}
	b.await()
	for _, host := range b.voters {
		b.members[b.memberOf(host)] = host
	}
	return b
}

// memberOf reads etcd's ID of a voter from its log.
func (b *brain) memberOf(host string) uint64 {
	b.t.Helper()
	log, err := os.ReadFile(filepath.Join(b.dirOf(host).path, "var/log/musterd.log"))
	if err != nil {
		b.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(log), `msg="this host votes" member=`)
	word, _, _ := strings.Cut(rest, "\n")
	id, err := strconv.ParseUint(word, 16, 64)
	if err != nil {
		b.t.Fatalf("the log of %s does not name its member: %v", host, err)
	}
	return id
}

// daemonOf reads how a host's musterd was started.
func (b *brain) daemonOf(host string) daemon {
	b.t.Helper()
	for _, p := range b.hostProcesses(host, true) {
		command, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.pid))
		env, envErr := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.pid))
		if err := errors.Join(err, envErr); err != nil {
			b.t.Fatal(err)
		}
		words := strings.Split(strings.TrimSuffix(string(command), "\x00"), "\x00")
		if len(words) == 3 && words[1] == "--root" {
			return daemon{pid: p.pid, command: words, env: strings.Split(strings.TrimSuffix(string(env), "\x00"), "\x00")}
		}
	}
	b.t.Fatalf("no musterd of %s", host)
	return daemon{}
}

// ask asks a gateway for the status of the voter behind it; nil if none answers.
func (b *brain) ask(d *door) *pb.StatusResponse {
	ctx, cancel := context.WithTimeout(b.t.Context(), time.Second)
	defer cancel()
	status, err := d.maintenance.Status(ctx, &pb.StatusRequest{})
	if err != nil {
		return nil
	}
	return status
}

// leader is the voter that leads, or any if nobody says who does.
func (b *brain) leader() string {
	for _, d := range b.doors {
		if host := b.members[b.ask(d).GetLeader()]; host != "" {
			return host
		}
	}
	return b.voters[0]
}

// await returns when every gateway reads and writes, through both versions. How soon that must be is another test's affair.
func (b *brain) await() {
	b.t.Helper()
	const patience = 10 * time.Minute
	healed := time.Now()
	for _, d := range b.doors {
		for {
			err := b.tries(d)
			if err == nil {
				break
			}
			if time.Since(healed) > patience {
				b.t.Fatalf("the keys at %s do not work %v after all faults have ended: %v", d.host, patience, err)
			}
			<-time.After(50 * time.Millisecond)
		}
	}
}

// forget deletes a history's keys, so that hosts need not read those of all before when they come back.
func (b *brain) forget(dir string) {
	ctx, cancel := context.WithTimeout(b.t.Context(), 3*time.Second)
	defer cancel()
	if _, err := b.doors[0].ask2(ctx, http.MethodDelete, dir, url.Values{"recursive": {"true"}}); err != nil {
		b.t.Logf("%s stays: %v", dir, err)
	}
}

func (b *brain) tries(d *door) error {
	ctx, cancel := context.WithTimeout(b.t.Context(), 3*time.Second)
	defer cancel()
	for _, in := range []keyCall{
		{key: "/await/" + d.host, verb: verbPut, value: "x", api: 3},
		{key: "/await/" + d.host, verb: verbPut, value: "y", api: 2},
		{key: "/await/" + d.host, verb: verbGet, api: 2},
	} {
		if _, err := d.call(ctx, in); err != nil {
			return err
		}
	}
	return nil
}

// kill is SIGKILL to musterd, and waits until it has gone.
func (b *brain) kill(hosts ...string) {
	b.t.Helper()
	for _, host := range hosts {
		_ = syscall.Kill(b.daemons[host].pid, syscall.SIGKILL)
	}
	for _, host := range hosts {
		for lives(b.daemons[host].pid) {
			<-time.After(2 * time.Millisecond)
		}
	}
}

// lives tells whether a process has more left than its exit status (proc_pid_stat(5)).
func lives(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	after := bytes.LastIndexByte(stat, ')')
	return err == nil && !bytes.HasPrefix(stat[after+1:], []byte(" Z"))
}

// start starts musterd again, as the provider does.
func (b *brain) start(hosts ...string) {
	b.t.Helper()
	for _, host := range hosts {
		d := b.daemons[host]
		if lives(d.pid) {
			continue
		}
		enter := b.net.enter(host)
		cmd := exec.Command(enter[0], append(enter[1:], d.command...)...)
		cmd.Env, cmd.Dir, cmd.SysProcAttr = d.env, d.command[2], &syscall.SysProcAttr{Setsid: true}
		log, err := os.OpenFile(filepath.Join(cmd.Dir, "var", "log", "musterd.log"), os.O_WRONLY|os.O_APPEND|os.O_CREATE, fs.FileMode(0o600))
		if err != nil {
			b.t.Fatal(err)
		}
		cmd.Stdout, cmd.Stderr = log, log
		if err := errors.Join(cmd.Start(), log.Close()); err != nil {
			b.t.Fatal(err)
		}
		d.pid = cmd.Process.Pid // nsenter becomes it
		b.daemons[host] = d
		b.wg.Go(func() { _ = cmd.Wait() })
	}
}

// freeze is SIGSTOP to musterd, and thaw SIGCONT.
func (b *brain) freeze(hosts ...string) { b.stop(syscall.SIGSTOP, true, hosts) }
func (b *brain) thaw(hosts ...string)   { b.stop(syscall.SIGCONT, false, hosts) }

func (b *brain) stop(sig syscall.Signal, frozen bool, hosts []string) {
	b.t.Helper()
	for _, host := range hosts {
		if err := syscall.Kill(b.daemons[host].pid, sig); err != nil {
			b.t.Errorf("cannot send %v to musterd of %s: %v", sig, host, err)
		}
		b.frozen[host] = frozen
	}
}

// mend ends all faults.
func (b *brain) mend() {
	b.net.cut()
	for host, frozen := range b.frozen {
		if frozen {
			b.thaw(host)
		}
	}
	for _, host := range b.voters {
		b.start(host)
	}
}

// fault is something that happens to the voters, and ends.
type fault struct {
	name  string
	begin func()
	end   func()
}

// pick chooses a fault. Half of those that befall one voter befall the leader.
func (b *brain) pick(rng *rand.Rand) fault {
	order := rng.Perm(len(b.voters))
	one, two := b.voters[order[0]], b.voters[order[1]]
	if leader := b.leader(); rng.IntN(2) == 0 && two != leader {
		one = leader
	}
	cut := func(name string, rules ...rule) fault {
		return fault{name: name, begin: func() { b.net.cut(rules...) }, end: func() { b.net.cut() }}
	}
	all := slices.Clone(b.voters)
	outsider := b.doors[len(b.doors)-1].host
	switch rng.IntN(12) {
	case 0, 1:
		return fault{"kill " + one, func() { b.kill(one) }, func() { b.start(one) }}
	case 2, 3:
		return fault{"freeze " + one, func() { b.freeze(one) }, func() { b.thaw(one) }}
	case 4:
		return cut("cut off "+one, apart(one)...)
	case 5:
		return cut(one+" hears nothing", deaf(one)...)
	case 6:
		return cut(one+" says nothing", mute(one)...)
	case 7:
		return cut("cut "+one+" from "+two, between(one, two)...)
	case 8:
		return cut("cut off all from each other", append(apart(one), apart(two)...)...)
	case 9:
		return fault{
			"freeze " + one + " and kill " + two,
			func() { b.freeze(one); b.kill(two) }, func() { b.thaw(one); b.start(two) },
		}
	case 10:
		return fault{"kill all", func() { b.kill(all...) }, func() { b.start(all...) }}
	}
	return cut("cut off "+outsider+", which does not vote, and "+one, append(apart(outsider), apart(one)...)...)
}

// between cuts two hosts off from each other alone.
func between(one, two string) []rule {
	return []rule{
		rule(fmt.Sprintf("iifname %s oifname %s drop", one, two)), rule(fmt.Sprintf("iifname %s oifname %s drop", two, one)),
	}
}

// harass has one fault after another befall the voters, and ends with none. It returns their names.
func (b *brain) harass(rng *rand.Rand, faults int) (names []string) {
	b.t.Helper()
	between := func(least, most int) { <-time.After(time.Duration(least+rng.IntN(most-least)) * time.Millisecond) }
	for range faults {
		between(100, 500)
		f := b.pick(rng)
		names = append(names, f.name)
		f.begin()
		between(300, 1500)
		f.end()
	}
	between(300, 800)
	return names
}
