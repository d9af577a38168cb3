// Package membership decides, one step at a time, who votes in etcd: how its members follow the voters of the roster, and
// how the roster's voters follow what becomes of hosts. Who left is removed, who came is added as a learner and promoted
// when it has caught up, and a voter that stays silent is replaced by a standby host. NextHostStep is a single host's part:
// join, wait, form, vote, or vote no more.
//
// A decision is a value that follows from a View alone. Each step leaves a quorum of members that answer; two changes are
// never under way at once, because the next step is decided from a view that was taken after the last one. Whoever carries
// steps out may crash between any two of them: what is left to do follows from what is there. The package knows no etcd,
// clock or network.
package membership

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Member is one member of etcd, as seen from outside.
type Member struct {
	ID       uint64 // etcd's member ID
	Host     string // host ID, "" when no host of the roster or of the past is known for it
	Learner  bool
	Healthy  bool // it answered, and knew a leader
	CaughtUp bool // a learner that is as far as the leader
	Leader   bool
}

// Host is a host of the roster.
type Host struct {
	ID       string
	Name     string
	Provider string
	Votes    bool // the roster has it as a voter, or as one to come
	// Appointed is a voter to come: the roster is to say that it votes when it does.
	Appointed bool
	// Waiting says that it asks to be admitted now: only then is it added, as an added member that does not start would be in
	// the way.
	Waiting bool
	Barred  bool // the cluster file says that it shall not vote
	Leaving bool // an operator has ordered its units away: it is the last to choose
	// Ready says of a voter that its member answers, of a voter without one and of another host that its session lives.
	// For is how long it is known to have been so, or to have not.
	Ready bool
	For   time.Duration
}

// View is everything that a step is decided from. Order does not matter.
type View struct {
	Members []Member
	Hosts   []Host
	// Wanted is how many voters the cluster file asks for, 0 for as many as there are. Vacant is for how long the roster is
	// known to have fewer.
	Wanted int
	Vacant time.Duration
	// Grace is how long a voter may be silent before another takes its place. 0 is for ever.
	Grace time.Duration
}

// Kind is what to do.
type Kind int

// The kinds of steps.
const (
	None         Kind = iota // nothing to do, or nothing that may be done now
	RemoveMember             // Member
	AddLearner               // Host
	Promote                  // Member
	Replace                  // the roster's voter Host by Successor
	Retire                   // the roster's voter Host, without a successor for now
	Appoint                  // Successor, a voter more in the roster
	Confirm                  // Host, which was appointed and votes now
)

// String is the kind in words, for logs.
func (k Kind) String() string {
	return [...]string{"none", "remove member", "add learner", "promote", "replace voter", "retire voter", "appoint voter", "confirm voter"}[k]
}

// OfRoster reports whether a step changes the roster, and not etcd's members.
func (k Kind) OfRoster() bool { return k >= Replace }

// Step is one change of the membership. Reason says why it is made or, for None, what it waits for.
type Step struct {
	Kind      Kind
	Member    uint64 // of RemoveMember and Promote
	Host      string // host ID, where one is known
	Successor string // host ID, of Replace and Appoint
	Reason    string
}

// Quorum is how many of n voting members must agree.
func Quorum(n int) int { return n/2 + 1 }

// MaxLearners is how many learners there may be at once. It is etcd's default.
const MaxLearners = 1

// NextStep decides the next change. In this order: nothing without a quorum; silent members that left the roster go,
// since they only cost fault tolerance; learners that left go; learners that have caught up are promoted, and the roster says
// so; voters that were silent for the grace are replaced; hosts that wait are added as learners; members that answer and left the roster go
// last, so that their successors vote before. When all that is done, seats that were empty for the grace are filled, and a
// provider gives up its majority if another can take a seat. A step of the kind None that names a host waits for that host, for
// a moment: whoever carries steps out looks again soon.
func NextStep(v View) Step {
	t := tally(v)
	if t.healthy < Quorum(t.voting) {
		return Step{Reason: fmt.Sprintf("%d of %d voting members answer, %d are needed", t.healthy, t.voting, Quorum(t.voting))}
	}
	for _, decide := range []func(*count) (Step, bool){
		removeSilent, removeLearner, promote, confirm, replaceSilent, addLearner, awaitLearner, removeLeaver, awaitStart, appoint, spread,
	} {
		if step, ok := decide(t); ok {
			return step
		}
	}
	return Step{Reason: "the members are the roster's voters"}
}

// count is a view, sorted and counted.
type count struct {
	View                     // as it was given
	members         []Member // by ID, the leader last
	voters          []Host   // of the roster, by ID
	voting, healthy int      // healthy counts voting members
	learners        int
}

