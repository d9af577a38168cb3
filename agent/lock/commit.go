package lock

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/musterhq/muster/cluster/store"
)

// Prefixes are what a lock is decided from: the last one says whether voters may cost quorum. The groups and the turn are one
// prefix, and so of one revision.
var Prefixes = []string{
	store.KeyLock, store.PrefixReboots, store.PrefixAlive, store.PrefixRoster, store.UpdateKey(store.UpdateGroup),
}

// batch is how many hosts may change in one step. Each takes one operation of a commit, beside two.
const batch = store.MaxOps - 8

// Load reads what a lock is decided from. What it reads first is the oldest.
func Load(ctx context.Context, s store.Store) (*store.Tables, error) {
	t := store.NewTables()
	for _, prefix := range Prefixes {
		view, err := s.Range(ctx, prefix)
		if err != nil {
			return nil, fmt.Errorf("cannot read the reboot lock: %w", err)
		}
		t.Read(view)
	}
	return t, nil
}

// ViewOf is what Decide looks at. voters have Host, Healthy and Leader; the roster tells the rest.
func ViewOf(t *store.Tables, voters []Voter, now time.Time) View {
	v := View{
		Groups: map[string]store.LockRecord{}, Requests: map[string]Request{}, Members: map[string]Member{},
		Votes: map[string]bool{}, Now: now.UTC(), AllowOutage: t.Updates[store.UpdateGroup].Record.Settings.AllowOutage,
	}
	for group, g := range t.Locks {
		v.Groups[group] = g.Record
	}
	for id, r := range t.Reboots {
		v.Requests[id] = Request{Record: r.Record, Revision: r.Revision}
	}
	for id, h := range t.Roster {
		_, alive := t.Alive[id]
		v.Members[id] = Member{Name: h.Record.Name, Ready: alive}
		if h.Record.Voter {
			v.Votes[id] = true
		}
	}
	for _, voter := range voters {
		h := t.Roster[voter.Host].Record
		voter.Name, voter.Provider = h.Name, h.Provider
		if h.Name == "" {
			voter.Name = voter.Host
		}
		v.Voters = append(v.Voters, voter)
	}
	return v
}

// unreadable says which record of a lock cannot be read. Nothing is decided then: who holds it may stand in there.
func unreadable(t *store.Tables) error {
	for key, err := range t.Bad {
		if key == store.KeyLock || strings.HasPrefix(key, store.PrefixLock) {
			return fmt.Errorf("cannot use the reboot lock: %w", err)
		}
	}
	return nil
}

// commitOf is the commit that carries a step out: it compares the revisions that the step was decided from.
func commitOf(t *store.Tables, s Step, now time.Time, more ...store.Guard) (store.Commit, error) {
	c := store.Commit{Guards: append([]store.Guard{
		{Key: store.LockKey(s.Group), Kind: store.GuardModRevision, Revision: t.Locks[s.Group].Revision},
	}, more...)}
	data, err := store.Marshal(s.Record)
	if err != nil {
		return c, err
	}
	c.Ops = append(c.Ops, store.Put(store.LockKey(s.Group), data))
	granted := map[string]bool{}
	for _, h := range s.Granted {
		if h.Kind != store.HolderHost {
			continue
		}
		data, err := store.Marshal(store.GrantRecord{Group: s.Group, Boot: h.Boot, Ticket: h.Ticket})
		if err != nil {
			return c, err
		}
		granted[h.ID] = true
		c.Ops = append(c.Ops, store.Put(store.GrantKey(h.ID), data))
	}
	for _, h := range s.Released {
		if h.Kind == store.HolderHost && !granted[h.ID] {
			c.Ops = append(c.Ops, store.Delete(store.GrantKey(h.ID)))
		}
	}
	if s.Voter == "" {
		return c, nil
	}
	turn, err := store.Marshal(store.TurnRecord{Voter: s.Voter, At: now.UTC()})
	c.Guards = append(c.Guards, store.Guard{Key: store.KeyLock, Kind: store.GuardModRevision, Revision: t.Turn.Revision})
	c.Ops = append(c.Ops, store.Put(store.KeyLock, turn))
	return c, err
}

// Answer is the leader's part: it decides from tables and commits what there is to do. It returns the steps that it made,
// with the revision of each by group, and why hosts wait. After an error that is store.ErrConflict somebody else has
// changed a group in between; after another it is not known what was written.
func Answer(
	ctx context.Context, s store.Store, t *store.Tables, voters []Voter, fence store.Guard, now time.Time,
) (Decision, map[string]int64, error) {
	if err := unreadable(t); err != nil {
		return Decision{}, nil, err
	}
	d := Decide(ViewOf(t, voters, now), batch)
	made := map[string]int64{}
	for _, step := range d.Steps {
		c, err := commitOf(t, step, now, fence)
		if err != nil {
			return d, made, err
		}
		revision, err := s.Commit(ctx, c)
		if err != nil {
			return d, made, fmt.Errorf("cannot change the reboot lock of group %s: %w", step.Group, err)
		}
		made[step.Group] = revision
	}
	return d, made, nil
}
