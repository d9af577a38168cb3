package membership

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// healing is a model of a whole cluster in virtual time: hosts go down and come back, the operator changes the roster, and
// whoever leads makes one step after another. Hosts do what NextHostStep says.
type healing struct {
	rng     *rand.Rand
	next    func(View) Step
	now     time.Duration
	hosts   []*modelHost
	members []Member
	ids     uint64
	wanted  int
	vacant  time.Duration // since when, -1 for never
}

type modelHost struct {
	Host
	up      bool
	changed time.Duration // when Ready last did
}

func newHealing(seed uint64, next func(View) Step) *healing {
	m := &healing{rng: rand.New(rand.NewPCG(seed, 1)), next: next, vacant: -1}
	m.wanted = []int{1, 3, 5}[m.rng.IntN(3)]
	for i := range m.wanted + m.rng.IntN(5) {
		h := Host{
			ID: fmt.Sprintf("h%d", i), Name: fmt.Sprintf("n%d", i), Provider: string(rune('x' + m.rng.IntN(3))), Votes: i < m.wanted,
			Barred: i >= m.wanted && m.rng.IntN(4) == 0, Ready: true,
		}
		m.hosts = append(m.hosts, &modelHost{Host: h, up: true})
		if h.Votes {
			m.ids++
			m.members = append(m.members, Member{ID: m.ids, Host: h.ID})
		}
	}
	return m
}

func (m *healing) host(id string) *modelHost {
	i := slices.IndexFunc(m.hosts, func(h *modelHost) bool { return h.ID == id })
	return m.hosts[i]
}

func (m *healing) memberOf(id string) *Member {
	i := slices.IndexFunc(m.members, func(e Member) bool { return e.Host == id })
	if i < 0 {
		return nil
	}
	return &m.members[i]
}

// view is what a leader sees.
func (m *healing) view() View {
	v := View{Wanted: m.wanted, Grace: grace}
	leads := true
	for i := range m.members {
		e := &m.members[i]
		e.Healthy = m.host(e.Host).up
		e.Leader = leads && e.Healthy && !e.Learner
		leads = leads && !e.Leader
		v.Members = append(v.Members, *e)
	}
	seats := 0
	for _, h := range m.hosts {
		if ready := h.up; ready != h.Ready {
			h.Ready, h.changed = ready, m.now
		}
		h.For = m.now - h.changed
		h.Waiting = h.Votes && h.up && m.memberOf(h.ID) == nil
		if h.Votes {
			seats++
		}
		v.Hosts = append(v.Hosts, h.Host)
	}
	if seats >= m.wanted {
		m.vacant = -1
	} else if m.vacant < 0 {
		m.vacant = m.now
	}
	if m.vacant >= 0 {
		v.Vacant = m.now - m.vacant
	}
	m.rng.Shuffle(len(v.Hosts), func(i, j int) { v.Hosts[i], v.Hosts[j] = v.Hosts[j], v.Hosts[i] })
	return v
}

func (m *healing) voting() (all, up, learners int) {
	for _, e := range m.members {
		switch {
		case e.Learner:
			learners++
		case m.host(e.Host).up:
			all, up = all+1, up+1
		default:
			all++
		}
	}
	return all, up, learners
}

// step makes one and says what promise it breaks.
func (m *healing) step() (Step, error) {
	v := m.view()
	s := m.next(v)
	all, up, _ := m.voting()
	if s.Kind == None {
		return s, nil
	}
	if up < Quorum(all) {
		return s, fmt.Errorf("%+v without a quorum (%d of %d)", s, up, all)
	}
	if err := m.do(s); err != nil {
		return s, err
	}
	all2, up2, learners := m.voting()
	switch {
	case up2 < Quorum(all2):
		return s, fmt.Errorf("%+v leaves %d of %d voting members", s, up2, all2)
	case learners > MaxLearners:
		return s, fmt.Errorf("%+v makes %d learners", s, learners)
	case s.Kind == RemoveMember && up2 < up && up2-Quorum(all2) < up-Quorum(all) && m.comesInstead():
		return s, fmt.Errorf("%+v costs tolerance before its successor votes", s)
	}
	return s, nil
}

