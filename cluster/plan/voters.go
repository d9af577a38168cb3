package plan

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/providers"
)

// role says whether a host votes, and whether that can be chosen.
type role struct {
	free   bool // it has yet to be told
	fixed  bool // it was told, and cannot be told otherwise before it has joined
	voter  bool // when not free
	before bool // the generation before it voted
}

// role of a host that stays is what it does, and can be changed; of one to come it is free.
func (m *maker) role(d desired) role {
	if m.seen.Roster == nil {
		return role{free: true}
	}
	if member, ok := m.seen.Roster.ByID(d.action.ID); ok {
		return role{voter: votes(member)}
	}
	if promised, ok := m.seen.Roles[d.action.ID]; ok {
		return role{fixed: true, voter: promised}
	}
	before := slices.ContainsFunc(m.seen.Roster, func(h roster.Host) bool { return h.Name == d.spec.Name && h.Voter })
	return role{free: d.action.Kind == Create || d.action.Kind == Replace, before: before}
}

// votes reports whether a member votes or is about to.
func votes(h roster.Host) bool { return h.Voter || h.Appointed }

// elect decides who votes, by host name: who votes already, who the cluster file names, and as many more as it asks for,
// spread so that providers have like numbers of voters.
func (m *maker) elect(wanted []desired) map[string]bool {
	voters := make(map[string]bool)
	byProvider := make(map[string]int)
	seat := func(d desired) {
		voters[d.spec.Name] = true
		byProvider[d.spec.Provider]++
	}
	named, eligible := 0, 0
	for _, d := range wanted {
		named += count(asked(d, true))
		eligible += count(!asked(d, false))
	}
	for _, d := range wanted {
		if d.role.fixed && d.role.voter || !d.role.fixed && (asked(d, true) || named == 0 && d.role.voter && !asked(d, false)) {
			seat(d)
		}
	}
	if target := m.target(eligible); named == 0 {
		for _, d := range surplus(wanted, voters, len(voters)-target, byProvider) {
			delete(voters, d.spec.Name)
			byProvider[d.spec.Provider]--
		}
		for _, d := range m.candidates(wanted, target-len(voters), voters, byProvider) {
			seat(d)
		}
	}
	m.warnVoters(wanted, voters, byProvider, named, eligible)
	return voters
}

// asked reports whether the cluster file says of a host that it shall vote, or shall not.
func asked(d desired, vote bool) bool { return d.spec.Voter != nil && *d.spec.Voter == vote }

func count(b bool) int {
	if b {
		return 1
	}
	return 0
}

// target is how many shall vote when the cluster file leaves the choice: an odd number.
func (m *maker) target(eligible int) int {
	n := min(m.spec.VoterCount(), eligible)
	if n > 0 && n%2 == 0 && n < m.spec.VoterCount() {
		n--
	}
	return n
}

// surplus chooses voters that vote no more, one after another from the provider that has the most, the last by name first.
func surplus(wanted []desired, voters map[string]bool, seats int, byProvider map[string]int) []desired {
	byProvider = maps.Clone(byProvider)
	var seated, chosen []desired
	for _, d := range wanted {
		if voters[d.spec.Name] && !d.role.fixed {
			seated = append(seated, d)
		}
	}
	for range min(seats, len(seated)) {
		last := 0
		for i, d := range seated {
			if byProvider[d.spec.Provider] >= byProvider[seated[last].spec.Provider] {
				last = i
			}
		}
		chosen = append(chosen, seated[last])
		byProvider[seated[last].spec.Provider]--
		seated = slices.Delete(seated, last, last+1)
	}
	return chosen
}

// candidates chooses seats hosts, one after another from the provider that has the fewest voters: first those whose
// earlier generation voted, then by name.
func (m *maker) candidates(wanted []desired, seats int, seated map[string]bool, voters map[string]int) []desired {
	voters = maps.Clone(voters)
	var free []desired
	for _, d := range wanted {
		if !d.role.fixed && !seated[d.spec.Name] && !asked(d, false) {
			free = append(free, d)
		}
	}
	var chosen []desired
	for range min(seats, len(free)) {
		best := 0
		for i, d := range free {
			if c := free[best]; cmp.Or(compareBool(d.role.before, c.role.before),
				cmp.Compare(voters[d.spec.Provider], voters[c.spec.Provider])) < 0 {
				best = i
			}
		}
		chosen = append(chosen, free[best])
		voters[free[best].spec.Provider]++
		free = slices.Delete(free, best, best+1)
	}
	return chosen
}

// compareBool orders true before false.
func compareBool(a, b bool) int { return count(b) - count(a) }

