package store

import (
	"bytes"
	"fmt"
)

// Entry is a record as it stands in the store.
type Entry[T any] struct {
	Record   T
	Revision int64 // ModRevision of its key, for guards
	Created  int64 // CreateRevision of its key
}

// Tables are the records of the key space, decoded and by name, as of one revision. Read and Apply fill them; who reads
// them must not change them.
type Tables struct {
	Revision int64
	Cluster  Entry[Cluster]
	Roster   map[string]Entry[RosterRecord] // by host ID
	Tokens   map[string]Entry[Token]        // by hash
	Hosts    map[string]Entry[HostRecord]   // by host ID
	Alive    map[string]Entry[Alive]        // by host ID
	Units    map[string]Entry[UnitRecord]   // by unit name
	Files    map[string][]byte              // by SHA-256
	Orders   map[string]Entry[OrderRecord]  // by host ID
	// Rebalance is of revision 0 if there was never any.
	Rebalance Entry[RebalanceRecord]
	// Voters is of revision 0 if nothing ever became of them.
	Voters  Entry[VotersRecord]
	Locks   map[string]Entry[LockRecord]   // by group
	Turn    Entry[TurnRecord]              // of revision 0 if no voter has ever had the reboot lock
	Reboots map[string]Entry[RebootRecord] // by host ID
	// Updates are by group, and HostUpdates by host ID.
	Updates     map[string]Entry[UpdateRecord]
	HostUpdates map[string]Entry[UpdateHostRecord]
	Schedule    map[string]Entry[ScheduleRecord] // by host ID: all parts together, and the revision of the last to change
	Parts       map[string]Parts                 // by host ID: the records of which Schedule is made
	States      map[string]Entry[StatesRecord]   // by host ID, likewise
	// StateParts are, by host ID, the records of which States is made.
	StateParts map[string]StateParts
	// Candidates for the scheduling leadership, by what follows PrefixLeader in their keys.
	Candidates map[string]Candidate
	// Bad says which keys hold what cannot be read, and why. They are in no other table.
	Bad map[string]error
}

// Candidate is who campaigns under a key, which was made at a revision.
type Candidate struct {
	Name    string
	Created int64
}

// Leader is the name of the candidate who leads, "" while there is none: the one whose key is the oldest (Campaign).
func (t *Tables) Leader() string {
	var first Candidate
	for _, c := range t.Candidates {
		if first.Created == 0 || c.Created < first.Created {
			first = c
		}
	}
	return first.Name
}

// NewTables returns empty tables.
func NewTables() *Tables {
	return &Tables{
		Roster: make(map[string]Entry[RosterRecord]), Tokens: make(map[string]Entry[Token]),
		Hosts: make(map[string]Entry[HostRecord]), Alive: make(map[string]Entry[Alive]),
		Units: make(map[string]Entry[UnitRecord]), Files: make(map[string][]byte),
		Orders:  make(map[string]Entry[OrderRecord]),
		Updates: make(map[string]Entry[UpdateRecord]), HostUpdates: make(map[string]Entry[UpdateHostRecord]),
		Locks: make(map[string]Entry[LockRecord]), Reboots: make(map[string]Entry[RebootRecord]),
		Schedule: make(map[string]Entry[ScheduleRecord]), States: make(map[string]Entry[StatesRecord]),
		Parts: make(map[string]Parts), StateParts: make(map[string]StateParts), Candidates: make(map[string]Candidate), Bad: make(map[string]error),
	}
}

// Read takes in the result of a Range. Keys outside the key space are ignored.
func (t *Tables) Read(view View) {
	for _, item := range view.Items {
		t.set(item)
	}
	t.Revision = max(t.Revision, view.Revision)
}

// Apply takes in what a Watch delivered.
func (t *Tables) Apply(change Change) {
	for _, e := range change.Events {
		if e.Deleted {
			t.remove(e.Key)
		} else {
			t.set(e.Item)
		}
	}
	t.Revision = max(t.Revision, change.Revision)
}

// column is the table below one prefix.
type column struct {
	prefix string
	set    func(t *Tables, name string, item Item) error
	remove func(t *Tables, name string)
}

