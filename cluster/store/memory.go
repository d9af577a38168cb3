package store

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// memoryHistory is how many revisions a Memory keeps for watches that begin in the past; older ones are compacted.
const memoryHistory = 100_000

// Memory is a store in this process, for tests and simulations. It keeps the promises of Store, and breaks on request
// what networks break: see MemoryClient. All of its waiting is done with timers of package time, so that it runs under
// testing/synctest.
//
// A Memory is itself a client; further ones come from Client.
type Memory struct {
	*MemoryClient
}

// NewMemory makes an empty store. now is the clock by which sessions expire; time.Now will do, under synctest too.
func NewMemory(now func() time.Time) *Memory {
	engine := &memoryEngine{
		now:      now,
		quorum:   true,
		revision: 1, // as etcd begins
		items:    make(map[string]Item),
		leases:   make(map[int64]*memoryLease),
		watches:  make(map[string][]*memoryWatch),
	}
	return &Memory{MemoryClient: newMemoryClient(engine)}
}

// Client returns another client of the same store.
func (m *Memory) Client() *MemoryClient { return newMemoryClient(m.engine) }

// Compact forgets revisions below the given one, as etcd does. Watches that have not come so far end with ErrCompacted.
func (m *Memory) Compact(revision int64) {
	m.engine.mu.Lock()
	defer m.engine.mu.Unlock()
	m.engine.compact(min(revision, m.engine.revision))
}

// SetQuorum takes the store's quorum away or gives it back. Without quorum only RangeStale works and no session expires;
// when it is back each session has its whole ttl again.
func (m *Memory) SetQuorum(quorum bool) {
	e := m.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	if quorum && !e.quorum {
		for _, lease := range e.leases {
			lease.extend()
		}
	}
	e.quorum = quorum
}

// memoryEngine is the state that clients share.
type memoryEngine struct {
	now func() time.Time

	mu        sync.Mutex
	quorum    bool
	revision  int64
	compacted int64 // revisions below are gone
	items     map[string]Item
	keys      []string // of items, sorted
	history   []Change // one per revision, ascending
	leases    map[int64]*memoryLease
	lastLease int64

	watches map[string][]*memoryWatch // by prefix
	lengths []int                     // of the prefixes in watches, sorted
}

// read returns the items below a prefix. mu is held.
func (e *memoryEngine) read(prefix string) View {
	view := View{Revision: e.revision}
	i, _ := slices.BinarySearch(e.keys, prefix)
	for ; i < len(e.keys) && strings.HasPrefix(e.keys[i], prefix); i++ {
		view.Items = append(view.Items, e.items[e.keys[i]])
	}
	return view
}

// commit checks the guards and writes. mu is held.
func (e *memoryEngine) commit(c Commit) (int64, error) {
	for _, g := range c.Guards {
		item := e.items[g.Key]
		have := item.ModRevision
		if g.Kind == GuardCreateRevision {
			have = item.CreateRevision
		}
		if have != g.Revision {
			return 0, fmt.Errorf("cannot commit: %w: %s is at revision %d, not %d", ErrConflict, g.Key, have, g.Revision)
		}
	}
	for _, op := range c.Ops {
		if op.Session != 0 && e.leases[op.Session] == nil {
			return 0, fmt.Errorf("cannot commit: %w: %x", ErrSessionLost, op.Session)
		}
	}
	e.apply(c.Ops)
	return e.revision, nil
}

// apply writes ops in a revision of its own, if they change anything. mu is held.
func (e *memoryEngine) apply(ops []Op) {
	rev := e.revision + 1
	var events []Event
	for _, op := range ops {
		switch {
		case op.Prefix:
			for _, item := range e.read(op.Key).Items {
				events = e.remove(item.Key, rev, events)
			}
		case op.Delete:
			events = e.remove(op.Key, rev, events)
		default:
			events = append(events, Event{Item: e.put(op, rev)})
		}
	}
	if len(events) == 0 {
		return
	}
	e.revision = rev
	e.history = append(e.history, Change{Revision: rev, Events: events})
	if len(e.history) > memoryHistory {
		e.compact(e.history[len(e.history)/2].Revision)
	}
	e.notify(e.revision, events)
}

func (e *memoryEngine) put(op Op, rev int64) Item {
	item := Item{
		Key: op.Key, Value: slices.Clone(op.Value),
		CreateRevision: rev, ModRevision: rev, Session: op.Session,
	}
	if old, ok := e.items[op.Key]; ok {
		item.CreateRevision = old.CreateRevision
		e.detach(old)
	} else {
		i, _ := slices.BinarySearch(e.keys, op.Key)
		e.keys = slices.Insert(e.keys, i, op.Key)
	}
	if op.Session != 0 {
		e.leases[op.Session].keys[op.Key] = true
	}
	e.items[op.Key] = item
	return item
}

func (e *memoryEngine) remove(key string, rev int64, events []Event) []Event {
	item, ok := e.items[key]
	if !ok {
		return events
	}
	e.detach(item)
	delete(e.items, key)
	i, _ := slices.BinarySearch(e.keys, key)
	e.keys = slices.Delete(e.keys, i, i+1)
	return append(events, Event{Item: Item{Key: key, ModRevision: rev}, Deleted: true})
}

// detach takes an item from its session.
func (e *memoryEngine) detach(item Item) {
	if lease := e.leases[item.Session]; lease != nil {
		delete(lease.keys, item.Key)
	}
}

// compact forgets history. mu is held.
func (e *memoryEngine) compact(revision int64) {
	if revision <= e.compacted {
		return
	}
	e.compacted = revision
	i, _ := slices.BinarySearchFunc(e.history, revision, func(c Change, rev int64) int {
		return int(c.Revision - rev)
	})
	e.history = slices.Clone(e.history[i:])
}
