package lock

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/store"
)

// memberEnv has this binary be one member of etcd: NAME CLIENT-PORT PEER-PORT DIR CLUSTER.
const memberEnv = "MUSTER_LOCK_MEMBER"

func TestMain(m *testing.M) {
	if spec := os.Getenv(memberEnv); spec != "" {
		if err := serveMember(strings.Fields(spec)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// serveMember runs a member without TLS until standard input ends.
func serveMember(spec []string) error {
	at := func(port string) []url.URL { return []url.URL{{Scheme: "http", Host: "127.0.0.1:" + port}} }
	cfg := embed.NewConfig()
	cfg.Name, cfg.Dir, cfg.InitialCluster = spec[0], spec[3], spec[4]
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = at(spec[1]), at(spec[1])
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = at(spec[2]), at(spec[2])
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	server, err := embed.StartEtcd(cfg)
	if err != nil {
		return err
	}
	defer server.Close()
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// members are three members of etcd, each a process, and what is between clients and them.
type members struct {
	tb    testing.TB
	specs []string
	live  []*process
	links []*link
}

// process is one member.
type process struct {
	cmd   *exec.Cmd
	stdin io.Closer
}

func startMembers(tb testing.TB) *members {
	tb.Helper()
	const count = 3
	ports := freePorts(tb, 2*count)
	var cluster []string
	for i := range count {
		cluster = append(cluster, fmt.Sprintf("m%d=http://127.0.0.1:%s", i, ports[2*i+1]))
	}
	m := &members{tb: tb, live: make([]*process, count)}
	dir := tb.TempDir()
	for i := range count {
		name := fmt.Sprintf("m%d", i)
		spec := []string{name, ports[2*i], ports[2*i+1], filepath.Join(dir, name), strings.Join(cluster, ",")}
		m.specs = append(m.specs, strings.Join(spec, " "))
		m.links = append(m.links, newLink(tb, "127.0.0.1:"+ports[2*i]))
		m.start(i)
	}
	tb.Cleanup(func() {
		for i := range m.live {
			m.kill(i)
		}
	})
	m.await(m.dial(tb.Context(), false))
	return m
}

// await returns when the members answer.
func (m *members) await(s store.Store) {
	m.tb.Helper()
	for {
		_, err := s.Get(m.tb.Context(), store.KeyLock)
		if err == nil {
			return
		}
		if m.tb.Context().Err() != nil {
			m.tb.Fatal(err)
		}
	}
}

func (m *members) start(i int) {
	m.tb.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), memberEnv+"="+m.specs[i])
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		m.tb.Fatal(err)
	}
	m.live[i] = &process{cmd: cmd, stdin: stdin}
}

// kill is SIGKILL: nothing that was not synced is kept.
func (m *members) kill(i int) {
	p := m.live[i]
	if p == nil {
		return
	}
	m.live[i] = nil
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
	_ = p.stdin.Close()
}

// dial is a client of its own; linked ones can be cut off.
func (m *members) dial(ctx context.Context, linked bool) *store.Etcd {
	m.tb.Helper()
	var endpoints []string
	for i := range m.specs {
		endpoint := m.endpoint(i)
		if linked {
			endpoint = "http://" + m.links[i].address()
		}
		endpoints = append(endpoints, endpoint)
	}
	s, err := store.DialEtcd(ctx, store.EtcdConfig{Endpoints: endpoints, Log: slog.New(slog.DiscardHandler), Timeout: 2 * time.Second})
	if err != nil {
		m.tb.Fatal(err)
	}
	m.tb.Cleanup(func() { _ = s.Close() })
	return s
}

// endpoint is a member's own.
func (m *members) endpoint(i int) string { return "http://127.0.0.1:" + strings.Fields(m.specs[i])[1] }

// enrol writes hosts into the roster, and that they live.
func enrol(ctx context.Context, s store.Store, ids []string) error {
	for len(ids) > 0 {
		n := min(len(ids), store.MaxOps/2)
		var ops []store.Op
		for _, id := range ids[:n] {
			member, err := store.Marshal(store.RosterRecord{Host: roster.Host{ID: id, Name: id}})
			if err != nil {
				return err
			}
			alive, err := store.Marshal(store.Alive{})
			if err != nil {
				return err
			}
			ops = append(ops, store.Put(store.RosterKey(id), member), store.Put(store.AliveKey(id), alive))
		}
		if _, err := s.Commit(ctx, store.Commit{Ops: ops}); err != nil {
			return err
		}
		ids = ids[n:]
	}
	return nil
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