var columns = []column{
	columnOf(PrefixRoster, func(t *Tables) map[string]Entry[RosterRecord] { return t.Roster }),
	columnOf(PrefixTokens, func(t *Tables) map[string]Entry[Token] { return t.Tokens }),
	columnOf(PrefixHosts, func(t *Tables) map[string]Entry[HostRecord] { return t.Hosts }),
	columnOf(PrefixAlive, func(t *Tables) map[string]Entry[Alive] { return t.Alive }),
	columnOf(PrefixLock, func(t *Tables) map[string]Entry[LockRecord] { return t.Locks }),
	columnOf(PrefixReboots, func(t *Tables) map[string]Entry[RebootRecord] { return t.Reboots }),
	columnOf(PrefixUpdate, func(t *Tables) map[string]Entry[UpdateRecord] { return t.Updates }),
	columnOf(PrefixUpdateHosts, func(t *Tables) map[string]Entry[UpdateHostRecord] { return t.HostUpdates }),
	columnOf(PrefixOrders, func(t *Tables) map[string]Entry[OrderRecord] { return t.Orders }),
	columnOf(PrefixUnits, func(t *Tables) map[string]Entry[UnitRecord] { return t.Units }),
	{
		prefix: PrefixFiles,
		set:    func(t *Tables, name string, item Item) error { t.Files[name] = item.Value; return nil },
		remove: func(t *Tables, name string) { delete(t.Files, name) },
	},
	{
		prefix: PrefixLeader,
		set: func(t *Tables, name string, item Item) error {
			t.Candidates[name] = Candidate{Name: string(item.Value), Created: item.CreateRevision}
			return nil
		},
		remove: func(t *Tables, name string) { delete(t.Candidates, name) },
	},
}

func columnOf[T any, P record[T]](prefix string, table func(*Tables) map[string]Entry[T]) column {
	return column{
		prefix: prefix,
		set: func(t *Tables, name string, item Item) error {
			r, err := Unmarshal[T, P](item.Value)
			if err != nil {
				return err
			}
			table(t)[name] = Entry[T]{Record: r, Revision: item.ModRevision, Created: item.CreateRevision}
			return nil
		},
		remove: func(t *Tables, name string) { delete(table(t), name) },
	}
}

func (t *Tables) set(item Item) {
	if err := t.decode(item); err != nil {
		t.remove(item.Key)
		t.Bad[item.Key] = err
		return
	}
	delete(t.Bad, item.Key)
}

func (t *Tables) decode(item Item) error {
	for _, c := range partColumns {
		if id, part, ok := partOf(c.prefix, item.Key); ok {
			if err := c.set(t, id, part, item); err != nil {
				return fmt.Errorf("%s: %w", item.Key, err)
			}
		}
	}
	switch item.Key {
	case KeyCluster:
		return decodeEntry(&t.Cluster, item)
	case KeyRebalance:
		return decodeEntry(&t.Rebalance, item)
	case KeyVoters:
		return decodeEntry(&t.Voters, item)
	case KeyLock:
		return decodeEntry(&t.Turn, item)
	}
	for _, c := range columns {
		name, ok := KeyName(c.prefix, item.Key)
		if !ok {
			continue
		}
		if err := c.set(t, name, item); err != nil {
			return fmt.Errorf("%s: %w", item.Key, err)
		}
	}
	return nil
}

func decodeEntry[T any, P record[T]](into *Entry[T], item Item) error {
	r, err := Unmarshal[T, P](item.Value)
	*into = Entry[T]{Record: r, Revision: item.ModRevision, Created: item.CreateRevision}
	return err
}

func (t *Tables) remove(key string) {
	delete(t.Bad, key)
	switch key {
	case KeyCluster:
		t.Cluster = Entry[Cluster]{}
	case KeyRebalance:
		t.Rebalance = Entry[RebalanceRecord]{}
	case KeyVoters:
		t.Voters = Entry[VotersRecord]{}
	case KeyLock:
		t.Turn = Entry[TurnRecord]{}
	}
	for _, c := range partColumns {
		if id, part, ok := partOf(c.prefix, key); ok {
			c.remove(t, id, part)
		}
	}
	for _, c := range columns {
		if name, ok := KeyName(c.prefix, key); ok {
			c.remove(t, name)
		}
	}
}

// File returns a unit file's contents if they are there and are what their name says.
func (t *Tables) File(sum string) ([]byte, bool) {
	content, ok := t.Files[sum]
	if !ok || FileSum(content) != sum {
		return nil, false
	}
	return bytes.Clone(content), true
}
