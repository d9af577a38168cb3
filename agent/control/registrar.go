package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/musterhq/muster/agent/pause"
	"github.com/musterhq/muster/cluster/membership"
	"github.com/musterhq/muster/cluster/store"
)

// How often etcd's members are looked at: after a change of them, while another may be due, and otherwise.
const (
	membersNext  = 100 * time.Millisecond
	membersSoon  = 500 * time.Millisecond
	membersEvery = 5 * time.Second
)

// registrarPrefixes are what the registrar decides from, beside etcd's members and the roster.
var registrarPrefixes = []string{store.PrefixAlive, store.PrefixOrders, store.PrefixRoster, store.KeyCluster}

// Registrar is the leader's duty to keep the voters whole: it brings etcd's members in line with the roster, and has standby
// hosts take the places of voters that stay silent. Steps of etcd's members cannot carry the fence; each is decided from
// what is true at that moment, and would be the same for any leader. Those of the roster do carry it.
type Registrar struct {
	Store store.Store
	// Step is voter.Control.Step.
	Step func(ctx context.Context, complete func(*membership.View)) (membership.Step, error)
	Now  func() time.Time // of a clock that does not go back
	Log  *slog.Logger
}

// Run looks after every change of the roster and now and then, until ctx ends.
func (r *Registrar) Run(ctx context.Context, fence store.Guard) error {
	between := pause.New(longestPause)
	for {
		err := r.watch(ctx, fence)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, store.ErrDenied) {
			return err
		}
		r.Log.Warn("looking after the voters begins anew", "err", err)
		if err := between.Wait(ctx); err != nil {
			return err
		}
	}
}

func (r *Registrar) watch(ctx context.Context, fence store.Guard) error {
	o := &outlook{now: r.Now, hosts: map[string]spell{}}
	changed := make(chan struct{}, 1)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return store.Follow(ctx, r.Store, registrarPrefixes, pace, func(t *store.Tables) error {
			o.read(t)
			select {
			case changed <- struct{}{}:
			default:
			}
			return nil
		})
	})
	g.Go(func() error { return r.loop(ctx, fence, o, changed) })
	return g.Wait()
}

func (r *Registrar) loop(ctx context.Context, fence store.Guard, o *outlook, changed <-chan struct{}) error {
	timer := time.NewTimer(membersEvery) // the first table comes before
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		case <-timer.C:
		}
		timer.Reset(r.once(ctx, fence, o))
	}
}

// once does the next step, if there is one, and says when to look again.
func (r *Registrar) once(ctx context.Context, fence store.Guard, o *outlook) time.Duration {
	step, err := r.Step(ctx, o.complete)
	if err == nil {
		err = r.record(ctx, fence, step)
	}
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, store.ErrConflict):
		return membersSoon
	case err != nil:
		r.Log.Warn("cannot bring etcd's members in line with the roster", "err", err)
		return membersSoon
	case step.Kind != membership.None:
		return membersNext
	case waits(step):
		return membersSoon
	}
	return membersEvery
}

// waits reports whether a step is not made although one is due, or is about to be.
func waits(s membership.Step) bool {
	return s.Kind == membership.None && (s.Host != "" || s.Member != 0)
}

// record carries out a step of the roster, and writes what was done, or what it waits for, for people to read. A crash
// between a step of etcd's members and its record loses the record alone.
func (r *Registrar) record(ctx context.Context, fence store.Guard, s membership.Step) error {
	item, err := r.Store.Get(ctx, store.KeyVoters)
	if err != nil {
		return err
	}
	var was store.VotersRecord
	if item.ModRevision != 0 {
		if was, err = store.Unmarshal[store.VotersRecord](item.Value); err != nil {
			return err
		}
	}
	is := was
	if is.Waits = ""; waits(s) {
		is.Waits = s.Reason
	}
	c := store.Commit{Guards: []store.Guard{fence, unmodified(store.KeyVoters, item)}}
	name, err := r.seat(ctx, s, &c)
	if err != nil {
		return err
	}
	if did := did(s, name); did.Did != "" {
		did.At = time.Now().UTC().Truncate(time.Second)
		is = is.With(did)
	}
	if len(c.Ops) == 0 && is.Waits == was.Waits && s.Kind == membership.None {
		return nil
	}
	data, err := store.Marshal(is)
	if err != nil {
		return err
	}
	c.Ops = append(c.Ops, store.Put(store.KeyVoters, data))
	if _, err = r.Store.Commit(ctx, c); err != nil {
		return fmt.Errorf("cannot %s: %w", s.Kind, err)
	}
	if is.Waits != was.Waits && is.Waits != "" {
		r.Log.Info("a change of etcd's members waits", "host", s.Host, "reason", s.Reason)
	}
	if s.Kind.OfRoster() {
		r.Log.Info("change who votes", "step", s.Kind.String(), "host", s.Host, "successor", s.Successor, "reason", s.Reason)
	}
	return nil
}

