package simulation

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/musterhq/muster/agent/control"
	"github.com/musterhq/muster/cluster/store"
)

// fault is something that breaks, and is mended later.
type fault struct {
	name  string
	begin func()
	mend  func()
	lost  []*machine // that nobody can rely on while it lasts
	over  bool
}

// plague has chance break things between calm and heal.
func (w *world) plague() {
	for range 1 + w.rng.IntN(8) {
		w.at(w.between(calm, heal), w.strike)
	}
}

// strike breaks something for a while.
func (w *world) strike() {
	f := w.pick()
	if w.Mutant != "" {
		f = cmp.Or(w.own(), f)
	}
	lasts := w.between(100*time.Millisecond, 4*time.Second)
	if w.rng.IntN(3) > 0 {
		lasts = w.between(lease, 8*lease)
	}
	w.note("%6.1f s: %s, for %.1f s", w.elapsed().Seconds(), f.name, lasts.Seconds())
	w.check.disturbed()
	w.check.lose(f)
	w.faults = append(w.faults, f)
	f.begin()
	w.after(lasts, func() { w.mend(f) })
}

func (w *world) mend(f *fault) {
	if f.over {
		return
	}
	f.over = true
	w.tell("mended: %s", f.name)
	w.check.disturbed()
	f.mend()
}

// healAll mends everything, and no new fault comes after it.
func (w *world) healAll() {
	for _, f := range w.faults {
		w.mend(f)
	}
}

// ill says whether anything is broken.
func (w *world) ill() bool {
	return slices.ContainsFunc(w.faults, func(f *fault) bool { return !f.over })
}

func (w *world) pick() *fault {
	m := w.machines[w.rng.IntN(len(w.machines))]
	voter := w.machines[w.rng.IntN(2)]
	switch w.rng.IntN(24) {
	case 0, 1:
		return m.cut("is cut off", &m.noRequests, &m.noAnswers)
	case 2:
		return m.cut("cannot ask the store", &m.noRequests)
	case 3:
		return m.cut("does not hear the store", &m.noAnswers)
	case 4:
		return w.cloud(m.host.Provider)
	case 5:
		return m.counted("loses answers", &m.lossy)
	case 6:
		return m.counted("has a slow network", &m.slow)
	case 7:
		return m.still("musterd is frozen", &m.frozen)
	case 8:
		return voter.still("musterd is frozen", &voter.frozen)
	case 9:
		return m.still("is paused", &m.paused)
	case 10:
		return m.without("musterd is killed", m.crash)
	case 11:
		return m.without("musterd is restarted", m.quit)
	case 12:
		return m.powerless()
	case 13:
		return m.jump()
	case 14:
		return w.quorumless()
	case 15:
		return w.emptied()
	case 16:
		switch w.rng.IntN(3) {
		case 0:
			return w.returned(m, false)
		case 1:
			return w.returned(m, true)
		}
		return w.woken(m)
	case 17:
		return w.forgotten()
	case 18:
		return w.both(m.cut("is cut off", &m.noRequests, &m.noAnswers), m.jump())
	case 19:
		m = w.with(store.PartitionStrict, m)
		return w.both(m.counted("has a slow network", &m.slow), m.still("musterd is frozen", &m.frozen))
	case 20:
		m = w.with(store.PartitionStop, m)
		return w.both(m.counted("has a slow network", &m.slow), m.cut("is cut off", &m.noRequests, &m.noAnswers))
	case 21:
		return w.startled(w.with(store.PartitionStrict, m))
	case 22:
		return w.with(store.PartitionStrict, m).unheld()
	}
	slow := w.between(time.Second, 20*time.Second)
	return &fault{
		name:  fmt.Sprintf("%s: units take %v longer to stop", m.host.Name, slow.Round(time.Second)),
		begin: func() { m.runtime.slow += slow }, mend: func() { m.runtime.slow -= slow },
	}
}

// counted is a fault of a machine that is counted.
func (m *machine) counted(name string, counters ...*int) *fault {
	add := func(n int) {
		for _, c := range counters {
			*c += n
		}
	}
	return &fault{name: m.host.Name + " " + name, begin: func() { add(1) }, mend: func() { add(-1) }}
}

// cut takes a machine off the network, or one direction of it.
func (m *machine) cut(name string, counters ...*int) *fault {
	f := m.counted(name, counters...)
	mend := f.mend
	f.lost, f.mend = []*machine{m}, func() { mend(); m.reconnect() }
	return f
}