func (m *maker) warnVoters(wanted []desired, voters map[string]bool, byProvider map[string]int, named, eligible int) {
	m.warnNumber(len(voters), named, eligible)
	for _, d := range wanted {
		if d.role.fixed && asked(d, true) && !d.role.voter {
			m.warn("host %s shall vote and was told otherwise: run `muster up` again when it has joined", d.spec.Name)
		}
		if d.role.fixed && asked(d, false) && d.role.voter {
			m.warn("host %s shall not vote and was told otherwise: run `muster up` again when it has joined", d.spec.Name)
		}
	}
	at := make(map[string]bool)
	for _, d := range wanted {
		at[d.spec.Provider] = true
	}
	for _, p := range slices.Sorted(maps.Keys(byProvider)) {
		if n := byProvider[p]; len(at) > 1 && 2*n > len(voters) {
			m.warn("provider %s has %d of %s: while it is away, units go on but nothing can be decided%s",
				p, n, plural(len(voters), "voter"), thirdProvider(len(at), len(voters)))
		}
	}
}

func thirdProvider(providers, voters int) string {
	if providers < 3 && voters >= 3 {
		return "; hosts at a third provider would change that"
	}
	return ""
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func (m *maker) warnNumber(voters, named, eligible int) {
	want := m.spec.VoterCount()
	switch {
	case voters == 0:
		m.warn("no host votes: there is no cluster without one")
	case named == 0 && want > eligible:
		m.warn("the cluster file asks for %s and only %s may vote: there will be %d", plural(want, "voter"), plural(eligible, "host"), voters)
	case named == 0 && voters != want:
		m.warn("the cluster file asks for %s and there will be %d: hosts that were told otherwise have yet to join",
			plural(want, "voter"), voters)
	}
	if voters > 0 && voters%2 == 0 {
		m.warn("%d voters survive no more failures than %d: use an odd number", voters, voters-1)
	}
}

func (m *maker) warn(format string, args ...any) {
	m.warnings = append(m.warnings, fmt.Sprintf(format, args...))
}

// ErrMajority says that a majority of the voters would leave at once.
var ErrMajority = errors.New("a majority of the voters would leave at once")

// checkMajority refuses plans after which those voters that are left could decide nothing. Voters that are gone anyway
// are no reason to refuse their replacement.
func (m *maker) checkMajority() error {
	present := len(m.seen.Roster.Voters())
	staying := make(map[string]bool)
	healthy := make(map[string]bool)
	for _, a := range m.actions {
		if slices.Contains([]Kind{Keep, Start, Relabel, Appoint, Retire}, a.Kind) {
			staying[a.ID] = true
		}
		if s := a.Instance.State; a.Destroys() && (s == providers.StateRunning || s == providers.StatePending) {
			healthy[a.Instance.Identity.ID()] = true
		}
	}
	var leaving []string
	vanish := 0
	for _, v := range m.seen.Roster.Voters() {
		if staying[v.ID] {
			continue
		}
		vanish++
		if healthy[v.ID] {
			leaving = append(leaving, v.Name)
		}
	}
	if len(leaving) == 0 || vanish < present/2+1 {
		return nil
	}
	slices.SortFunc(leaving, compareNames)
	return majorityError(leaving, vanish, present)
}

func majorityError(leaving []string, vanish, present int) error {
	names := strings.Join(leaving, ", ")
	if present == 1 {
		return fmt.Errorf("cannot plan: %s is the only voter and would leave: %w; keep it until other voters have joined, "+
			"or end the cluster with `muster down`", names, ErrMajority)
	}
	if dead := vanish - len(leaving); dead > 0 {
		return fmt.Errorf("cannot plan: %s would leave while %d of %d voters are gone: %w; keep them in the cluster file "+
			"until the lost ones are replaced", names, dead, present, ErrMajority)
	}
	return fmt.Errorf("cannot plan: %s would leave, %d of %d voters: %w; go in two steps: take out fewer of them, "+
		"run `muster up`, then the rest", names, vanish, present, ErrMajority)
}

// check refuses half a view.
func (m *maker) check() error {
	known := make(map[string]bool)
	for _, p := range m.spec.Providers {
		known[p.Name] = true
		if _, ok := m.seen.Instances[p.Name]; !ok {
			return fmt.Errorf("cannot plan: provider %s was not asked what it has", p.Name)
		}
	}
	for name, instances := range m.seen.Instances {
		for _, i := range instances {
			if i.Cluster != m.seen.ClusterID {
				return fmt.Errorf("cannot plan: provider %s lists host %s of another cluster (%s)", name, i.Host, i.Cluster)
			}
		}
	}
	places := make(map[string]string) // provider → a host there
	for _, h := range m.seen.Roster {
		places[h.Provider] = h.Name
	}
	for _, p := range m.seen.Pending {
		places[p.Provider] = p.Host
	}
	for _, p := range slices.Sorted(maps.Keys(places)) {
		if !known[p] {
			return fmt.Errorf("cannot plan: host %s is at provider %s, which is not in the cluster file; "+
				"leave the provider there until its hosts are gone", places[p], p)
		}
	}
	return nil
}
