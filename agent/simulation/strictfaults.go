package simulation

import (
	"sync"
	"time"

	"github.com/musterhq/muster/agent/control"
	"github.com/musterhq/muster/agent/partition"
	"github.com/musterhq/muster/cluster/store"
)

// unheld cuts a machine off in the moment in which the store ends its sessions by mistake: it goes on with strict units for
// longer than the store believes in it.
func (m *machine) unheld() *fault {
	f := m.cut("is cut off, and the store ends its sessions by mistake", &m.noRequests, &m.noAnswers)
	cut := f.begin
	f.begin = func() { cut(); m.forget() }
	return f
}

// returned has a machine with strict units be back just before the leader, who does not hear of it, gives them to others. They
// take their time to stop. The machine may be lost anew, by a mistake of the store, before the leader has an answer.
func (w *world) returned(m *machine, relapses bool) *fault {
	m = w.with(store.PartitionStrict, m)
	var undo []func()
	mend := func() {
		for _, f := range undo {
			f()
		}
		undo = nil
	}
	begin := func() {
		cut := m.cut("", &m.noRequests, &m.noAnswers)
		cut.begin()
		m.runtime.slow += 5 * time.Second
		undo = append(undo, func() { m.runtime.slow -= 5 * time.Second })
		back := sync.OnceFunc(cut.mend)
		undo = append(undo, back)
		w.whenLost(m, func() {
			leader := w.leader()
			if leader == nil || leader == m || len(undo) == 0 {
				return
			}
			deaf := leader.counted("", &leader.noAnswers)
			deaf.begin()
			hears := sync.OnceFunc(func() { deaf.mend(); leader.reconnect() })
			undo = append(undo, hears)
			w.after(w.between(0, 200*time.Millisecond), back)
			w.after(w.between(1200*time.Millisecond, 1500*time.Millisecond), hears)
			if !relapses {
				return
			}
			w.after(w.between(2*time.Second, 2800*time.Millisecond), func() {
				if again := m.unheld(); len(undo) > 0 {
					again.begin()
					undo = append(undo, again.mend)
				}
			})
		})
	}
	name := m.host.Name + " is back just when others get its units of Singleton=strict"
	if relapses {
		name += ", and lost anew"
	}
	return &fault{name: name, begin: begin, mend: mend}
}

// whenLost does something when the leader is about to take strict units from a machine that has no session any more.
func (w *world) whenLost(m *machine, do func()) {
	began := w.elapsed()
	var look func()
	look = func() {
		_, alive := w.server.tables.Alive[m.host.ID]
		switch {
		case !alive:
			w.after(control.Doubt+partition.Times{TTL: sessionTTL}.Release()-time.Second, do)
		case w.elapsed()-began < lease:
			w.after(50*time.Millisecond, look)
		}
	}
	look()
}

// with is a machine that runs a unit which depends on the contact with the store, if there is one: the next after the given
// one.
func (w *world) with(p store.Partition, m *machine) *machine {
	for n := range w.machines {
		next := w.machines[(m.index+n)%len(w.machines)]
		for name, k := range next.runtime.known {
			if k.alive && w.check.partitionOf(name, k.RunningHash) == p {
				return next
			}
		}
	}
	return m
}

// startled has a machine stand still in the moment in which a strict unit of it is about to start. When the machine goes on,
// the unit may not.
func (w *world) startled(m *machine) *fault {
	sprung := false
	begin := func() {
		m.trap = func() {
			w.tell("%s is paused", m.host.Name)
			sprung = true
			m.paused++
		}
		for _, u := range w.units {
			if k := m.runtime.known[u.name]; k != nil && k.alone && !u.sick {
				u.edition++
				w.say("replaces", u)
				return
			}
		}
	}
	mend := func() {
		if m.trap = nil; sprung {
			m.paused--
			m.thaw()
		}
	}
	return &fault{name: m.host.Name + " is paused when a strict unit starts", begin: begin, mend: mend}
}
