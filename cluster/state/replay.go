package state

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// Machine is what the journal knows of one generation of a host. It is a memory of what was asked, not of what exists.
type Machine struct {
	Ref
	Provider string
	Voter    bool      // it is to vote
	Waits    bool      // it waits to be dialled by the operator
	Asked    time.Time // when its creation was first announced; zero for a machine that another journal announced
	Created  bool      // the provider answered the create; false while that is open
	Listed   bool      // the provider's list has shown it
	Admitted bool      // it may know the first membership
	Joined   bool      // it is a member
	// Destroying is true from the announcement of its end on. When that is done, the machine is forgotten.
	Destroying bool
	Token      Private // secret of its join token; none when it is no longer needed
	UserData   Private // exact; none when it is no longer needed
}

// Settled reports whether nothing about the machine is open.
func (m Machine) Settled() bool { return m.Created && m.Listed && m.Joined && !m.Destroying }

// View is what a journal says.
type View struct {
	Machines    map[Ref]Machine
	Generations map[string]int // highest generation ever asked for, by host name
	Bootstrap   *Bootstrap     // the first membership, nil while it is not fixed, and when nothing about it is open
	Formed      bool           // the first membership works
}

// Replay tells what entries say, in their order.
func Replay(entries []Entry) View {
	v := newView()
	for _, e := range entries {
		v.add(e)
	}
	return v
}

func newView() View { return View{Machines: make(map[Ref]Machine), Generations: make(map[string]int)} }

// With is the view after some more entries. v does not change.
func (v View) With(entries ...Entry) View {
	v = v.clone()
	for _, e := range entries {
		v.add(e)
	}
	return v
}

// clone copies what add would change.
func (v View) clone() View {
	v.Machines = maps.Clone(v.Machines)
	v.Generations = maps.Clone(v.Generations)
	return v
}

func (v *View) add(e Entry) {
	switch e.Kind {
	case KindBootstrap:
		v.Bootstrap = e.Bootstrap
		return
	case KindFormed:
		v.Formed = true
		return
	case KindAbandoned:
		v.Bootstrap = nil
		return
	case KindLost:
		v.Bootstrap, v.Formed = nil, false
		return
	}
	if e.Host == nil {
		return
	}
	v.Generations[e.Host.Name] = max(v.Generations[e.Host.Name], e.Host.Generation)
	if e.Kind == KindGone || e.Kind == KindDone && e.Op == OpDestroy {
		delete(v.Machines, *e.Host)
		return
	}
	if e.Kind == KindGeneration {
		return
	}
	m := v.Machines[*e.Host]
	m.Ref = *e.Host
	m.add(e)
	v.Machines[m.Ref] = m
}

func (m *Machine) add(e Entry) {
	m.Provider = cmp.Or(e.Provider, m.Provider)
	switch e.Kind {
	case KindIntent:
		m.intend(e)
	case KindDone:
		m.Created = true
	case KindListed:
		m.Created, m.Listed = true, true
	case KindAdmitted:
		m.Admitted = true
	case KindJoined:
		m.Admitted, m.Joined = true, true
	case KindMachine:
		m.Voter, m.Waits = e.Voter, e.Waits
		m.Created, m.Listed, m.Admitted, m.Joined = true, true, true, true
	}
}

func (m *Machine) intend(e Entry) {
	switch e.Op {
	case OpCreate:
		m.Voter, m.Waits, m.Token, m.UserData = e.Voter, e.Waits, e.Token, e.UserData
		if m.Asked.IsZero() {
			m.Asked = e.Time
		}
	case OpStart:
		m.Created = true
	case OpDestroy:
		m.Destroying = true
	}
}

// Latest is the newest generation of a host that the journal knows as a machine.
func (v View) Latest(name string) (Machine, bool) {
	m, ok := v.Machines[Ref{Name: name, Generation: v.Generations[name]}]
	return m, ok
}

// Sorted is every machine, by name and generation.
func (v View) Sorted() []Machine {
	return slices.SortedFunc(maps.Values(v.Machines), func(a, b Machine) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Generation, b.Generation))
	})
}

// Settled reports whether nothing is open: no call without an answer, no host that has yet to join, no first membership
// that has yet to work.
func (v View) Settled() bool {
	if v.Bootstrap != nil && !v.Formed {
		return false
	}
	for _, m := range v.Machines {
		if !m.Settled() {
			return false
		}
	}
	return true
}

// compacted is the shortest journal that says the same of a settled view. No secret is left in it.
func (v View) compacted(now time.Time) []Entry {
	var entries []Entry
	add := func(e Entry) {
		e.V, e.Time = Version, now
		entries = append(entries, e)
	}
	if v.Formed {
		add(Entry{Kind: KindFormed})
	}
	for _, m := range v.Sorted() {
		add(Entry{Kind: KindMachine, Host: &m.Ref, Provider: m.Provider, Voter: m.Voter, Waits: m.Waits})
	}
	for _, name := range slices.Sorted(maps.Keys(v.Generations)) {
		ref := Ref{Name: name, Generation: v.Generations[name]}
		if _, ok := v.Machines[ref]; !ok {
			add(Entry{Kind: KindGeneration, Host: &ref})
		}
	}
	return entries
}
