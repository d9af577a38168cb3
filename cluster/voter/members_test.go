package voter

import (
	"errors"
	"maps"
	"testing"
	"time"

	"github.com/musterhq/muster/cluster/join"
	"github.com/musterhq/muster/cluster/membership"
	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/store"
)

// enter writes a host into the store's roster, leave takes it off.
func (c *cluster) enter(t *testing.T, control *Control, h roster.Host) {
	t.Helper()
	entry, err := store.Marshal(store.RosterRecord{Host: h})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := control.client.Put(t.Context(), store.RosterKey(h.ID), string(entry)); err != nil {
		t.Fatal(err)
	}
}

func (c *cluster) leave(t *testing.T, control *Control, h roster.Host) {
	t.Helper()
	if _, err := control.client.Delete(t.Context(), store.RosterKey(h.ID)); err != nil {
		t.Fatal(err)
	}
}

// stepUntil repeats Step until it is of a kind. The kinds before it must be None: etcd puts off, or there is nothing yet.
func stepUntil(t *testing.T, control *Control, kind membership.Kind, host string) {
	t.Helper()
	for {
		step, err := control.Step(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case step.Kind == kind && step.Host == host:
			return
		case step.Kind != membership.None:
			t.Fatalf("step %+v, want %s of %s", step, kind, host)
		}
		rest := time.NewTimer(100 * time.Millisecond)
		select {
		case <-rest.C:
		case <-t.Context().Done():
			t.Fatalf("no step to %s: %s", kind, step.Reason)
		}
	}
}

// TestReplaceVoter loses one of three voters for good and puts another in its place, with users and roles on.
func TestReplaceVoter(t *testing.T) {
	c := newCluster(t, 3, 0)
	voters := c.form(t.Context())
	control := c.control()
	for _, h := range c.hosts {
		c.enter(t, control, h)
	}
	if err := control.EnsureAuth(t.Context(), c.hosts); err != nil {
		t.Fatal(err)
	}
	if step, err := control.Step(t.Context(), nil); err != nil || step.Kind != membership.None {
		t.Fatalf("step of a healthy cluster: %+v, %v", step, err)
	}
	control.SetEndpoints([]string{c.hosts[0].ClientURL(), c.hosts[1].ClientURL()})
	gone := c.hosts[2]
	voters[2].Close()
	newcomer := c.hosts[c.addHost(true)]
	c.enter(t, control, newcomer)
	if _, err := control.Add(t.Context(), newcomer); !errors.Is(err, join.ErrNotForming) {
		t.Errorf("added while another is silent: %v", err)
	}
	if step, err := control.Step(t.Context(), nil); err != nil || step.Kind != membership.None {
		t.Errorf("a silent voter of the roster: %+v, %v", step, err)
	}
	c.leave(t, control, gone)
	stepUntil(t, control, membership.RemoveMember, gone.ID)

	role := c.admit(t, control, newcomer)
	again := c.admit(t, control, newcomer)
	if role.State != join.StateExisting || len(role.InitialCluster) != 3 || !maps.Equal(role.InitialCluster, again.InitialCluster) {
		t.Errorf("role %v, again %v", role.InitialCluster, again.InitialCluster)
	}
	role.InitialCluster[gone.ID] = gone.PeerURL() // as if it had been told before the other was removed
	v, err := Start(t.Context(), c.config(3, role))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	if err := v.WaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	stepUntil(t, control, membership.Promote, newcomer.ID)
	if step, err := control.Step(t.Context(), nil); err != nil || step.Kind != membership.None {
		t.Errorf("afterwards: %+v, %v", step, err)
	}
	voters[1].Close() // the newcomer's vote is needed now
	put(t, c.client(c.controlTLS(0), c.hosts[0].ClientURL(), newcomer.ClientURL()), "/x", "y")
}

// admit repeats Add as a joining host repeats its request.
func (c *cluster) admit(t *testing.T, control *Control, h roster.Host) join.VoterRole {
	t.Helper()
	for {
		role, err := control.Add(t.Context(), h)
		if err == nil {
			return role
		}
		if !errors.Is(err, join.ErrNotForming) {
			t.Fatal(err)
		}
		rest := time.NewTimer(100 * time.Millisecond)
		select {
		case <-rest.C:
		case <-t.Context().Done():
			t.Fatal(err)
		}
	}
}

// TestMove adds a second voter and takes the first away, which leads.
func TestMove(t *testing.T) {
	c := newCluster(t, 1, 0)
	voters := c.form(t.Context())
	control := c.control()
	c.enter(t, control, c.hosts[0])
	second := c.hosts[c.addHost(true)]
	c.enter(t, control, second)
	v, err := Start(t.Context(), c.config(1, c.admit(t, control, second)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	stepUntil(t, control, membership.Promote, second.ID)
	put(t, c.client(c.controlTLS(0)), "/x", "y")
	control.SetEndpoints([]string{second.ClientURL()})
	c.leave(t, control, c.hosts[0])
	stepUntil(t, control, membership.RemoveMember, c.hosts[0].ID)
	<-voters[0].Done() // a member that is removed stops by itself
	if got := get(t, c.client(c.controlTLS(1), second.ClientURL()), "/x"); got != "y" {
		t.Errorf("the last voter has %q", got)
	}
	c.leave(t, control, second)
	if step, err := control.Step(t.Context(), nil); err != nil || step.Kind != membership.None {
		t.Errorf("the last voter: %+v, %v", step, err)
	}
}
