package membership

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// members reads "a b? c* d+ l!": voting members by host; ? is silent, * leads, + is a learner, ! one that has caught up,
// - has no known host.
func members(text string) []Member {
	var ms []Member
	for i, word := range strings.Fields(text) {
		m := Member{ID: uint64(i + 1), Host: strings.TrimRight(word, "?*+!-"), Healthy: true}
		for _, mark := range word[len(strings.TrimRight(word, "?*+!-")):] {
			switch mark {
			case '?':
				m.Healthy = false
			case '*':
				m.Leader = true
			case '+':
				m.Learner = true
			case '!':
				m.Learner, m.CaughtUp = true, true
			case '-':
				m.Host = ""
			}
		}
		ms = append(ms, m)
	}
	return ms
}

// voters reads "a b c>": hosts that shall vote; > waits to be admitted.
func voters(text string) []Host {
	var vs []Host
	for _, word := range strings.Fields(text) {
		vs = append(vs, Host{ID: strings.TrimSuffix(word, ">"), Votes: true, Waiting: strings.HasSuffix(word, ">")})
	}
	return vs
}

func TestNextStep(t *testing.T) {
	cases := []struct {
		name, members, voters string
		kind                  Kind
		member                uint64
		host, reason          string
	}{
		{"all is well", "a* b c", "a b c", None, 0, "", "the members are the roster's voters"},
		{"no members are known", "", "a", None, 0, "", "0 of 0 voting members answer, 1 are needed"},
		{"no quorum", "a b? c?", "a b d>", None, 0, "", "1 of 3 voting members answer, 2 are needed"},
		{"silent and wanted", "a* b c?", "a b c", None, 0, "", "the members are the roster's voters"},
		{"silent and gone", "a* b c?", "a b d>", RemoveMember, 3, "c", "host c is no voter any more and does not answer"},
		{"then its successor", "a* b", "a b d>", AddLearner, 0, "d", "host d shall vote"},
		{"then it learns", "a* b d+", "a b d>", None, 0, "d", "host d votes when it has learnt what the others know"},
		{"then it votes", "a* b d!", "a b d", Promote, 3, "d", "host d has caught up"},
		{"successor has not come", "a* b", "a b d", None, 0, "", "the members are the roster's voters"},
		{"silent learner", "a* b d!?", "a b d", None, 0, "d", "host d votes when it has learnt what the others know"},
		{"learner is gone", "a* b d!", "a b", RemoveMember, 3, "d", "host d is no voter any more, and it was only learning"},
		{"silent learner is gone", "a* b d+?", "a b", RemoveMember, 3, "d", "host d is no voter any more, and it was only learning"},
		{"learner of no host", "a* b d+-", "a b", RemoveMember, 3, "", "member 3 is no voter any more, and it was only learning"},
		{"two wait", "a* b c", "e> a b d> c", AddLearner, 0, "d", "host d shall vote"},
		{"one learns, one waits", "a* b c d+", "a b c d e>", None, 0, "", "host e waits until the learner before it votes"},
		{"add while one is silent", "a* b c?", "a b c d>", None, 0, "", "host d waits until all 3 voting members answer (2 do)"},
		{"leaver goes after its successor", "a* b c", "a b d>", AddLearner, 0, "d", "host d shall vote"},
		{"leaver stays while it learns", "a* b c d+", "a b d", None, 0, "d", "host d votes when it has learnt what the others know"},
		{"leaver goes", "a* b c d", "a b d", RemoveMember, 3, "c", "host c is no voter any more"},
		{"leader leaves last", "a* b c d e", "c d e", RemoveMember, 2, "b", "host b is no voter any more"},
		{"leader leaves", "a* c d e", "c d e", RemoveMember, 1, "a", "host a is no voter any more"},
		{"leaver is needed", "a* b c?", "a c", None, 0, "", "host b is no voter any more, but without it 1 members would answer and 2 be needed"},
		{"two leave, one silent", "a* b c? d e", "a d e", RemoveMember, 3, "c", "host c is no voter any more and does not answer"},
		{"the last", "a*", "b", None, 0, "", "host a is no voter any more, but it is the last"},
		{"one is replaced", "a*", "b>", AddLearner, 0, "b", "host b shall vote"},
		{"one grows to three", "a*", "a b> c>", AddLearner, 0, "b", "host b shall vote"},
		{"two shrink to one", "a* b", "a", RemoveMember, 2, "b", "host b is no voter any more"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got := NextStep(View{Members: members(c.members), Hosts: voters(c.voters)})
			if want := (Step{Kind: c.kind, Member: c.member, Host: c.host, Reason: c.reason}); got != want {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}

func TestQuorum(t *testing.T) {
	for n, want := range []int{1, 1, 2, 2, 3, 3, 4, 4} {
		if got := Quorum(n); got != want {
			t.Errorf("Quorum(%d) = %d, want %d", n, got, want)
		}
	}
}

// model is a cluster on which steps are carried out. Host names are h0, h1, …
type model struct {
	members []Member
	voters  map[string]bool // the roster's
	down    map[string]bool
	nextID  uint64
}

func (m *model) view() View {
	var v View
	for _, member := range m.members {
		member.Healthy = !m.down[member.Host]
		v.Members = append(v.Members, member)
	}
	for host := range m.voters { // in any order: a step must not depend on it
		v.Hosts = append(v.Hosts, Host{ID: host, Votes: true, Waiting: !m.down[host]})
	}
	return v
}

func (m *model) voting() (all, answering int) {
	for _, member := range m.members {
		if !member.Learner {
			all++
			if !m.down[member.Host] {
				answering++
			}
		}
	}
	return all, answering
}

func (m *model) do(s Step) {
	at := slices.IndexFunc(m.members, func(member Member) bool { return member.ID == s.Member })
	switch s.Kind {
	case RemoveMember:
		m.members = slices.Delete(m.members, at, at+1)
	case AddLearner:
		m.nextID++
		m.members = append(m.members, Member{ID: m.nextID, Host: s.Host, Learner: true})
	case Promote:
		m.members[at].Learner = false
	}
}

func drawModel(t *rapid.T) *model {
	m := &model{voters: map[string]bool{}, down: map[string]bool{}}
	for i := range rapid.IntRange(1, 7).Draw(t, "members") {
		m.nextID++
		m.members = append(m.members, Member{ID: m.nextID, Host: fmt.Sprintf("h%d", i), Leader: i == 0})
	}
	for i := range 10 {
		host := fmt.Sprintf("h%d", i)
		if rapid.Bool().Draw(t, "votes "+host) {
			m.voters[host] = true
		}
		if rapid.IntRange(0, 3).Draw(t, "down "+host) == 0 {
			m.down[host] = true
		}
	}
	return m
}

// check makes steps until none is left, and holds the promises at each.
func (m *model) check(t *rapid.T) {
	for range 100 {
		v := m.view()
		step := NextStep(v)
		slices.Reverse(v.Members)
		if again := NextStep(v); again != step {
			t.Fatalf("the order of the view matters: %+v, %+v", step, again)
		}
		if step.Reason == "" {
			t.Fatalf("no reason for %+v", step)
		}
		if step.Kind == None {
			return
		}
		m.do(step)
		all, answering := m.voting()
		if answering < Quorum(all) {
			t.Fatalf("%+v leaves %d of %d voting members", step, answering, all)
		}
		learners := 0
		for _, member := range m.members {
			if member.Learner {
				learners++
			}
		}
		if learners > MaxLearners {
			t.Fatalf("%+v makes %d learners", step, learners)
		}
		for i := range m.members { // who can, catches up
			m.members[i].CaughtUp = m.members[i].Learner && !m.down[m.members[i].Host]
		}
	}
	t.Fatal("it does not end")
}

func TestPropertySteps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := drawModel(t)
		m.check(t)
		for range rapid.IntRange(0, 3).Draw(t, "changes") { // the world changes and the steps go on
			host := fmt.Sprintf("h%d", rapid.IntRange(0, 9).Draw(t, "host"))
			m.down[host] = rapid.Bool().Draw(t, "down")
			m.voters[host] = rapid.Bool().Draw(t, "votes")
			if !m.voters[host] {
				delete(m.voters, host)
			}
			m.check(t)
		}
	})
}

// TestPropertyArrives has every wanted host up and a quorum at first: the members end as the roster's voters.
func TestPropertyArrives(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := drawModel(t)
		for host := range m.voters {
			delete(m.down, host)
		}
		if all, answering := m.voting(); answering < Quorum(all) || len(m.voters) == 0 {
			return
		}
		m.check(t)
		for _, member := range m.members {
			if member.Learner || !m.voters[member.Host] {
				t.Fatalf("member %+v is left", member)
			}
			delete(m.voters, member.Host)
		}
		if len(m.voters) > 0 {
			t.Fatalf("voters without a member: %v", m.voters)
		}
	})
}
