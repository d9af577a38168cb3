package control

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/cluster/store"
)

// told are the hosts that have a schedule, though it be empty.
func told(c *cluster) (hosts []int) {
	for _, key := range keys(c) {
		if name, ok := store.KeyName(store.PrefixSchedule, key); ok {
			hosts = append(hosts, number(name))
		}
	}
	return hosts
}

// TestRefilledStore has hosts go on with what they have while the store has no units, and for a while after that. Then those
// for which there is nothing are told so.
func TestRefilledStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.join(1, 2)
		_, end := c.lead("a")
		defer end()
		time.Sleep(10 * refilled)
		if got := told(c); got != nil {
			t.Errorf("hosts %v are told of an empty store", got)
		}
		c.submit("a.service", "[X-Fleet]\nMachineMetadata=provider=cloud-1\n", store.DesiredInactive)
		time.Sleep(10 * refilled)
		if got := told(c); got != nil {
			t.Errorf("hosts %v are told of a store with nothing to run", got)
		}
		c.submit("a.service", "", store.DesiredLaunched)
		time.Sleep(refilled - 5*time.Second)
		c.submit("b.service", "[X-Fleet]\nMachineOf=a.service\n", store.DesiredLaunched)
		time.Sleep(refilled - 5*time.Second)
		if got := told(c); len(got) != 1 {
			t.Errorf("hosts %v are told before operators are done", got)
		}
		time.Sleep(10 * time.Second)
		if d := cmp.Diff([]int{1, 2}, told(c)); d != "" {
			t.Errorf("not all are told: %s", d)
		}
	})
}

// TestFreshStore holds strict units back until no host can have them by schedules that were lost.
func TestFreshStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const lease = 15 * time.Second
		c := newCluster(t)
		c.join(1)
		record, err := store.Marshal(store.Cluster{LeaseMillis: lease.Milliseconds(), Fresh: true})
		if err != nil {
			t.Fatal(err)
		}
		c.commit(store.Put(store.KeyCluster, record))
		_, end := c.lead("a")
		defer end()
		write(c, store.HostKey(id(1)), store.Marshal[store.HostRecord], store.HostRecord{HoldMillis: 1000})
		const content = "[Service]\nExecStart=/bin/sleep 1\n[X-Muster]\nSingleton=strict\n"
		c.commit(store.Put(store.FileKey(store.FileSum([]byte(content))), []byte(content)))
		write(c, store.UnitKey("db.service"), store.Marshal[store.UnitRecord], store.UnitRecord{
			File: store.FileSum([]byte(content)), Desired: store.DesiredLaunched, Partition: store.PartitionStrict,
		})
		time.Sleep(lease - time.Second)
		c.expect("in a fresh store")
		time.Sleep(2 * time.Second)
		c.expect("later", "db.service@1")
	})
}