// comesInstead reports whether a voter of the roster waits to be added, or learns.
func (m *healing) comesInstead() bool {
	return slices.ContainsFunc(m.hosts, func(h *modelHost) bool {
		e := m.memberOf(h.ID)
		return h.Votes && h.up && (e == nil || e.Learner)
	})
}

func (m *healing) do(s Step) error {
	at := slices.IndexFunc(m.members, func(e Member) bool { return e.ID == s.Member })
	switch s.Kind {
	case RemoveMember:
		if m.host(m.members[at].Host).Votes {
			return fmt.Errorf("%+v removes a voter of the roster", s)
		}
		m.members = slices.Delete(m.members, at, at+1)
	case AddLearner:
		m.ids++
		m.members = append(m.members, Member{ID: m.ids, Host: s.Host, Learner: true})
	case Promote:
		if !m.members[at].CaughtUp {
			return fmt.Errorf("%+v promotes what has not caught up", s)
		}
		m.members[at].Learner = false
	case Replace, Retire:
		old := m.host(s.Host)
		if !old.Ready && m.now-old.changed < grace {
			return fmt.Errorf("%+v after %s of silence", s, m.now-old.changed)
		}
		if old.Ready && s.Kind == Retire {
			return fmt.Errorf("%+v of a voter that answers", s)
		}
		old.Appointed = false
		if old.Votes = false; s.Kind == Replace {
			return m.seat(s)
		}
	case Appoint:
		return m.seat(s)
	case Confirm:
		if e := m.memberOf(s.Host); e == nil || e.Learner || !m.host(s.Host).Appointed {
			return fmt.Errorf("%+v of a host that does not vote, or did before", s)
		}
		m.host(s.Host).Appointed = false
	}
	return nil
}

func (m *healing) seat(s Step) error {
	h := m.host(s.Successor)
	if h.Barred || !h.up || h.Votes {
		return fmt.Errorf("%+v seats a host that is barred, away, or votes", s)
	}
	h.Votes, h.Appointed = true, true
	seats := 0
	for _, h := range m.hosts {
		if h.Votes {
			seats++
		}
	}
	if seats > m.wanted {
		return fmt.Errorf("%+v makes %d voters of %d", s, seats, m.wanted)
	}
	return nil
}

// pass lets time pass: learners that are up catch up.
func (m *healing) pass(d time.Duration) {
	m.now += d
	for i := range m.members {
		e := &m.members[i]
		e.CaughtUp = e.Learner && m.host(e.Host).up && m.rng.IntN(3) > 0
	}
}

// run breaks things for a while and makes steps, then leaves all in peace and expects a whole cluster.
func (m *healing) run() error {
	for range 60 {
		if h := m.hosts[m.rng.IntN(len(m.hosts))]; m.rng.IntN(4) == 0 {
			if _, up, _ := m.voting(); !h.up || up > Quorum(len(m.members)) || m.memberOf(h.ID) == nil || m.rng.IntN(8) == 0 {
				h.up = !h.up
			}
		}
		m.pass(time.Duration(m.rng.IntN(200)) * time.Second)
		if _, err := m.step(); err != nil {
			return err
		}
	}
	if all, up, _ := m.voting(); up < Quorum(all) {
		return nil // too many hosts are down, and no step may be made
	}
	for range 200 {
		m.pass(time.Minute)
		if _, err := m.step(); err != nil {
			return err
		}
	}
	return m.whole()
}

