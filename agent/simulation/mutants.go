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
)

// Mutants are all of them.
var Mutants = []Mutant{NoFence, EmptyStops, LosesEvents, LosesWrites}

// unfenced is a leader's commit without its fence.
func unfenced(c store.Commit) store.Commit {
	c.Guards = slices.DeleteFunc(slices.Clone(c.Guards), func(g store.Guard) bool {
		return strings.HasPrefix(g.Key, store.PrefixLeader) && !strings.HasPrefix(c.Ops[0].Key, store.PrefixLeader)
	})
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
