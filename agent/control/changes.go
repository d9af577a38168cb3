package control

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/musterhq/muster/agent/fleet"
	"github.com/musterhq/muster/cluster/store"
)

// change is what becomes of one host's schedule: some of its parts, written in one commit.
type change struct {
	host     string
	parts    []part
	revision int64 // of the commit, once it is made
	gone     bool  // the host has left the roster
	gains    bool  // the schedule has units that it had not
	forfeits bool  // it loses strict units that may be lost only while the host has no session
	said     int64 // the revision of what the host says of itself, with which that was decided
}

// part is what becomes of one record of a host's schedule.
type part struct {
	number   int
	revision int64                // of the record that it replaces, 0 for none
	record   store.ScheduleRecord // without Units: none
}

// in says whether a view has the change, which was made at its revision.
func (c change) in(v fleet.View) bool {
	entry, there := v.Schedule[c.host]
	return there && entry.Revision >= c.revision || c.gone && !there
}

// diff compares the schedules with those that are to be. Those that only lose units come first, so that units leave
// before they arrive even when the changes are too many for one commit.
func diff(v fleet.View, want map[string]store.ScheduleRecord) []change {
	var changes []change
	for id, record := range want {
		was := v.Schedule[id]
		if was.Revision != 0 && slices.EqualFunc(was.Record.Units, record.Units, store.ScheduledUnit.Equal) {
			continue
		}
		if parts := partsOf(v, id, store.Repack(v.Parts[id], record.Units)); len(parts) > 0 {
			c := change{host: id, parts: parts, gains: gains(was.Record, record), forfeits: v.Forfeits(id, record.Units), said: v.Hosts[id].Revision}
			c.gains = c.gains && !c.forfeits // others get what it loses
			changes = append(changes, c)
		}
	}
	for id := range v.Schedule {
		if _, stays := want[id]; stays {
			continue
		}
		none := make(map[int]store.ScheduleRecord)
		for number := range v.Parts[id] {
			none[number] = store.ScheduleRecord{}
		}
		changes = append(changes, change{
			host: id, parts: partsOf(v, id, none), gone: true, forfeits: v.Forfeits(id, nil), said: v.Hosts[id].Revision,
		})
	}
	slices.SortFunc(changes, func(a, b change) int {
		if a.gains != b.gains {
			if b.gains {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.host, b.host)
	})
	return changes
}

// partsOf orders parts: new ones first, and then those that go last, so that a unit that goes from one to another is always
// in one of them.
func partsOf(v fleet.View, id string, records map[int]store.ScheduleRecord) []part {
	parts := make([]part, 0, len(records))
	for _, number := range slices.Sorted(maps.Keys(records)) {
		parts = append(parts, part{number: number, revision: v.Parts[id][number].Revision, record: records[number]})
	}
	rank := func(p part) int {
		switch {
		case p.record.Units == nil:
			return 2
		case p.revision != 0:
			return 1
		}
		return 0
	}
	slices.SortStableFunc(parts, func(a, b part) int { return rank(a) - rank(b) })
	return parts
}

// gains says whether the record has units, or instances, that were not there.
func gains(was, is store.ScheduleRecord) bool {
	return slices.ContainsFunc(is.Units, func(u store.ScheduledUnit) bool {
		i, had := slices.BinarySearchFunc(was.Units, u.Name, func(w store.ScheduledUnit, name string) int {
			return cmp.Compare(w.Name, name)
		})
		if u.Instances == nil {
			return !had
		}
		rest := u.Instances
		for ; i < len(was.Units) && was.Units[i].Name == u.Name; i++ {
			rest = rest.Minus(was.Units[i].Instances)
		}
		return len(rest) > 0
	})
}

// maxParts is how many parts a commit may have: each has a guard, besides the fence, one for a host that has left and two
// for a host without a session.
const maxParts = store.MaxOps - 4

// batches cuts changes into commits, hosts that lose units apart from hosts that gain some. A host with too many parts for
// one commit is a batch of its own.
func batches(changes []change) [][]change {
	var all [][]change
	room := 0
	for i, c := range changes {
		need := len(c.parts)
		if c.gone {
			need++
		}
		if c.forfeits {
			need += 2
		}
		if room < need || i > 0 && changes[i-1].gains != c.gains {
			all, room = append(all, nil), maxParts
		}
		all[len(all)-1] = append(all[len(all)-1], c)
		room -= need
	}
	return all
}

// writers is how many commits are under way at once. etcd puts those that come together into one write of its log.
const writers = 8

// writeAll makes the changes: those that only take units away before the others, and otherwise side by side.
func (s *schedulerRound) writeAll(ctx context.Context, changes []change) error {
	all := batches(changes)
	first, _ := slices.BinarySearchFunc(all, true, func(batch []change, gains bool) int {
		if batch[0].gains == gains {
			return 0
		}
		return -1
	})
	for _, some := range [][][]change{all[:first], all[first:]} {
		if err := s.writeBatches(ctx, some); err != nil {
			return err
		}
	}
	return nil
}

func (s *schedulerRound) writeBatches(ctx context.Context, all [][]change) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(writers)
	var mu sync.Mutex
	for _, batch := range all {
		g.Go(func() error {
			revision, err := s.write(ctx, batch)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			s.wrote = true
			for _, c := range batch {
				c.revision = revision
				s.unseen[c.host] = c
			}
			return nil
		})
	}
	return g.Wait()
}

// write makes some hosts' changes, in one commit unless a single host has too many parts.
func (s *schedulerRound) write(ctx context.Context, batch []change) (revision int64, err error) {
	for len(batch) == 1 && len(batch[0].parts) > maxParts {
		first := batch[0]
		first.parts = first.parts[:maxParts]
		if _, err := s.commit(ctx, []change{first}); err != nil {
			return 0, err
		}
		rest := batch[0]
		rest.parts = rest.parts[maxParts:]
		batch = []change{rest}
	}
	return s.commit(ctx, batch)
}

func (s *schedulerRound) commit(ctx context.Context, batch []change) (revision int64, err error) {
	c := store.Commit{Guards: []store.Guard{s.fence}}
	for _, ch := range batch {
		if ch.gone {
			c.Guards = append(c.Guards, store.Guard{Key: store.RosterKey(ch.host), Kind: store.GuardModRevision})
		}
		if ch.forfeits { // it has no session, and had none since that was decided
			c.Guards = append(c.Guards, store.Guard{Key: store.AliveKey(ch.host), Kind: store.GuardModRevision},
				store.Guard{Key: store.HostKey(ch.host), Kind: store.GuardModRevision, Revision: ch.said})
		}
		for _, p := range ch.parts {
			key := store.PartKey(store.ScheduleKey(ch.host), p.number)
			c.Guards = append(c.Guards, store.Guard{Key: key, Kind: store.GuardModRevision, Revision: p.revision})
			if p.record.Units == nil {
				c.Ops = append(c.Ops, store.Delete(key))
				continue
			}
			data, err := store.Marshal(p.record)
			if err != nil {
				return 0, err
			}
			c.Ops = append(c.Ops, store.Put(key, data))
		}
	}
	return s.Store.Commit(ctx, c)
}