// cloud cuts all machines of a provider off.
func (w *world) cloud(provider string) *fault {
	f := &fault{name: provider + " is cut off"}
	var all []*fault
	for _, m := range w.machines {
		if m.host.Provider == provider {
			all = append(all, m.cut("", &m.noRequests, &m.noAnswers))
			f.lost = append(f.lost, m)
		}
	}
	f.begin = func() {
		for _, each := range all {
			each.begin()
		}
	}
	f.mend = func() {
		for _, each := range all {
			each.mend()
		}
	}
	return f
}

// still has musterd, or all of a machine, stand still.
func (m *machine) still(name string, counter *int) *fault {
	f := m.counted(name, counter)
	mend := f.mend
	f.lost, f.mend = []*machine{m}, func() { mend(); m.thaw() }
	return f
}

// without ends musterd in some way, and starts it again.
func (m *machine) without(name string, end func()) *fault {
	return &fault{name: m.host.Name + ": " + name, lost: []*machine{m}, begin: end, mend: func() { m.after(farewell, m.start) }}
}

// powerless takes a machine's power.
func (m *machine) powerless() *fault {
	return &fault{
		name: m.host.Name + " has no power", lost: []*machine{m},
		begin: func() { m.off++; m.crash(); m.runtime.power() },
		mend:  func() { m.off--; m.start() },
	}
}

// jump sets a machine's wall clock, and back.
func (m *machine) jump() *fault {
	by := m.between(-5*time.Hour, 5*time.Hour)
	return &fault{
		name:  fmt.Sprintf("%s: the clock jumps by %v", m.host.Name, by.Round(time.Minute)),
		begin: func() { m.offset += by }, mend: func() { m.offset -= by },
	}
}

func (w *world) quorumless() *fault {
	return &fault{
		name: "the store has no quorum", begin: func() { w.server.quorate(-1) }, mend: func() { w.server.quorate(1) },
	}
}

// emptied takes everything that the store has. Leaders begin anew, and operators say again what they want.
func (w *world) emptied() *fault {
	return &fault{name: "the store is emptied", begin: w.server.clear, mend: w.repeat}
}

// woken has a machine seem lost until the leader is about to move its units. Then the machine is back, and the leader
// frozen until another one leads: when it wakes up, what it has decided is not true any more.
func (w *world) woken(m *machine) *fault {
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
		undo = append(undo, cut.mend)
		w.whenGone(m, func() {
			if leader := w.leader(); leader != nil && leader != m && len(undo) > 0 {
				mend()
				freeze := leader.still("", &leader.frozen)
				w.tell("%s, who leads, is frozen", leader.host.Name)
				freeze.begin()
				undo = append(undo, freeze.mend)
				w.after(6*time.Second, mend)
			}
		})
	}
	return &fault{name: m.host.Name + " is back too late for the leader, who is frozen", begin: begin, mend: mend}
}

// whenGone does something while the leader still doubts that a machine is lost.
func (w *world) whenGone(m *machine, do func()) {
	began := w.elapsed()
	var look func()
	look = func() {
		_, alive := w.server.tables.Alive[m.host.ID]
		switch {
		case !alive:
			w.after(w.between(100*time.Millisecond, control.Doubt), do)
		case w.elapsed()-began < lease:
			w.after(50*time.Millisecond, look)
		}
	}
	look()
}

// forgotten has the store end some sessions by mistake, as after etcd's leader was frozen.
func (w *world) forgotten() *fault {
	return &fault{name: "the store ends sessions by mistake", mend: func() {}, begin: func() {
		for _, g := range slices.Clone(w.server.leases) {
			if w.rng.IntN(2) == 0 {
				g.end()
			}
		}
	}}
}

// forget has the store end the sessions of the machine.
func (m *machine) forget() {
	if m.process == nil {
		return
	}
	for _, s := range slices.Clone(m.process.sessions) {
		s.grant.end()
	}
}

// leader is the machine that leads the scheduling, nil if there is none.
func (w *world) leader() *machine {
	for _, m := range w.machines {
		if m.host.Name == w.server.tables.Leader() {
			return m
		}
	}
	return nil
}

// both are two faults, of which the second comes on top of the first.
func (w *world) both(a, b *fault) *fault {
	mended, begun := false, false
	return &fault{
		name: a.name + "; " + b.name, lost: slices.Concat(a.lost, b.lost),
		begin: func() {
			a.begin()
			w.after(w.between(0, 2*time.Second), func() {
				if begun = !mended; begun {
					b.begin()
				}
			})
		},
		mend: func() {
			if mended = true; begun {
				b.mend()
			}
			a.mend()
		},
	}
}
