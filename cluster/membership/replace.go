package membership

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// replaceSilent has a standby take the place of the voter that has been silent the longest, if that is longer than the
// grace. It leaves a learner that learns in peace. Without a standby, a silent voter goes all the same when it keeps another
// from being added: those that are left tolerate as much without it.
func replaceSilent(t *count) (Step, bool) {
	if t.Grace <= 0 || t.learning() {
		return Step{}, false
	}
	dead, ok := t.longestSilent()
	if !ok {
		return Step{}, false
	}
	said := fmt.Sprintf("host %s has not voted for %s, longer than the grace of %s", dead.Name, dead.For.Round(time.Second), t.Grace)
	if s, ok := t.standby(dead); ok {
		return Step{
			Kind: Replace, Host: dead.ID, Successor: s.ID,
			Reason: fmt.Sprintf("%s; host %s at %s stands by", said, s.Name, s.Provider),
		}, true
	}
	if t.voterOf(dead.ID) && t.comes() {
		return Step{Kind: Retire, Host: dead.ID, Reason: said + "; nobody stands by, and it keeps another from being added"}, true
	}
	return Step{}, false
}

// longestSilent is the voter of the roster that is silent for the longest time and longer than the grace.
func (t *count) longestSilent() (Host, bool) {
	var silent []Host
	for _, h := range t.voters {
		if !h.Ready && h.For >= t.Grace {
			silent = append(silent, h)
		}
	}
	if len(silent) == 0 {
		return Host{}, false
	}
	return slices.MinFunc(silent, func(a, b Host) int { return cmp.Or(cmp.Compare(b.For, a.For), cmp.Compare(a.ID, b.ID)) }), true
}

// learning reports whether a member learns that belongs and answers.
func (t *count) learning() bool {
	return slices.ContainsFunc(t.members, func(m Member) bool { return m.Learner && m.Healthy && t.belongs(m) })
}

// voterOf reports whether a host has a voting member.
func (t *count) voterOf(host string) bool {
	return slices.ContainsFunc(t.members, func(m Member) bool { return m.Host == host && !m.Learner })
}

// comes reports whether a voter of the roster lives and has no member yet.
func (t *count) comes() bool {
	return slices.ContainsFunc(t.voters, func(h Host) bool { return h.Ready && !t.isMember(h.ID) })
}

// standby chooses who takes the place of a voter, or an empty one (the zero Host): no provider shall have a majority then if
// that can be avoided; hosts that keep their units come before those that are to give them up; then those at the provider
// with the fewest voters, by name.
func (t *count) standby(gone Host) (Host, bool) {
	at, total := t.seats(gone.ID)
	total++
	var all []Host
	for _, h := range t.Hosts {
		if !h.Votes && !h.Barred && h.Ready && h.ID != gone.ID && !t.isMember(h.ID) {
			all = append(all, h)
		}
	}
	if len(all) == 0 {
		return Host{}, false
	}
	majority := func(h Host) bool {
		for provider, n := range at {
			if provider != h.Provider && 2*n > total {
				return true
			}
		}
		return 2*(at[h.Provider]+1) > total
	}
	return slices.MinFunc(all, func(a, b Host) int {
		return cmp.Or(falseFirst(majority(a), majority(b)), falseFirst(a.Leaving, b.Leaving),
			cmp.Compare(at[a.Provider], at[b.Provider]), cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	}), true
}

// seats counts the roster's voters by provider, without one.
func (t *count) seats(without string) (at map[string]int, total int) {
	at = map[string]int{}
	for _, h := range t.voters {
		if h.ID != without {
			at[h.Provider]++
			total++
		}
	}
	return at, total
}

func falseFirst(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// appoint fills a seat that has been empty for the grace, one at a time: whoever has one already comes first.
func appoint(t *count) (Step, bool) {
	if t.Grace <= 0 || len(t.voters) >= t.Wanted || t.Vacant < t.Grace || !t.settled() {
		return Step{}, false
	}
	s, ok := t.standby(Host{})
	if !ok {
		return none("%d of %d voters are there, and no host stands by", len(t.voters), t.Wanted)
	}
	return Step{
		Kind: Appoint, Successor: s.ID,
		Reason: fmt.Sprintf("%d of %d voters are there for longer than the grace of %s; host %s at %s stands by",
			len(t.voters), t.Wanted, t.Grace, s.Name, s.Provider),
	}, true
}

// settled reports whether every voter of the roster votes and answers.
func (t *count) settled() bool {
	return t.learners == 0 && t.healthy == t.voting && t.voting == len(t.voters) &&
		!slices.ContainsFunc(t.voters, func(h Host) bool { return !h.Ready || !t.voterOf(h.ID) })
}

// spread takes a seat from a provider that has a majority, for a host elsewhere that has long been there to take it, if in
// the end no provider has a majority. etcd's leader keeps its seat.
func spread(t *count) (Step, bool) {
	if t.Grace <= 0 || !t.settled() || !t.spreadable() {
		return Step{}, false
	}
	at, total := t.seats("")
	for _, h := range slices.Backward(t.voters) {
		if 2*at[h.Provider] <= total || t.leads(h.ID) {
			continue
		}
		s, ok := t.standby(h)
		if !ok || s.For < t.Grace || s.Leaving || s.Provider == h.Provider {
			return Step{}, false
		}
		return Step{
			Kind: Replace, Host: h.ID, Successor: s.ID,
			Reason: fmt.Sprintf("provider %s has %d of %d voters; host %s at %s can take the seat of host %s",
				h.Provider, at[h.Provider], total, s.Name, s.Provider, h.Name),
		}, true
	}
	return Step{}, false
}

// spreadable reports whether as many voters as there are could be so that no provider has a majority.
func (t *count) spreadable() bool {
	able := map[string]int{}
	for _, h := range t.Hosts {
		if h.Votes || h.Ready && !h.Barred && !h.Leaving {
			able[h.Provider]++
		}
	}
	seats := 0
	for _, n := range able {
		seats += min(n, len(t.voters)/2)
	}
	return seats >= len(t.voters)
}

func (t *count) leads(host string) bool {
	return slices.ContainsFunc(t.members, func(m Member) bool { return m.Host == host && m.Leader })
}
