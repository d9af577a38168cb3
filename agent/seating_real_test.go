package agent

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/cluster/join"
	"github.com/musterhq/muster/cluster/pki"
	"github.com/musterhq/muster/cluster/roster"
)

// enrol has a host join the running cluster.
func (o *operator) enrol(c *api.Client, h roster.Host) (end func()) {
	o.t.Helper()
	secret, sum := join.NewToken()
	asked := h
	asked.Address, asked.Ports = "", roster.Ports{}
	if err := c.AddToken(o.t.Context(), api.TokenRequest{Host: asked, TTL: time.Minute, Hash: sum}); err != nil {
		o.t.Fatal(err)
	}
	var voters []string
	for _, v := range o.members.Voters() {
		voters = append(voters, v.APIAddress())
	}
	o.provide(h, secret, voters)
	end = o.start(h.Name)
	o.members = append(o.members, h)
	return end
}

// voting is a check that exactly these hosts vote, and are well.
func voting(ctx context.Context, c *api.Client, want ...string) func() error {
	return func() error {
		s, err := c.Status(ctx)
		if err != nil {
			return err
		}
		var got []string
		for _, h := range s.Hosts {
			if h.Voter {
				got = append(got, h.Name)
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) || s.Voters.Healthy != len(want) || s.Voters.Leader == "" || s.Stale {
			return fmt.Errorf("%v vote, want %v: %+v %v", got, want, s.Voters, s.Warnings)
		}
		return nil
	}
}

// TestVoterReplaced takes a voter away for longer than the grace: the standby host takes its place, and the old one goes on
// as a client when it is back. No unit notices.
func TestVoterReplaced(t *testing.T) {
	awaitHangUp(t)
	o := newOperator(t)
	first := roster.Roster{o.host(1, true), o.host(2, true), o.host(3, true)}
	ends := o.formEach(first)
	c := o.client()
	o.eventually("form", voting(t.Context(), c, "node-1", "node-2", "node-3"))
	o.enrol(c, o.host(4, false))
	c = o.client()
	grace := 3 * time.Second
	if _, err := c.Configure(t.Context(), api.Settings{Voters: new(3), VoterGrace: &grace}); err != nil {
		t.Fatal(err)
	}
	for _, unit := range []api.Unit{
		{Name: "sleep@.service", Content: sleeper},
		{Name: "sleep@1.service", Desired: "launched"},
		{Name: "sleep@2.service", Desired: "launched"},
		{Name: "sleep@3.service", Desired: "launched"},
		{Name: "sleep@4.service", Desired: "launched"},
	} {
		if _, err := c.PutUnit(t.Context(), unit); err != nil {
			t.Fatal(err)
		}
	}
	four := func() error {
		s, err := c.Status(t.Context())
		if err != nil {
			return err
		}
		return running(s, "sleep@1.service@node-1", "sleep@2.service@node-2", "sleep@3.service@node-3", "sleep@4.service@node-4")
	}
	o.eventually("run", four)
	before := o.starts()

	ends["node-2"]()
	o.eventually("replace", voting(t.Context(), c, "node-1", "node-3", "node-4"))
	o.start("node-2")
	o.eventually("return", func() error {
		s, err := c.Status(t.Context())
		if err != nil {
			return err
		}
		if len(s.Hosts) != 4 || s.Hosts[1].State != api.HostReady || s.Hosts[1].Voter {
			return fmt.Errorf("%+v", s.Hosts)
		}
		return nil
	})
	o.eventually("step down", func() error {
		for _, path := range []string{etcdPath, join.StoragePath + "/issuer.key", join.StoragePath + "/control.pem"} {
			if _, err := os.Stat(filepath.Join(o.roots["node-2"], path)); err == nil {
				return fmt.Errorf("%s is still there", path)
			}
		}
		return nil
	})
	o.eventually("keep voting", voting(t.Context(), c, "node-1", "node-3", "node-4"))
	if after := o.starts(); after["node-1"] != before["node-1"] || after["node-3"] != before["node-3"] || after["node-4"] != before["node-4"] {
		t.Errorf("units were started again: %v, then %v", before, after)
	}
	s, err := c.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if n := len(s.Voters.Changes); n == 0 {
		t.Error("the status does not tell of it")
	}
}

// awaitHangUp waits, when all agents have ended, until etcd's peers have hung up, which takes them some seconds.
func awaitHangUp(t *testing.T) {
	t.Cleanup(func() {
		for deadline := time.Now().Add(20 * time.Second); goleak.Find() != nil && time.Now().Before(deadline); {
			<-time.After(100 * time.Millisecond)
		}
	})
}

// formEach is form, with how to end each host.
func (o *operator) formEach(hosts roster.Roster) map[string]func() {
	o.t.Helper()
	o.members = hosts
	ends := map[string]func(){}
	for _, h := range hosts {
		secret, _ := join.NewToken()
		o.provide(h, secret, nil)
		ends[h.Name] = o.start(h.Name)
	}
	o.admit(hosts)
	return ends
}

// starts counts on each host how often units were started.
func (o *operator) starts() map[string]int {
	count := map[string]int{}
	for name, root := range o.roots {
		_ = filepath.WalkDir(filepath.Join(root, unitsPath), func(path string, _ fs.DirEntry, err error) error {
			if err == nil && filepath.Base(path) == "starts.jsonl" {
				data, err := os.ReadFile(path)
				for _, b := range data {
					if b == '\n' {
						count[name]++
					}
				}
				return err
			}
			return nil
		})
	}
	return count
}

// writer writes numbered keys through the voters as fast as they take them, and remembers which were acknowledged.
type writer struct {
	client *clientv3.Client
	stop   context.CancelFunc
	done   chan struct{}
	acked  []string
	gap    time.Duration // the longest time between two acknowledgements
}

func (o *operator) write(endpoints ...roster.Host) *writer {
	o.t.Helper()
	pair, err := o.issuer.MintControl(endpoints[0], clusterID, time.Now())
	if err != nil {
		o.t.Fatal(err)
	}
	source, err := pki.NewStaticSource(pair)
	if err != nil {
		o.t.Fatal(err)
	}
	client, err := clientv3.New(clientv3.Config{
		Endpoints: clientURLs(endpoints), TLS: pki.ClientConfig(o.root.Cert, source, pki.VoterName), Logger: zap.NewNop(),
	})
	if err != nil {
		o.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(o.t.Context())
	w := &writer{client: client, stop: stop, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		last := time.Now()
		for n := 0; ctx.Err() == nil; n++ {
			key := fmt.Sprintf("/load/%08d", n)
			once, cancel := context.WithTimeout(ctx, time.Second)
			_, err := client.Put(once, key, key)
			cancel()
			if err == nil {
				w.acked = append(w.acked, key)
				w.gap = max(w.gap, time.Since(last))
				last = time.Now()
			}
		}
	}()
	return w
}

// check ends the load and looks for every key that was acknowledged.
func (w *writer) check(t *testing.T) {
	t.Helper()
	w.stop()
	<-w.done
	defer func() { _ = w.client.Close() }()
	found, err := w.client.Get(t.Context(), "/load/", clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	there := make(map[string]bool, len(found.Kvs))
	for _, kv := range found.Kvs {
		there[string(kv.Key)] = string(kv.Value) == string(kv.Key)
	}
	lost := 0
	for _, key := range w.acked {
		if !there[key] {
			lost++
		}
	}
	t.Logf("%d writes were acknowledged, %d of them are lost; the longest gap was %s", len(w.acked), lost, w.gap)
	if lost > 0 || len(w.acked) == 0 {
		t.Errorf("%d of %d acknowledged writes are lost", lost, len(w.acked))
	}
}

// TestVoterCount has one voter, then three, five and three again, under a writing load.
func TestVoterCount(t *testing.T) {
	awaitHangUp(t)
	o := newOperator(t)
	o.form(o.host(1, true))
	c := o.client()
	o.eventually("form", voting(t.Context(), c, "node-1"))
	for n := 2; n <= 5; n++ {
		o.enrol(c, o.host(n, false))
	}
	c = o.client()
	o.eventually("join", func() error {
		s, err := c.Status(t.Context())
		if err != nil {
			return err
		}
		ready := 0
		for _, h := range s.Hosts {
			if h.State == api.HostReady {
				ready++
			}
		}
		if ready != 5 {
			return fmt.Errorf("%d hosts are ready", ready)
		}
		return nil
	})
	w := o.write(o.members...)
	names := []string{"node-1"}
	seat := func(n int, votes bool) {
		t.Helper()
		if _, err := c.OrderSeat(t.Context(), id(n), votes); err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprintf("node-%d", n)
		if votes {
			names = append(names, name)
		} else {
			names = slices.DeleteFunc(names, func(s string) bool { return s == name })
		}
		began := time.Now()
		o.eventually(fmt.Sprintf("%v", names), voting(t.Context(), c, names...))
		t.Logf("voters %v after %s", names, time.Since(began).Round(time.Millisecond))
	}
	for _, n := range []int{2, 3, 4, 5} {
		seat(n, true)
	}
	seat(1, false) // which led, most likely
	seat(5, false)
	w.check(t)
}