// names are those of the hosts of a step.
type names struct{ host, successor string }

// seat adds to a commit what a step changes in the roster, on condition that nobody else does.
func (r *Registrar) seat(ctx context.Context, s membership.Step, c *store.Commit) (names, error) {
	var n names
	confirmed := s.Kind == membership.Confirm
	for _, role := range []struct {
		id               string
		name             *string
		votes, appointed bool
	}{{s.Host, &n.host, confirmed, false}, {s.Successor, &n.successor, false, true}} {
		if role.id == "" {
			continue
		}
		item, err := r.Store.Get(ctx, store.RosterKey(role.id))
		if err != nil {
			return n, err
		}
		if item.ModRevision == 0 {
			*role.name = role.id // it has left
			continue
		}
		record, err := store.Unmarshal[store.RosterRecord](item.Value)
		if err != nil {
			return n, err
		}
		*role.name = record.Name
		if !s.Kind.OfRoster() {
			continue
		}
		if record.Voter && role.appointed || role.appointed && record.Barred || confirmed && !record.Appointed {
			return n, fmt.Errorf("host %s: %w", record.Name, store.ErrConflict)
		}
		record.Voter, record.Appointed = role.votes, role.appointed
		data, err := store.Marshal(record)
		if err != nil {
			return n, err
		}
		c.Guards = append(c.Guards, unmodified(item.Key, item))
		c.Ops = append(c.Ops, store.Put(item.Key, data))
	}
	return n, nil
}

// did is a step in words for the operator, without Did for one that is not worth telling.
func did(s membership.Step, n names) store.VoterChange {
	c := store.VoterChange{Host: n.host, Reason: s.Reason}
	switch s.Kind {
	case membership.Replace:
		c.Host, c.Did = n.successor, "takes the place of "+n.host
	case membership.Appoint:
		c.Host, c.Did = n.successor, "shall vote"
	case membership.Retire:
		c.Did = "shall vote no more"
	case membership.Confirm:
		c.Did = "votes"
	case membership.RemoveMember:
		c.Did = "votes no more"
	}
	return c
}

// outlook is what the registrar knows of hosts beside etcd's members, and for how long things have been as they are, since
// it began to look: a leader that is new waits longer than need be, never shorter.
type outlook struct {
	now func() time.Time

	mu      sync.Mutex
	alive   map[string]bool // guarded by mu, as are:
	leaving map[string]bool
	cluster store.Cluster

	hosts  map[string]spell
	vacant spell
}

// spell is how something is, and since when.
type spell struct {
	is    bool
	since time.Time
}

// read takes in records.
func (o *outlook) read(t *store.Tables) {
	alive, leaving := make(map[string]bool, len(t.Alive)), make(map[string]bool, len(t.Orders))
	for id := range t.Alive {
		alive[id] = true
	}
	for id := range t.Orders {
		leaving[id] = true
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.alive, o.leaving, o.cluster = alive, leaving, t.Cluster.Record
}

// complete is the view with what the outlook adds.
func (o *outlook) complete(v *membership.View) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now, member, known := o.now(), map[string]bool{}, map[string]bool{}
	for _, m := range v.Members {
		member[m.Host] = true
	}
	seats := 0
	for i := range v.Hosts {
		h := &v.Hosts[i]
		known[h.ID] = true
		if !h.Votes || !member[h.ID] {
			h.Ready = o.alive[h.ID]
		}
		h.Leaving = o.leaving[h.ID]
		o.hosts[h.ID] = o.hosts[h.ID].next(h.Ready, now)
		h.For = now.Sub(o.hosts[h.ID].since)
		if h.Votes {
			seats++
		}
	}
	for id := range o.hosts {
		if !known[id] {
			delete(o.hosts, id)
		}
	}
	v.Wanted, v.Grace = o.cluster.Voters, o.cluster.VoterGrace()
	if o.vacant = o.vacant.next(seats < v.Wanted, now); o.vacant.is {
		v.Vacant = now.Sub(o.vacant.since)
	}
}

func (s spell) next(is bool, now time.Time) spell {
	if s.since.IsZero() || s.is != is {
		return spell{is, now}
	}
	return s
}
