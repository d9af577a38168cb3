package control

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/agent/fleet"
	"github.com/musterhq/muster/cluster/store"
)

// leadFully is lead with the duty of rebalancing.
func (c *cluster) leadFully(name string) (end func()) {
	c.t.Helper()
	conn := c.Client()
	l := &Leader{
		Store: conn, Candidate: name, Log: quiet(),
		First:  func(context.Context, store.Guard) error { return nil },
		Duties: []Duty{(&Scheduler{Store: conn, Log: quiet()}).Run, (&Rebalancer{Store: conn, Log: quiet()}).Run},
	}
	ctx, cancel := context.WithCancel(c.t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	return func() {
		c.t.Helper()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			c.t.Errorf("leader: %v", err)
		}
		_ = conn.Close()
	}
}

// report has every host say that what it is scheduled to run is so.
func (c *cluster) report(active, sub string) {
	c.t.Helper()
	v, err := fleet.Load(c.t.Context(), c, []string{store.PrefixSchedule}, false)
	if err != nil {
		c.t.Fatal(err)
	}
	for host, r := range v.Schedule {
		var states []store.UnitState
		for u := range r.Record.Each() {
			states = append(states, store.UnitState{Name: u.Name, File: u.File, Load: "loaded", Active: active, Sub: sub})
		}
		write(c, store.StatesKey(host), store.Marshal[store.StatesRecord], store.StatesRecord{Units: states})
	}
}

func (c *cluster) share(percent int) {
	c.t.Helper()
	write(c, store.KeyCluster, store.Marshal[store.Cluster], store.Cluster{Name: "demo", RebalancePercent: &percent})
}

func (c *cluster) rebalancing() store.RebalanceRecord {
	c.t.Helper()
	v, err := fleet.Load(c.t.Context(), c, []string{store.KeyRebalance}, false)
	if err != nil {
		c.t.Fatal(err)
	}
	return v.Rebalance.Record
}

var six = []string{"a", "b", "c", "d", "e", "f"}

func (c *cluster) submitAll(names []string) {
	for _, name := range names {
		c.submit(name+".service", "", store.DesiredLaunched)
	}
	time.Sleep(time.Second)
}

// TestRebalanceOnJoin: a host joins, and units move to it one after the other, each when the one before it runs.
func TestRebalanceOnJoin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.join(1, 2)
		c.share(5)
		end := c.leadFully("node-1")
		time.Sleep(time.Minute)
		c.submitAll(six)
		before := []string{"a.service@1", "b.service@2", "c.service@1", "d.service@2", "e.service@1", "f.service@2"}
		c.expect("before", before...)
		c.report("active", "running")

		c.join(3)
		time.Sleep(10 * time.Second)
		one := []string{"a.service@3", "b.service@2", "c.service@1", "d.service@2", "e.service@1", "f.service@2"}
		c.expect("one has moved and does not run yet", one...)
		end()
		end = c.leadFully("node-2")
		defer end()
		time.Sleep(10 * time.Second)
		c.expect("another leader waits too", one...)
		c.report("active", "running")
		time.Sleep(5 * time.Second)
		all := []string{"a.service@3", "b.service@3", "c.service@1", "d.service@2", "e.service@1", "f.service@2"}
		c.expect("two have moved", all...)
		c.report("active", "running")
		time.Sleep(time.Minute)
		c.expect("and no more", all...)
		if r := c.rebalancing(); r.Left != 0 || r.Go || r.Stopped != "" || r.Cause != "host node-3 joined" || len(r.Moved) != 1 {
			t.Errorf("the record says %+v", r)
		}
	})
}

// TestRebalanceStops when what moved does not run where it went.
func TestRebalanceStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.join(1, 2)
		end := c.leadFully("node-1")
		defer end()
		time.Sleep(time.Second)
		c.submitAll(six)
		c.join(3)
		time.Sleep(10 * time.Second)
		c.report("failed", "failed")
		time.Sleep(settleTimeout + 10*time.Second)
		c.expect("one has moved", "a.service@3", "b.service@2", "c.service@1", "d.service@2", "e.service@1", "f.service@2")
		if r := c.rebalancing(); r.Left != 0 || r.Stopped == "" {
			t.Errorf("the record says %+v", r)
		}
	})
}

// TestRebalanceOff: without a share nothing moves by itself, and an operator may order it all the same.
func TestRebalanceOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		a := newAdmin(t, c)
		c.join(1, 2)
		c.share(0)
		end := c.leadFully("node-1")
		defer end()
		time.Sleep(time.Second)
		c.submitAll(six)
		c.report("active", "running")
		c.join(3)
		time.Sleep(time.Minute)
		c.expect("off", "a.service@1", "b.service@2", "c.service@1", "d.service@2", "e.service@1", "f.service@2")
		if err := a.OrderRebalance(t.Context(), api.RebalanceOrder{MaxMoves: 1}); err != nil {
			t.Fatal(err)
		}
		for range 5 {
			time.Sleep(5 * time.Second)
			c.report("active", "running")
		}
		c.expect("one move was ordered", "a.service@3", "b.service@2", "c.service@1", "d.service@2", "e.service@1", "f.service@2")
		if err := a.OrderRebalance(t.Context(), api.RebalanceOrder{}); err != nil {
			t.Fatal(err)
		}
		for range 5 {
			time.Sleep(5 * time.Second)
			c.report("active", "running")
		}
		c.expect("all that gain something", "a.service@3", "b.service@3", "c.service@1", "d.service@2", "e.service@1", "f.service@2")
	})
}
