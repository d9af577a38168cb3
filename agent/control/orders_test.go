package control

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/agent/fleet"
	"github.com/musterhq/muster/cluster/store"
)

func TestOrderHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		a := newAdmin(t, c)
		a.Now = time.Now
		c.join(1, 2)
		minute := time.Minute
		for _, step := range []struct {
			order api.HostOrder
			want  api.Outcome
		}{
			{api.HostOrder{}, api.Unchanged},
			{api.HostOrder{Order: "cordon"}, api.Changed},
			{api.HostOrder{Order: "cordon"}, api.Unchanged},
			{api.HostOrder{Order: "drain"}, api.Changed},
			{api.HostOrder{Order: "drain"}, api.Unchanged},
			{api.HostOrder{Order: "drain", Within: &minute}, api.Changed},
			{api.HostOrder{Order: "drain", Within: &minute}, api.Changed}, // the minute begins anew
			{api.HostOrder{Order: "drain"}, api.Changed},
			{api.HostOrder{}, api.Changed},
			{api.HostOrder{}, api.Unchanged},
		} {
			if got, err := a.OrderHost(t.Context(), id(1), step.order); err != nil || got != step.want {
				t.Errorf("%+v: got %v, %v, want %v", step.order, got, err, step.want)
			}
			time.Sleep(time.Second)
		}
		month, never := maxGrace+1, -time.Second
		for _, bad := range []api.HostOrder{
			{Order: "stop"},
			{Order: "cordon", Within: &minute},
			{Within: &minute},
			{Order: "drain", Within: &month},
			{Order: "drain", Within: &never},
		} {
			_, err := a.OrderHost(t.Context(), id(1), bad)
			refused(t, bad.Order, err, http.StatusBadRequest, "")
		}
		_, err := a.OrderHost(t.Context(), id(9), api.HostOrder{Order: "drain"})
		refused(t, "unknown", err, http.StatusNotFound, id(9))
		_, err = a.OrderHost(t.Context(), "node-1", api.HostOrder{Order: "drain"})
		refused(t, "a name", err, http.StatusBadRequest, "node-1")

		if _, err := a.OrderHost(t.Context(), id(2), api.HostOrder{Order: "cordon"}); err != nil {
			t.Fatal(err)
		}
		if err := a.RemoveHost(t.Context(), id(2)); err != nil {
			t.Fatal(err)
		}
		if item, err := c.Get(t.Context(), store.OrderKey(id(2))); err != nil || item.ModRevision != 0 {
			t.Errorf("the order of a removed host is left (%v)", err)
		}
	})
}

func (c *cluster) order(a *Admin, host int, order string, within ...time.Duration) {
	c.t.Helper()
	o := api.HostOrder{Order: order}
	if len(within) > 0 {
		o.Within = &within[0]
	}
	if _, err := a.OrderHost(c.t.Context(), id(host), o); err != nil {
		c.t.Fatal(err)
	}
}

// TestOrders cordons and drains hosts: what fits elsewhere leaves, the rest when its time is over, and a host without
// orders gets units again.
func TestOrders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		a := newAdmin(t, c)
		a.Now = time.Now
		c.join(1, 2)
		_, end := c.lead("node-1")
		defer end()
		c.order(a, 2, "cordon")
		c.submit("a.service", "", store.DesiredLaunched)
		c.submit("b.service", "", store.DesiredLaunched)
		c.submit("only1.service", "[X-Fleet]\nMachineMetadata=host=node-1\n", store.DesiredLaunched)
		c.submit("all.service", "[X-Fleet]\nGlobal=true\n", store.DesiredLaunched)
		time.Sleep(time.Second)
		c.expect("host 2 is cordoned", "a.service@1", "all.service@1", "all.service@2", "b.service@1", "only1.service@1")

		c.order(a, 2, "")
		c.order(a, 1, "drain", time.Minute)
		time.Sleep(time.Second)
		c.expect("host 1 is being drained", "a.service@2", "all.service@1", "all.service@2", "b.service@2", "only1.service@1")

		time.Sleep(58 * time.Second)
		c.expect("just before the deadline", "a.service@2", "all.service@1", "all.service@2", "b.service@2", "only1.service@1")
		time.Sleep(2 * time.Second)
		c.expect("after it", "a.service@2", "all.service@1", "all.service@2", "b.service@2")

		c.order(a, 1, "")
		time.Sleep(time.Second)
		c.expect("host 1 is open again", "a.service@2", "all.service@1", "all.service@2", "b.service@2", "only1.service@1")
	})
}

// TestDeadlines are seen by a leader that takes over, and each in its turn.
func TestDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		a := newAdmin(t, c)
		a.Now = time.Now
		c.join(1, 2, 3)
		_, end := c.lead("node-1")
		for _, name := range []string{"1", "2", "3"} {
			c.submit(name+".service", "[X-Fleet]\nMachineMetadata=host=node-"+name+"\n", store.DesiredLaunched)
		}
		time.Sleep(time.Second)
		c.order(a, 1, "drain", 3*time.Minute)
		c.order(a, 2, "drain", time.Minute)
		time.Sleep(30 * time.Second)
		end()
		_, end = c.lead("node-2")
		defer end()
		c.expect("no deadline has come", "1.service@1", "2.service@2", "3.service@3")
		time.Sleep(time.Minute)
		c.expect("one", "1.service@1", "3.service@3")
		c.order(a, 3, "drain", 0)
		time.Sleep(time.Second)
		c.expect("at once", "1.service@1")
		time.Sleep(2 * time.Minute)
		c.expect("all")
	})
}

// TestOrdersOfLostHosts: a lost host stays lost whatever was ordered, since what it runs is not known.
func TestOrdersOfLostHosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		a := newAdmin(t, c)
		a.Now = time.Now
		c.join(1, 2)
		_, end := c.lead("node-2")
		defer end()
		c.submit("only1.service", "[X-Fleet]\nMachineMetadata=host=node-1\n", store.DesiredLaunched)
		time.Sleep(time.Second)
		c.commit(store.Delete(store.AliveKey(id(1))))
		c.order(a, 1, "drain", time.Second)
		time.Sleep(time.Minute)
		c.expect("it is lost", "only1.service@1")
		c.join(1)
		time.Sleep(time.Second)
		c.expect("it is back, and to be empty")
		v, err := fleet.Load(t.Context(), c, fleet.StatusPrefixes, false)
		if err != nil {
			t.Fatal(err)
		}
		if h := v.Status(nil).Hosts[0]; h.Order != api.OrderDrained || h.Units != 0 || h.Remaining != 0 {
			t.Errorf("the status says %+v", h)
		}
	})
}
