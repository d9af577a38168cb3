package fleet

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/store"
)

// Record is a decoded record and the revision that wrote it, for guards.
type Record[T any] struct {
	Value    T
	Revision int64
}

// View is the cluster's records. Maps are by what follows the prefix in the key: host ID, unit name, hash.
type View struct {
	Cluster  Record[store.Cluster]
	Roster   map[string]Record[store.RosterRecord]
	Hosts    map[string]Record[store.HostRecord] // what hosts that were seen at least once say of themselves
	Alive    map[string]Record[store.Alive]
	Units    map[string]Record[store.UnitRecord]
	Schedule map[string]Record[store.ScheduleRecord]
	States   map[string]Record[store.StatesRecord]
	Tokens   map[string]Record[store.Token]
	// Unreadable says what is wrong with records that could not be decoded, by key.
	Unreadable map[string]error
	// candidates are the keys of the election of the scheduling leader: key → name and creation.
	candidates map[string]candidate
}

type candidate struct {
	name    string
	created int64
}

// NewView makes an empty view.
func NewView() *View {
	return &View{
		Roster:     map[string]Record[store.RosterRecord]{},
		Hosts:      map[string]Record[store.HostRecord]{},
		Alive:      map[string]Record[store.Alive]{},
		Units:      map[string]Record[store.UnitRecord]{},
		Schedule:   map[string]Record[store.ScheduleRecord]{},
		States:     map[string]Record[store.StatesRecord]{},
		Tokens:     map[string]Record[store.Token]{},
		Unreadable: map[string]error{},
		candidates: map[string]candidate{},
	}
}

// kinds is how records of each prefix are taken into a view.
var kinds = []struct {
	prefix string
	apply  func(v *View, name string, e store.Event) error
}{
	{store.PrefixRoster, func(v *View, name string, e store.Event) error {
		return update(v.Roster, name, e, store.Unmarshal[store.RosterRecord])
	}},
	{store.PrefixHosts, func(v *View, name string, e store.Event) error {
		return update(v.Hosts, name, e, store.Unmarshal[store.HostRecord])
	}},
	{store.PrefixAlive, func(v *View, name string, e store.Event) error {
		return update(v.Alive, name, e, store.Unmarshal[store.Alive])
	}},
	{store.PrefixUnits, func(v *View, name string, e store.Event) error {
		return update(v.Units, name, e, store.Unmarshal[store.UnitRecord])
	}},
	{store.PrefixSchedule, func(v *View, name string, e store.Event) error {
		return update(v.Schedule, name, e, store.Unmarshal[store.ScheduleRecord])
	}},
	{store.PrefixStates, func(v *View, name string, e store.Event) error {
		return update(v.States, name, e, store.Unmarshal[store.StatesRecord])
	}},
	{store.PrefixTokens, func(v *View, name string, e store.Event) error {
		return update(v.Tokens, name, e, store.Unmarshal[store.Token])
	}},
}

// update takes one change of one record. A change older than what is known is passed over: the view's owner may have
// written since. What cannot be decoded is gone from the map: nothing may be decided from what it said before.
func update[T any](m map[string]Record[T], name string, e store.Event, decode func([]byte) (T, error)) error {
	if known, ok := m[name]; ok && known.Revision > e.ModRevision {
		return nil
	}
	if e.Deleted {
		delete(m, name)
		return nil
	}
	value, err := decode(e.Value)
	if err != nil {
		delete(m, name)
		return err
	}
	m[name] = Record[T]{Value: value, Revision: e.ModRevision}
	return nil
}

// Apply takes one change of any key into the view. Keys of other prefixes are passed over.
func (v *View) Apply(e store.Event) {
	delete(v.Unreadable, e.Key)
	if err := v.apply(e); err != nil {
		v.Unreadable[e.Key] = err
	}
}

func (v *View) apply(e store.Event) error {
	if e.Key == store.KeyCluster {
		return v.applyCluster(e)
	}
	if _, ok := store.KeyName(store.PrefixLeader, e.Key); ok {
		v.applyCandidate(e)
		return nil
	}
	for _, k := range kinds {
		if name, ok := store.KeyName(k.prefix, e.Key); ok {
			return k.apply(v, name, e)
		}
	}
	return nil
}

func (v *View) applyCluster(e store.Event) error {
	v.Cluster = Record[store.Cluster]{}
	if e.Deleted {
		return nil
	}
	value, err := store.Unmarshal[store.Cluster](e.Value)
	if err != nil {
		return err
	}
	v.Cluster = Record[store.Cluster]{Value: value, Revision: e.ModRevision}
	return nil
}

func (v *View) applyCandidate(e store.Event) {
	if e.Deleted {
		delete(v.candidates, e.Key)
		return
	}
	v.candidates[e.Key] = candidate{name: string(e.Value), created: e.CreateRevision}
}

// Leader is the name under which the scheduling leader campaigned, "" while there is none: the candidate whose key is
// the oldest (store.Campaign).
func (v *View) Leader() string {
	first := candidate{}
	for _, c := range v.candidates {
		if first.created == 0 || c.created < first.created {
			first = c
		}
	}
	return first.name
}

// Members is the roster, sorted by name.
func (v *View) Members() roster.Roster {
	members := make(roster.Roster, 0, len(v.Roster))
	for _, r := range v.Roster {
		members = append(members, r.Value.Host)
	}
	slices.SortFunc(members, func(a, b roster.Host) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Generation, b.Generation))
	})
	return members
}

// Ready reports whether a host is a member that lives.
func (v *View) Ready(id string) bool {
	_, member := v.Roster[id]
	_, alive := v.Alive[id]
	return member && alive
}

// Seen reports whether a host has ever said anything of itself.
func (v *View) Seen(id string) bool {
	_, seen := v.Hosts[id]
	return seen
}

// unreadable renders View.Unreadable in a stable order.
func (v *View) unreadable() []string {
	var lines []string
	for _, key := range slices.Sorted(maps.Keys(v.Unreadable)) {
		lines = append(lines, fmt.Sprintf("%s is left out: %v", key, v.Unreadable[key]))
	}
	return lines
}
