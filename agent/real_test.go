package agent

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/agent/pause"
	"github.com/musterhq/muster/cloudconfig"
	"github.com/musterhq/muster/cluster/join"
	"github.com/musterhq/muster/cluster/pki"
	"github.com/musterhq/muster/cluster/roster"
)

const clusterID = "0b8a6f2e-8c1d-4a52-9c53-2d6c1f0a7e11"

// operator makes hosts of a real cluster on loopback, with etcd and processes, all agents in this process.
type operator struct {
	t      *testing.T
	root   *pki.Authority
	issuer *pki.Authority
	source *pki.Source
	net    string // first three bytes of the hosts' addresses
	lease  time.Duration
	log    *slog.Logger
	fleet  string            // the hosts' settings of fleet's API, "" for none
	files  map[string]string // more files that every host has, by their paths
	quota  int64             // of the store, bytes; 0 for the usual one

	members roster.Roster
	roots   map[string]string // directory of each host, by name
}

func newOperator(t *testing.T) *operator {
	t.Helper()
	o := &operator{
		t: t, lease: 2 * time.Second, roots: map[string]string{},
		net: fmt.Sprintf("127.%d.%d.", 100+rand.IntN(100), rand.IntN(250)),
		log: slog.New(slog.DiscardHandler),
	}
	if testing.Verbose() {
		o.log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	var err error
	if o.root, err = pki.NewRoot(clusterID, "demo", time.Now()); err != nil {
		t.Fatal(err)
	}
	if o.issuer, err = o.root.NewIssuer(time.Now()); err != nil {
		t.Fatal(err)
	}
	pair, err := o.issuer.MintOperator(clusterID, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if o.source, err = pki.NewStaticSource(pair); err != nil {
		t.Fatal(err)
	}
	return o
}

func (o *operator) host(n int, voter bool) roster.Host {
	return roster.Host{
		ID: id(n), Name: fmt.Sprintf("node-%d", n), Generation: 1, Provider: "cloud-a", Address: fmt.Sprintf("%s%d", o.net, n),
		Ports: roster.DefaultPorts(), Voter: voter,
	}
}

// provide writes what a provider leaves in a host's directory.
func (o *operator) provide(h roster.Host, secret string, endpoints []string) {
	o.t.Helper()
	root, err := os.MkdirTemp("", "muster-agent-") // a test's own may be too long for a socket
	if err != nil {
		o.t.Fatal(err)
	}
	o.t.Cleanup(func() { _ = os.RemoveAll(root) })
	o.roots[h.Name] = root
	cfg, err := json.Marshal(join.Config{
		Version: 1, ClusterID: clusterID, ClusterName: "demo", Host: h.Name, HostID: h.ID, Generation: 1, Provider: h.Provider,
		CA: string(o.root.CertPEM()), Endpoints: endpoints, Token: secret, LeaseMillis: o.lease.Milliseconds(), Runtime: "process",
	})
	if err != nil {
		o.t.Fatal(err)
	}
	userData, err := cloudconfig.UserData(cloudconfig.FirstBoot{Hostname: h.Name, ConfigPath: join.ConfigPath, Config: cfg}, cloudconfig.Document{})
	if err != nil {
		o.t.Fatal(err)
	}
	// An agent kills strays that have its instance's mark: another run of these tests at the same time must have another.
	meta, err := json.Marshal(metaData{InstanceID: "i-" + o.net + h.ID, LocalHostname: h.Name, LocalIPv4: h.Address})
	if err != nil {
		o.t.Fatal(err)
	}
	files := map[string][]byte{userDataFile: userData, metaDataFile: meta}
	if o.fleet != "" {
		files[join.FleetPath] = []byte(o.fleet)
	}
	for name, text := range o.files {
		files[name] = []byte(text)
	}
	for name, data := range files {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755); err != nil {
			o.t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name), data, 0o600); err != nil {
			o.t.Fatal(err)
		}
	}
}

// start runs an agent and returns how to end it.
func (o *operator) start(name string) (end func()) {
	ctx, cancel := context.WithCancel(o.t.Context())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, Config{Root: o.roots[name], Version: "test", Log: o.log, quota: o.quota}) }()
	ended := false
	end = func() {
		if ended {
			return
		}
		ended = true
		cancel()
		if err := <-done; err != nil {
			o.t.Errorf("%s: %v", name, err)
		}
	}
	o.t.Cleanup(end)
	return end
}

// Admit is the operator's side of the first joins.
func (o *operator) Admit(_ context.Context, req join.Request, pub crypto.PublicKey, _ netip.Addr) (join.Reply, error) {
	h, ok := o.members.ByID(req.HostID)
	if !ok {
		return join.Reply{}, join.ErrTokenHost
	}
	chain, err := o.issuer.SignHost(pub, h, clusterID, time.Now())
	if err != nil {
		return join.Reply{}, err
	}
	reply := join.Reply{Certificate: string(chain), Roster: o.members}
	if h.Voter {
		reply.Voter = &join.VoterRole{
			State: join.StateNew, ClusterToken: clusterID, InitialCluster: map[string]string{},
			IssuerCertificate: string(o.issuer.CertPEM()), IssuerKey: string(o.issuer.KeyPEM()),
		}
		for _, v := range o.members.Voters() {
			reply.Voter.InitialCluster[v.ID] = v.PeerURL()
		}
	}
	return reply, nil
}

