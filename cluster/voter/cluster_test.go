package voter

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/musterhq/muster/cluster/join"
	"github.com/musterhq/muster/cluster/pki"
	"github.com/musterhq/muster/cluster/roster"
)

const testCluster = "6f4f0a3e-91c1-4a65-9d0c-0b52f0a7a001"

// testing cluster: authorities, and hosts with their directories. Voters are started by hand.
type cluster struct {
	tb     testing.TB
	root   *pki.Authority
	issuer *pki.Authority
	hosts  roster.Roster
	dirs   []string
	quota  int64 // Config.Quota
	log    *slog.Logger
}

// newCluster makes hosts n0, n1, … of which the first are voters, on 127.0.0.1 at free ports.
func newCluster(tb testing.TB, voters, others int) *cluster {
	tb.Helper()
	c := &cluster{tb: tb, log: slog.New(slog.DiscardHandler)}
	var err error
	if c.root, err = pki.NewRoot(testCluster, "demo", time.Now()); err != nil {
		tb.Fatal(err)
	}
	if c.issuer, err = c.root.NewIssuer(time.Now()); err != nil {
		tb.Fatal(err)
	}
	for i := range voters + others {
		c.addHost(i < voters)
	}
	return c
}

func (c *cluster) addHost(voter bool) int {
	c.tb.Helper()
	i := len(c.hosts)
	ports := freePorts(c.tb, 2)
	c.hosts = append(c.hosts, roster.Host{
		ID: fmt.Sprintf("%032x", i+1), Name: fmt.Sprintf("n%d", i), Generation: 1, Provider: "p", Address: "127.0.0.1",
		Ports: roster.Ports{API: 7400, Client: ports[0], Peer: ports[1]}, Voter: voter,
	})
	dir := c.tb.TempDir()
	c.dirs = append(c.dirs, dir)
	c.credentials(i)
	return i
}

func freePorts(tb testing.TB, n int) []int {
	tb.Helper()
	var ports []int
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			tb.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports
}

func (c *cluster) credentials(i int) {
	c.tb.Helper()
	h, f := c.hosts[i], c.files(i)
	pair := c.hostPair(h)
	write := func(name string, content []byte) {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			c.tb.Fatal(err)
		}
	}
	write(f.CA, c.root.CertPEM())
	write(f.HostCert, pair.CertPEM)
	write(f.HostKey, pair.KeyPEM)
	if !h.Voter {
		return
	}
	peer, err := c.issuer.MintPeer(h, testCluster, time.Now())
	if err != nil {
		c.tb.Fatal(err)
	}
	if err := pki.WritePair(f.Peer, peer); err != nil {
		c.tb.Fatal(err)
	}
}

func (c *cluster) hostPair(h roster.Host) pki.Pair {
	c.tb.Helper()
	key, err := pki.NewKey()
	if err != nil {
		c.tb.Fatal(err)
	}
	chain, err := c.issuer.SignHost(&key.PublicKey, h, testCluster, time.Now())
	if err != nil {
		c.tb.Fatal(err)
	}
	return pki.Pair{CertPEM: chain, KeyPEM: pki.EncodeKey(key)}
}

func (c *cluster) files(i int) Files {
	at := func(name string) string { return filepath.Join(c.dirs[i], name) }
	return Files{CA: at("ca.crt"), HostCert: at("host.crt"), HostKey: at("host.key"), Peer: at("peer.pem")}
}

// role is that of a first voter.
func (c *cluster) role() join.VoterRole {
	r := join.VoterRole{State: join.StateNew, ClusterToken: testCluster, InitialCluster: map[string]string{}}
	for _, h := range c.hosts.Voters() {
		r.InitialCluster[h.ID] = h.PeerURL()
	}
	return r
}

func (c *cluster) config(i int, role join.VoterRole) Config {
	return Config{
		Host: c.hosts[i], Dir: filepath.Join(c.dirs[i], "etcd"), Role: role, Files: c.files(i), Log: c.log,
		Relay: c.controlTLS(i), Quota: c.quota,
	}
}

// form starts the voters at once and waits until each is ready. They are closed at the end of the test.
func (c *cluster) form(ctx context.Context) []*Voter {
	c.tb.Helper()
	voters := make([]*Voter, len(c.hosts.Voters()))
	errs := make([]error, len(voters))
	role := c.role()
	var wg sync.WaitGroup
	for i := range voters {
		wg.Go(func() {
			if voters[i], errs[i] = Start(ctx, c.config(i, role)); errs[i] == nil {
				errs[i] = voters[i].WaitReady(ctx)
			}
		})
	}
	wg.Wait()
	c.tb.Cleanup(func() { closeAll(voters) })
	for i, err := range errs {
		if err != nil {
			c.tb.Fatalf("voter %d: %v", i, err)
		}
	}
	return voters
}

func closeAll(voters []*Voter) {
	var wg sync.WaitGroup
	for _, v := range voters {
		if v != nil {
			wg.Go(v.Close)
		}
	}
	wg.Wait()
}

func (c *cluster) tls(pair pki.Pair) *tls.Config {
	c.tb.Helper()
	src, err := pki.NewStaticSource(pair)
	if err != nil {
		c.tb.Fatal(err)
	}
	return pki.ClientConfig(c.root.Cert, src, pki.VoterName)
}

// controlTLS is voter i's as etcd's root user.
func (c *cluster) controlTLS(i int) *tls.Config {
	c.tb.Helper()
	pair, err := c.issuer.MintControl(c.hosts[i], testCluster, time.Now())
	if err != nil {
		c.tb.Fatal(err)
	}
	return c.tls(pair)
}

func (c *cluster) endpoints() []string {
	var urls []string
	for _, h := range c.hosts.Voters() {
		urls = append(urls, h.ClientURL())
	}
	return urls
}

// client is a bare etcd client.
func (c *cluster) client(config *tls.Config, endpoints ...string) *clientv3.Client {
	c.tb.Helper()
	if len(endpoints) == 0 {
		endpoints = c.endpoints()
	}
	client, err := clientv3.New(clientv3.Config{Endpoints: endpoints, TLS: config, Logger: zap.NewNop(), DialTimeout: 5 * time.Second})
	if err != nil {
		c.tb.Fatal(err)
	}
	c.tb.Cleanup(func() { _ = client.Close() })
	return client
}
