package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/cluster/join"
	"github.com/musterhq/muster/cluster/pki"
	"github.com/musterhq/muster/cluster/store"
)

// storeAway is how long the store is away: two leases, and the ten minutes that are promised in the long run.
func storeAway() time.Duration {
	if os.Getenv("MUSTER_LONG") != "" {
		return 10 * time.Minute
	}
	return 10 * time.Second
}

// TestStoreLost takes the store away, all of its voters at once, frozen or killed, and brings it back: no unit is stopped,
// moved or started again.
func TestStoreLost(t *testing.T) {
	c := sleepers(t, 5, 3, 10)
	c.must("up", "--yes")
	c.eventually(30*time.Second, whole(5, 3, 10))
	before := c.unitPIDs()
	for _, sig := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGKILL} {
		t.Run(sig.String(), func(t *testing.T) {
			var daemons []process
			for _, host := range []string{"node-1", "node-2", "node-3"} {
				daemons = append(daemons, c.hostProcesses(host, true)...)
			}
			c.signal(sig, daemons)
			c.unmoved("without the store", before, storeAway())
			if sig == syscall.SIGSTOP {
				c.signal(syscall.SIGCONT, daemons)
			} else {
				c.must("up", "--yes")
			}
			c.eventually(time.Minute, whole(5, 3, 10))
			c.unmoved("with the store back", before, 10*time.Second)
		})
	}
}

// TestStoreEmptied deletes everything that muster has in etcd. Units run on, and `muster up` writes the cluster file's anew.
func TestStoreEmptied(t *testing.T) {
	c := sleepers(t, 5, 3, 10)
	c.must("up", "--yes")
	c.eventually(30*time.Second, whole(5, 3, 10))
	before := c.unitPIDs()
	c.empty()
	c.unmoved("with an empty store", before, storeAway())
	c.must("up", "--yes")
	s := c.eventually(time.Minute, whole(5, 3, 10))
	if err := c.asScheduled(s); err != nil {
		t.Error(err)
	}
}

// unmoved checks for a while that every unit is the processes that it was.
func (c *cluster) unmoved(when string, before map[string][]int, d time.Duration) {
	c.t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); {
		if after := c.unitPIDs(); !equal(before, after) {
			c.t.Fatalf("%s units did not run on: before %v, after %v", when, before, after)
		}
		<-time.After(500 * time.Millisecond)
	}
}

// empty deletes every record, with a voter's right to do so.
func (c *cluster) empty() {
	c.t.Helper()
	s, err := c.status()
	if err != nil {
		c.t.Fatal(err)
	}
	if err := emptyStore(c.t.Context(), c.dirOf("node-1").path, clientEndpoints(s)); err != nil {
		c.t.Fatal(err)
	}
}

// clientEndpoints are where voters serve the store.
func clientEndpoints(s api.Status) []string {
	var endpoints []string
	for _, h := range s.Hosts {
		if h.Voter {
			endpoints = append(endpoints, fmt.Sprintf("https://%s:%d", h.Address, h.Ports.Client))
		}
	}
	return endpoints
}

// emptyStore deletes every record as the voter whose root directory is given.
func emptyStore(ctx context.Context, root string, endpoints []string) error {
	storage, err := join.OpenStorage(root)
	if err != nil {
		return err
	}
	source, err := pki.NewSource(storage.ControlFile(), storage.ControlFile())
	text, readErr := os.ReadFile(storage.CAFile())
	ca, parseErr := pki.ParseCert(text)
	if err := errors.Join(err, readErr, parseErr); err != nil {
		return err
	}
	st, err := store.DialEtcd(ctx, store.EtcdConfig{Endpoints: endpoints, TLS: pki.ClientConfig(ca, source, pki.VoterName)})
	if err != nil {
		return err
	}
	defer func() { _ = st.Close() }()
	_, err = st.Commit(ctx, store.Commit{Ops: []store.Op{store.DeletePrefix(store.Prefix)}})
	return err
}

// asScheduled compares the processes that are really there with the status.
func (c *cluster) asScheduled(s api.Status) error {
	names := map[string]string{}
	for _, d := range c.hostDirs() {
		names[d.instance] = d.host
	}
	running := map[string]map[string]bool{}
	for _, p := range c.processes() {
		if p.unit != "" {
			if running[p.unit] == nil {
				running[p.unit] = map[string]bool{}
			}
			running[p.unit][names[p.instance]] = true
		}
	}
	for _, u := range s.Units {
		if hosts := slices.Sorted(maps.Keys(running[u.Name])); !slices.Equal(hosts, []string{u.Host}) {
			return fmt.Errorf("%s runs on %v and is scheduled on %q", u.Name, hosts, u.Host)
		}
	}
	return nil
}