// form makes and admits the first hosts.
func (o *operator) form(hosts ...roster.Host) {
	o.t.Helper()
	o.members = hosts
	for _, h := range hosts {
		secret, _ := join.NewToken()
		o.provide(h, secret, nil)
		o.start(h.Name)
	}
	o.admit(hosts)
}

// admit dials the first hosts and lets them in.
func (o *operator) admit(hosts roster.Roster) {
	o.t.Helper()
	config := pki.ServerConfig(o.root.Cert, o.source, 0)
	handler := join.Handler(o, o.log)
	for _, h := range hosts {
		o.eventually("admit "+h.Name, func() error {
			conn, err := net.Dial("tcp", h.APIAddress())
			if err != nil {
				return err
			}
			return join.ServeConn(o.t.Context(), conn, config, handler)
		})
	}
}

func (o *operator) client() *api.Client {
	c := api.NewClient(endpoints(o.members), pki.ClientConfig(o.root.Cert, o.source, ""))
	o.t.Cleanup(c.Close)
	return c
}

// eventually waits for something that real processes and clocks bring about.
func (o *operator) eventually(what string, try func() error) {
	o.t.Helper()
	o.within(30*time.Second, what, try)
}

// within is eventually for what takes longer.
func (o *operator) within(limit time.Duration, what string, try func() error) {
	o.t.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			o.t.Fatalf("%s: %v", what, err)
		}
		if err := pause.For(o.t.Context(), 50*time.Millisecond); err != nil {
			o.t.Fatal(err)
		}
	}
}

// running checks that exactly these units run, as unit@host.
func running(s api.Status, want ...string) error {
	var got []string
	for _, u := range s.Units {
		if u.State == api.UnitRunning {
			got = append(got, u.Name+"@"+u.Host)
		}
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		return fmt.Errorf("%v run, want %v: %+v", got, want, s.Units)
	}
	return nil
}

const sleeper = "[Service]\nExecStart=/bin/sh -c 'echo hello from %n on $MUSTER_HOST; exec sleep 1000'\n[X-Fleet]\nConflicts=sleep@*.service\n"

// TestRealCluster forms a cluster of one voter, lets another host join it, runs units, reads logs, ends and starts the
// agents again without a unit noticing, and removes the host.
func TestRealCluster(t *testing.T) {
	o := newOperator(t)
	voter, other := o.host(1, true), o.host(2, false)
	o.form(voter)
	c := o.client()
	o.eventually("form", func() error {
		s, err := c.Status(t.Context())
		if err != nil || len(s.Hosts) != 1 || s.Hosts[0].State != api.HostReady || s.Scheduler != "node-1" {
			return fmt.Errorf("%+v: %w", s, err)
		}
		return nil
	})

	secret, sum := join.NewToken()
	asked := other
	asked.Address, asked.Ports = "", roster.Ports{}
	if err := c.AddToken(t.Context(), api.TokenRequest{Host: asked, TTL: time.Minute, Hash: sum}); err != nil {
		t.Fatal(err)
	}
	o.provide(other, secret, []string{voter.APIAddress()})
	end := o.start(other.Name)
	o.members = append(o.members, other)
	for _, unit := range []api.Unit{
		{Name: "sleep@.service", Content: sleeper}, {Name: "sleep@1.service", Desired: "launched"}, {Name: "sleep@2.service", Desired: "launched"},
	} {
		if _, err := c.PutUnit(t.Context(), unit); err != nil {
			t.Fatal(err)
		}
	}
	both := func() error {
		s, err := c.Status(t.Context())
		if err != nil {
			return err
		}
		if err := running(s, "sleep@1.service@node-1", "sleep@2.service@node-2"); err != nil {
			return err
		}
		return nil
	}
	o.eventually("run", both)

	o.eventually("say so", func() error { // a unit runs before its program has said anything
		var logs strings.Builder
		err := c.Logs(t.Context(), "sleep@2.service", api.LogOptions{Lines: 10}, &logs)
		if err == nil && !strings.Contains(logs.String(), "hello from sleep@2.service on node-2") {
			return fmt.Errorf("logs of the other host: %q", logs.String())
		}
		return err
	})
	socket := api.NewSocketClient(filepath.Join(o.roots["node-2"], socketPath))
	defer socket.Close()
	if s, err := socket.Status(t.Context()); err != nil || len(s.Hosts) != 2 || s.Scheduler != "node-1" {
		t.Errorf("status on the socket: %+v, %v", s, err)
	}
	why, err := c.Why(t.Context(), "sleep@1.service")
	if err != nil || why.Host != "node-1" || len(why.Hosts) != 2 {
		t.Errorf("why: %+v, %v", why, err)
	}

	end()
	o.start(other.Name)
	o.eventually("run again", both)

	if _, err := c.PutUnit(t.Context(), api.Unit{Name: "sleep@2.service", Desired: "inactive"}); err != nil {
		t.Fatal(err)
	}
	if err := c.DeleteUnit(t.Context(), "sleep@1.service"); err != nil {
		t.Fatal(err)
	}
	o.eventually("stop", func() error {
		s, err := c.Status(t.Context())
		if err != nil || len(s.Units) != 1 || s.Units[0].State != api.UnitInactive {
			return fmt.Errorf("%+v: %w", s.Units, errors.Join(err, errors.New("not stopped")))
		}
		return nil
	})
	if err := c.RemoveHost(t.Context(), other.ID); err != nil {
		t.Error(err)
	}
	if err := c.RemoveHost(t.Context(), other.ID); err != nil {
		t.Errorf("removing it again: %v", err)
	}
}