// whole checks that there are as many voters as can be, all of them up, and spread.
func (m *healing) whole() error {
	able, byProvider, voters := 0, map[string]int{}, 0
	room := map[string]int{}
	for _, h := range m.hosts {
		if e := m.memberOf(h.ID); e != nil && !e.Learner && h.up && !h.Appointed {
			voters++
			byProvider[h.Provider]++
		}
		if h.up && (!h.Barred || h.Votes) {
			able++
			room[h.Provider]++
		}
	}
	if voters < min(able, m.wanted) {
		return fmt.Errorf("%d voters of %d wanted, %d hosts are able", voters, m.wanted, able)
	}
	seats := 0
	for _, n := range room {
		seats += min(n, voters/2)
	}
	for provider, n := range byProvider {
		if seats >= voters && voters == m.wanted && 2*n > voters {
			return fmt.Errorf("provider %s has %d of %d voters, and there are hosts elsewhere: %v", provider, n, voters, room)
		}
	}
	return nil
}

const healingSeeds = 1500

func TestHealing(t *testing.T) {
	for seed := range uint64(healingSeeds) {
		if err := newHealing(seed, NextStep).run(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

// TestMutants plants bugs in the steps: each must be found.
func TestMutants(t *testing.T) {
	changed := func(change func(*View)) func(View) Step {
		return func(v View) Step {
			v.Members, v.Hosts = slices.Clone(v.Members), slices.Clone(v.Hosts)
			change(&v)
			return NextStep(v)
		}
	}
	everyMember := func(change func(*Member)) func(View) Step {
		return changed(func(v *View) {
			for i := range v.Members {
				change(&v.Members[i])
			}
		})
	}
	everyHost := func(change func(*Host)) func(View) Step {
		return changed(func(v *View) {
			for i := range v.Hosts {
				change(&v.Hosts[i])
			}
		})
	}
	for name, mutant := range map[string]func(View) Step{
		"believes that all members answer":  everyMember(func(e *Member) { e.Healthy = true }),
		"promotes what has not caught up":   everyMember(func(e *Member) { e.CaughtUp = true }),
		"never promotes":                    everyMember(func(e *Member) { e.CaughtUp = false }),
		"does not see learners":             changed(func(v *View) { v.Members = slices.DeleteFunc(v.Members, func(e Member) bool { return e.Learner }) }),
		"takes learners for voters":         everyMember(func(e *Member) { e.Learner = false }),
		"does not wait for the grace":       changed(func(v *View) { v.Grace /= 2 }),
		"has no grace":                      changed(func(v *View) { v.Grace = 0 }),
		"lets barred hosts vote":            everyHost(func(h *Host) { h.Barred = false }),
		"does not look at providers":        everyHost(func(h *Host) { h.Provider = "" }),
		"believes that all hosts are ready": everyHost(func(h *Host) { h.Ready = true }),
		"forgets empty seats":               changed(func(v *View) { v.Vacant = 0 }),
		"adds hosts that do not ask":        everyHost(func(h *Host) { h.Waiting = true }),
		"leaves the dead":                   everyHost(func(h *Host) { h.For = 0 }),
		"removes leavers first": func(v View) Step {
			t := tally(v)
			if s, ok := removeAny(t); ok {
				return s
			}
			return NextStep(v)
		},
		"removes the silent": func(v View) Step {
			for _, e := range v.Members {
				if !e.Healthy {
					return Step{Kind: RemoveMember, Member: e.ID, Host: e.Host, Reason: "silent"}
				}
			}
			return NextStep(v)
		},
		"ignores the quorum": func(v View) Step {
			if s, ok := replaceSilent(tally(v)); ok {
				return s
			}
			return NextStep(v)
		},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(healingSeeds) {
				if err := newHealing(seed, mutant).run(); err != nil {
					t.Logf("seed %d: %v", seed, err)
					return
				}
			}
			t.Error("was not found")
		})
	}
}

// removeAny removes members that left without waiting for anything.
func removeAny(t *count) (Step, bool) {
	for _, m := range t.members {
		if !m.Learner && !t.belongs(m) && t.voting > 1 {
			return remove(m, "left")
		}
	}
	return Step{}, false
}