func tally(v View) *count {
	t := &count{View: v, members: slices.Clone(v.Members)}
	for _, h := range v.Hosts {
		if h.Votes {
			t.voters = append(t.voters, h)
		}
	}
	slices.SortFunc(t.members, func(a, b Member) int {
		if a.Leader != b.Leader {
			if a.Leader {
				return 1
			}
			return -1
		}
		return cmp.Compare(a.ID, b.ID)
	})
	slices.SortFunc(t.voters, func(a, b Host) int { return cmp.Compare(a.ID, b.ID) })
	for _, m := range t.members {
		switch {
		case m.Learner:
			t.learners++
		case m.Healthy:
			t.voting++
			t.healthy++
		default:
			t.voting++
		}
	}
	return t
}

// belongs reports whether a member's host shall vote.
func (t *count) belongs(m Member) bool {
	return m.Host != "" && slices.ContainsFunc(t.voters, func(v Host) bool { return v.ID == m.Host })
}

func (t *count) isMember(host string) bool {
	return slices.ContainsFunc(t.members, func(m Member) bool { return m.Host == host })
}

func remove(m Member, format string, args ...any) (Step, bool) {
	return Step{Kind: RemoveMember, Member: m.ID, Host: m.Host, Reason: fmt.Sprintf(format, args...)}, true
}

func none(format string, args ...any) (Step, bool) {
	return Step{Reason: fmt.Sprintf(format, args...)}, true
}

func removeSilent(t *count) (Step, bool) {
	for _, m := range t.members {
		if !m.Learner && !m.Healthy && !t.belongs(m) {
			return remove(m, "%s is no voter any more and does not answer", hostOf(m))
		}
	}
	return Step{}, false
}

func removeLearner(t *count) (Step, bool) {
	for _, m := range t.members {
		if m.Learner && !t.belongs(m) {
			return remove(m, "%s is no voter any more, and it was only learning", hostOf(m))
		}
	}
	return Step{}, false
}

// promote adds a member that answers, so a quorum of one more is still there: quorum grows by one at most.
func promote(t *count) (Step, bool) {
	for _, m := range t.members {
		if m.Learner && m.Healthy && m.CaughtUp {
			return Step{Kind: Promote, Member: m.ID, Host: m.Host, Reason: fmt.Sprintf("%s has caught up", hostOf(m))}, true
		}
	}
	return Step{}, false
}

// confirm has the roster say of a host that it votes. Until then nobody counts on it.
func confirm(t *count) (Step, bool) {
	for _, h := range t.voters {
		if h.Appointed && t.voterOf(h.ID) {
			return Step{Kind: Confirm, Host: h.ID, Reason: fmt.Sprintf("host %s was appointed and votes", h.Name)}, true
		}
	}
	return Step{}, false
}

// addLearner waits where etcd would refuse (its strict reconfiguration check): while another learner learns, or a voting
// member is silent. A learner changes no quorum.
func addLearner(t *count) (Step, bool) {
	for _, v := range t.voters {
		if !v.Waiting || t.isMember(v.ID) {
			continue
		}
		if t.learners >= MaxLearners {
			return none("host %s waits until the learner before it votes", v.ID)
		}
		if t.healthy < t.voting {
			return none("host %s waits until all %d voting members answer (%d do)", v.ID, t.voting, t.healthy)
		}
		return Step{Kind: AddLearner, Host: v.ID, Reason: fmt.Sprintf("host %s shall vote", v.ID)}, true
	}
	return Step{}, false
}

// awaitLearner also keeps whoever leaves until the learner votes.
func awaitLearner(t *count) (Step, bool) {
	for _, h := range t.voters {
		if t.isMember(h.ID) && !t.voterOf(h.ID) {
			return Step{Host: h.ID, Reason: fmt.Sprintf("host %s votes when it has learnt what the others know", cmp.Or(h.Name, h.ID))}, true
		}
	}
	return Step{}, false
}

// awaitStart waits for a host that lives and is to ask for the seat that it was appointed to.
func awaitStart(t *count) (Step, bool) {
	for _, h := range t.voters {
		if h.Appointed && h.Ready && !t.isMember(h.ID) {
			return Step{Host: h.ID, Reason: fmt.Sprintf("host %s was appointed and is about to vote", h.Name)}, true
		}
	}
	return Step{}, false
}

func removeLeaver(t *count) (Step, bool) {
	for _, m := range t.members {
		if m.Learner || t.belongs(m) {
			continue
		}
		if t.voting == 1 {
			return none("%s is no voter any more, but it is the last", hostOf(m))
		}
		if left, needed := t.healthy-1, Quorum(t.voting-1); left < needed {
			return none("%s is no voter any more, but without it %d members would answer and %d be needed", hostOf(m), left, needed)
		}
		return remove(m, "%s is no voter any more", hostOf(m))
	}
	return Step{}, false
}

func hostOf(m Member) string {
	if m.Host == "" {
		return fmt.Sprintf("member %x", m.ID)
	}
	return "host " + m.Host
}
