package simulation

import (
	"hash/fnv"
	"slices"
	"strings"
	"time"

	"github.com/musterhq/muster/cluster/store"
)

// server is the store as voters run it together. It has no place of its own: who reaches it, and whether it has a quorum,
// are faults apart. Its clock is the true one.
type server struct {
	*world
	memory  *store.Memory
	changes <-chan store.Change
	log     []store.Change // every change, ascending
	tables  *store.Tables
	without int // quorums that were taken away
	leases  []*grant
	watches []*watch
}

func newServer(w *world) *server {
	s := &server{world: w, memory: store.NewMemory(time.Now), tables: store.NewTables()}
	s.changes = s.memory.Watch(w.ctx, store.Prefix, 1)
	return s
}

func (s *server) close() { _ = s.memory.Close() }

// commit writes what a process asks for, which must be in its right.
func (s *server) commit(p *process, c store.Commit) (int64, error) {
	right := s.check.right(c)
	c = s.mutated(c)
	if s.Mutant == LosesWrites && s.rng.IntN(20) == 0 {
		return s.tables.Revision, nil
	}
	revision, err := s.memory.Commit(s.ctx, c)
	if err != nil {
		return 0, err
	}
	if right != "" {
		s.fail("%s: %s", p.machine.host.Name, right)
	}
	s.spread()
	if s.Mutant == NotLeft {
		s.disregard(c)
	}
	return revision, nil
}

// write is what voters write for operators.
func (s *server) write(ops ...store.Op) {
	if _, err := s.memory.Commit(s.ctx, store.Commit{Ops: ops}); err != nil {
		s.fail("the simulation cannot write: %v", err)
		return
	}
	s.spread()
}

// spread takes in what has changed, and begins to tell those who watch.
func (s *server) spread() {
	view, err := s.memory.Range(s.ctx, store.KeyCluster)
	if err != nil {
		s.fail("the simulation cannot read: %v", err)
		return
	}
	for s.tables.Revision < view.Revision {
		change := <-s.changes
		s.log = append(s.log, change)
		s.tables.Apply(change)
		s.check.changed(change)
		for _, w := range s.watches {
			if touches(change, w.prefix) {
				w.stir()
			}
		}
	}
}

func touches(c store.Change, prefix string) bool {
	return slices.ContainsFunc(c.Events, func(e store.Event) bool { return strings.HasPrefix(e.Key, prefix) })
}

// since returns the changes of keys with a prefix between two revisions, as one.
func (s *server) since(prefix string, after, upTo int64) store.Change {
	merged := store.Change{Revision: upTo}
	i, _ := slices.BinarySearchFunc(s.log, after+1, func(c store.Change, revision int64) int { return int(c.Revision - revision) })
	for ; i < len(s.log) && s.log[i].Revision <= upTo; i++ {
		for _, e := range s.log[i].Events {
			if strings.HasPrefix(e.Key, prefix) {
				merged.Events = append(merged.Events, e)
			}
		}
	}
	return merged
}

// quorate takes the quorum away (-1) or gives it back (1). Then every lease has its whole life again, as with etcd.
func (s *server) quorate(by int) {
	if s.without -= by; s.without == 0 {
		for _, g := range s.leases {
			g.extend()
		}
	}
}

// clear empties the store, as an operator may who begins anew with an etcd that has nothing.
func (s *server) clear() { s.write(store.DeletePrefix(store.Prefix)) }

func digest(data []byte) uint32 {
	h := fnv.New32a()
	_, _ = h.Write(data)
	return h.Sum32()
}

// read returns what is below a prefix, for a machine that asks.
func (s *server) read(prefix string, m *machine) (store.View, error) {
	view, err := s.memory.Range(s.ctx, prefix)
	if s.Mutant != OldReads || prefix != store.ScheduleKey(m.host.ID) {
		return view, err
	}
	view.Items = nil
	for _, c := range s.log[:max(0, len(s.log)-20)] {
		for _, e := range c.Events {
			if e.Key == prefix && !e.Deleted {
				view.Items = []store.Item{e.Item}
			}
		}
	}
	return view, err
}
