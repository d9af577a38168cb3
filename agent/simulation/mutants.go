package simulation

import (
	"slices"
	"strings"

	"github.com/musterhq/muster/cluster/store"
)

// Mutant is a muster, or a store, that is broken on purpose, to see that the simulation finds it.
type Mutant string

// The mutants.
const (
	NoFence     Mutant = "leaders write without a fence"
	EmptyStops  Mutant = "a schedule that is gone is taken for an empty one"
	LosesEvents Mutant = "what changes during a partition is not told after it"
	LosesWrites Mutant = "writes are acknowledged and lost"

	// Of units of Singleton=strict.
	NoGuard     Mutant = "nobody kills strict units for a musterd that is frozen or gone"
	LateStart   Mutant = "a strict unit starts without a look at the clock"
	WallClock   Mutant = "hosts measure time by the wall clock"
	FromAnswer  Mutant = "a host counts its hold from the answer to its sign of life, not from when it sent it"
	IgnoresHold Mutant = "the leader does not wait until a host cannot go on"
	NotLeft     Mutant = "the leader does not wait until a host has told that it gave a unit up"
	OldReads    Mutant = "a schedule that is read is the one before, and passes for the latest"
	NoAbsence   Mutant = "the leader takes units from a host that was away without a look whether it is back"
	Uncounted   Mutant = "hosts do not say that they were back in between"
)

// Mutants are all of them.
var Mutants = []Mutant{
	NoFence, EmptyStops, LosesEvents, LosesWrites,
	NoGuard, LateStart, WallClock, FromAnswer, IgnoresHold, NotLeft, OldReads, NoAbsence, Uncounted,
}

// own is a fault that shows what a mutant breaks, nil if it has none of its own.
func (w *world) own() *fault {
	m := w.machines[w.rng.IntN(len(w.machines))]
	switch w.Mutant {
	case IgnoresHold:
		return w.with(store.PartitionStrict, m).unheld()
	case NoAbsence:
		return w.returned(m, false)
	case Uncounted:
		return w.returned(m, true)
	}
	return nil
}

// unguarded is a commit to schedules without its guards on keys with any of the prefixes.
func unguarded(c store.Commit, prefixes ...string) store.Commit {
	if !strings.HasPrefix(c.Ops[0].Key, store.PrefixSchedule) {
		return c
	}
	c.Guards = slices.DeleteFunc(slices.Clone(c.Guards), func(g store.Guard) bool {
		return slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(g.Key, prefix) })
	})
	return c
}

// misquoted is a commit in which hosts say of themselves that they hold strict units for no time, have given up what they
// are to give up, or were never announced before.
func (s *server) misquoted(c store.Commit) store.Commit {
	c.Ops = slices.Clone(c.Ops)
	for i, op := range c.Ops {
		id, is := store.KeyName(store.PrefixHosts, op.Key)
		record, err := store.Unmarshal[store.HostRecord](op.Value)
		if !is || err != nil {
			continue
		}
		switch s.Mutant {
		case IgnoresHold:
			record.HoldMillis = 1
		case NotLeft:
			record.Left = s.leaving(id)
		case Uncounted:
			record.Announced = 0
		}
		if c.Ops[i].Value, err = store.Marshal(record); err != nil {
			s.fail("the simulation cannot write: %v", err)
		}
	}
	return c
}

// leaving are the units that a host was told to give up.
func (s *server) leaving(id string) map[string]int64 {
	left := map[string]int64{}
	for _, u := range s.tables.Schedule[id].Record.Units {
		if u.Leaving != 0 {
			left[u.Name] = u.Leaving
		}
	}
	return left
}

// disregard has the records of hosts say that they gave up whatever a commit tells them to give up.
func (s *server) disregard(c store.Commit) {
	for _, op := range c.Ops {
		id, is := store.KeyName(store.PrefixSchedule, op.Key)
		if host, known := s.tables.Hosts[id]; is && known && len(s.leaving(id)) > 0 {
			record := host.Record
			record.Left = s.leaving(id)
			data, err := store.Marshal(record)
			if err != nil {
				s.fail("the simulation cannot write: %v", err)
				return
			}
			s.write(store.Put(store.HostKey(id), data))
		}
	}
}

// mutated is a commit as the run's mutant makes it.
func (s *server) mutated(c store.Commit) store.Commit {
	switch s.Mutant {
	case NoFence:
		return unguarded(c, store.PrefixLeader)
	case NoAbsence:
		return unguarded(c, store.PrefixAlive, store.PrefixHosts)
	case IgnoresHold, NotLeft, Uncounted:
		return s.misquoted(c)
	}
	return c
}

// emptied is a change in which a schedule that was deleted has become an empty one.
func emptied(c store.Change) (store.Change, error) {
	c.Events = slices.Clone(c.Events)
	for i, e := range c.Events {
		if e.Deleted && strings.HasPrefix(e.Key, store.PrefixSchedule) {
			data, err := store.Marshal(store.ScheduleRecord{Units: []store.ScheduledUnit{}})
			if err != nil {
				return c, err
			}
			c.Events[i] = store.Event{Item: store.Item{Key: e.Key, Value: data, ModRevision: e.ModRevision, CreateRevision: e.ModRevision}}
		}
	}
	return c, nil
}
