package plan

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/spec"
	"github.com/musterhq/muster/providers"
)

// Make plans. It fails when the cluster file lacks a provider that still has hosts, when a provider was not observed, and
// when a majority of the voters would leave at once.
func Make(s spec.Spec, seen Observed) (Plan, error) {
	m := newMaker(s, seen)
	if err := m.check(); err != nil {
		return Plan{}, err
	}
	hosts := s.Hosts()
	slices.SortFunc(hosts, func(a, b spec.Host) int { return compareNames(a.Name, b.Name) })
	wanted := make([]desired, len(hosts))
	for i, h := range hosts {
		wanted[i] = m.host(h)
	}
	m.leftovers()
	voters := m.elect(wanted)
	for _, d := range wanted {
		m.place(d, voters[d.spec.Name])
	}
	m.forget()
	if err := m.checkMajority(); err != nil {
		return Plan{}, err
	}
	return m.plan(voters), nil
}

// maker holds one plan in the making.
type maker struct {
	spec     spec.Spec
	seen     Observed
	byHost   map[string][]sighting // instances that no action has claimed yet, by host name
	pending  map[string][]Pending  // in the same way
	actions  []Action
	warnings []string
}

// sighting is an instance and the name of the provider that listed it.
type sighting struct {
	providers.Instance
	provider string
	member   bool
}

// desired is a host of the cluster file on the way to its action.
type desired struct {
	spec   spec.Host
	action Action // Create, Replace, Start or Keep
	role   role
}

func newMaker(s spec.Spec, seen Observed) *maker {
	seen.Roster = slices.Clone(seen.Roster) // nil stays nil
	slices.SortFunc(seen.Roster, func(a, b roster.Host) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Generation, b.Generation), cmp.Compare(a.ID, b.ID))
	})
	m := &maker{spec: s, seen: seen, byHost: make(map[string][]sighting), pending: make(map[string][]Pending)}
	listed := make(map[string]bool)
	for _, provider := range slices.Sorted(maps.Keys(seen.Instances)) {
		for _, i := range seen.Instances[provider] {
			_, member := seen.Roster.ByID(i.Identity.ID())
			m.byHost[i.Host] = append(m.byHost[i.Host], sighting{Instance: i, provider: provider, member: member})
			listed[i.Identity.ID()] = true
		}
	}
	for _, p := range seen.Pending {
		if !listed[m.id(p.Host, p.Generation)] {
			m.pending[p.Host] = append(m.pending[p.Host], p)
		}
	}
	for host := range m.byHost {
		slices.SortFunc(m.byHost[host], m.preference)
	}
	for host := range m.pending {
		slices.SortFunc(m.pending[host], func(a, b Pending) int {
			return cmp.Or(cmp.Compare(b.Generation, a.Generation), cmp.Compare(a.Provider, b.Provider))
		})
	}
	return m
}

// preference orders instances of one host, the one to keep first.
func (m *maker) preference(a, b sighting) int {
	first := func(a, b bool) int { // true before false
		switch {
		case a == b:
			return 0
		case a:
			return -1
		}
		return 1
	}
	return cmp.Or(first(m.usable(a), m.usable(b)), first(a.member, b.member),
		first(a.State != providers.StateStopped, b.State != providers.StateStopped),
		cmp.Compare(b.Generation, a.Generation), a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID), cmp.Compare(a.provider, b.provider))
}

// usable reports whether an instance runs or can be made to.
func (m *maker) usable(s sighting) bool {
	if _, condemned := m.seen.Condemned[s.Identity.ID()]; condemned {
		return false
	}
	return s.State == providers.StateRunning || s.State == providers.StatePending ||
		s.State == providers.StateStopped && !m.seen.CannotStart[s.provider]
}

func (m *maker) id(host string, generation int) string {
	return providers.Identity{Cluster: m.seen.ClusterID, Host: host, Generation: generation}.ID()
}

// host decides what becomes of one host of the cluster file, and that its other instances end.
func (m *maker) host(h spec.Host) desired {
	d := desired{spec: h, action: Action{Host: h.Name, Provider: h.Provider}}
	seen := m.byHost[h.Name]
	if i := slices.IndexFunc(seen, func(s sighting) bool { return s.provider == h.Provider && m.usable(s) }); i >= 0 {
		m.retain(&d, seen[i])
		seen = slices.Delete(slices.Clone(seen), i, i+1)
	} else if i := slices.IndexFunc(m.pending[h.Name], m.askable(h.Provider)); i >= 0 {
		d.action.Kind, d.action.Generation = Create, m.pending[h.Name][i].Generation
		d.action.Reason = "was asked for and is not listed yet: asked for again"
		m.pending[h.Name] = slices.Delete(slices.Clone(m.pending[h.Name]), i, i+1)
	} else {
		seen = m.renew(&d, seen)
	}
	d.action.ID = m.id(h.Name, d.action.Generation)
	for _, s := range seen {
		m.destroy(s, m.excess(s, d))
	}
	for _, p := range m.pending[h.Name] {
		m.destroyPending(p, "was asked for and never listed: "+m.successor(d))
	}
	delete(m.byHost, h.Name)
	delete(m.pending, h.Name)
	d.role = m.role(d)
	return d
}

// askable accepts the newest generation of a host, if it was asked of the provider where the host belongs.
func (m *maker) askable(provider string) func(Pending) bool {
	return func(p Pending) bool {
		_, condemned := m.seen.Condemned[m.id(p.Host, p.Generation)]
		return p.Provider == provider && p.Generation == m.newest(p.Host) && !condemned
	}
}

// newest is the highest generation of a host that is known of in any way.
func (m *maker) newest(host string) int {
	generation := m.seen.Generations[host]
	for _, s := range m.byHost[host] {
		generation = max(generation, s.Generation)
	}
	for _, p := range m.pending[host] {
		generation = max(generation, p.Generation)
	}
	for _, h := range m.seen.Roster {
		if h.Name == host {
			generation = max(generation, h.Generation)
		}
	}
	return generation
}

// retain keeps an instance, started if need be.
func (m *maker) retain(d *desired, s sighting) {
	d.action.Generation, d.action.Instance = s.Generation, s.Instance
	d.action.Kind, d.action.Reason = Keep, "is there"
	if s.State == providers.StateStopped {
		d.action.Kind, d.action.Reason = Start, "stopped: started again"
	}
}

// renew gives a host its next generation. An instance at the same provider that cannot be kept goes with it; the others
// are returned.
func (m *maker) renew(d *desired, seen []sighting) (rest []sighting) {
	name, provider := d.spec.Name, d.spec.Provider
	generation := m.newest(name)
	member, isMember := m.seen.Roster.ByName(name)
	d.action.Generation = generation + 1
	replaced := fmt.Sprintf("replaced by generation %d", d.action.Generation)
	i := slices.IndexFunc(seen, func(s sighting) bool { return s.provider == provider })
	switch {
	case i >= 0:
		d.action.Kind, d.action.Instance = Replace, seen[i].Instance
		d.action.Reason = m.failure(seen[i]) + ": " + replaced
		if seen[i].member {
			d.action.Member = seen[i].Identity.ID()
		}
		return slices.Delete(slices.Clone(seen), i, i+1)
	case isMember && !m.listed(member):
		d.action.Kind, d.action.Member = Replace, member.ID
		d.action.Reason = "instance is gone: " + replaced
	case len(seen) > 0:
		d.action.Kind, d.action.Reason = Create, fmt.Sprintf("moves here from provider %s", seen[0].provider)
	case generation > 0:
		d.action.Kind, d.action.Reason = Create, fmt.Sprintf("not there: generation %d is gone", generation)
	default:
		d.action.Kind, d.action.Reason = Create, "not there yet"
	}
	return seen
}

// listed reports whether a provider lists a member's instance.
func (m *maker) listed(member roster.Host) bool {
	return slices.ContainsFunc(m.byHost[member.Name], func(s sighting) bool { return s.Identity.ID() == member.ID })
}

// failure says why an instance cannot be kept.
func (m *maker) failure(s sighting) string {
	if reason, ok := m.seen.Condemned[s.Identity.ID()]; ok {
		return reason
	}
	if s.State == providers.StateStopped {
		return fmt.Sprintf("stopped, and provider %s cannot start it", s.provider)
	}
	return "instance failed"
}

// excess says why an instance of a wanted host has to go.
func (m *maker) excess(s sighting, d desired) string {
	switch {
	case s.provider != d.spec.Provider:
		return fmt.Sprintf("moves to provider %s", d.spec.Provider)
	case !m.usable(s):
		return m.failure(s) + ": " + m.successor(d)
	default:
		return "second instance of this host: " + m.successor(d)
	}
}

func (m *maker) successor(d desired) string {
	if d.action.Kind == Create || d.action.Kind == Replace {
		return fmt.Sprintf("generation %d takes its place", d.action.Generation)
	}
	return fmt.Sprintf("generation %d is kept", d.action.Generation)
}

// leftovers ends every instance whose host is not in the cluster file.
func (m *maker) leftovers() {
	const reason = "in cluster file no more"
	for _, host := range slices.Sorted(maps.Keys(m.byHost)) {
		for _, s := range m.byHost[host] {
			m.destroy(s, reason)
		}
	}
	for _, host := range slices.Sorted(maps.Keys(m.pending)) {
		for _, p := range m.pending[host] {
			m.destroyPending(p, reason+", was asked for and never listed")
		}
	}
}

func (m *maker) destroy(s sighting, reason string) {
	a := Action{
		Kind: Destroy, Host: s.Host, Provider: s.provider, Generation: s.Generation, ID: s.Identity.ID(), Reason: reason,
		Instance: s.Instance,
	}
	if member, ok := m.seen.Roster.ByID(a.ID); ok {
		a.Member, a.Voter = member.ID, member.Voter
	}
	if a.Voter {
		a.Reason += "; a voter leaves"
	}
	m.actions = append(m.actions, a)
}

// destroyPending ends what may exist. Its Instance has an identity but no ID.
func (m *maker) destroyPending(p Pending, reason string) {
	a := Action{
		Kind: Destroy, Host: p.Host, Provider: p.Provider, Generation: p.Generation, ID: m.id(p.Host, p.Generation), Reason: reason,
	}
	a.Instance.Identity = providers.Identity{Cluster: m.seen.ClusterID, Host: p.Host, Generation: p.Generation}
	if member, ok := m.seen.Roster.ByID(a.ID); ok {
		a.Member, a.Voter = member.ID, member.Voter
	}
	m.actions = append(m.actions, a)
}

// place adds the action of a wanted host, and another one when its labels have to change.
func (m *maker) place(d desired, voter bool) {
	a := d.action
	member, ok := m.seen.Roster.ByID(a.ID)
	shall := member.WithLabels(d.spec.Labels)
	a.Voter, a.Labels = voter, shall.Labels
	relabel := ok && !maps.Equal(member.Labels, a.Labels)
	if len(shall.RunLabels) > 0 {
		a.Reason += "; keeps what was set at run time: " + labelsOf(shall.Labels, shall.RunLabels)
	}
	reseat := ok && votes(member) != voter
	if a.Kind != Keep || !relabel && !reseat {
		m.actions = append(m.actions, a)
	}
	if reseat {
		a := a
		if a.Kind, a.Reason = Retire, "shall vote no more"; voter {
			a.Kind, a.Reason = Appoint, "shall vote"
		}
		m.actions = append(m.actions, a)
	}
	if relabel {
		a.Kind, a.Reason = Relabel, "labels of the cluster file: "+labelChanges(member.Labels, a.Labels)
		m.actions = append(m.actions, a)
	}
}

func labelsOf(labels map[string]string, keys []string) string {
	words := make([]string, len(keys))
	for i, key := range keys {
		words[i] = key + "=" + labels[key]
	}
	return strings.Join(words, ", ")
}

// labelChanges is such as "+disk=ssd, role=web (was db), -rack".
func labelChanges(was, shall map[string]string) string {
	var added, changed, removed []string
	for _, key := range slices.Sorted(maps.Keys(shall)) {
		switch before, had := was[key]; {
		case !had:
			added = append(added, "+"+key+"="+shall[key])
		case before != shall[key]:
			changed = append(changed, fmt.Sprintf("%s=%s (was %s)", key, shall[key], before))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(was)) {
		if _, stays := shall[key]; !stays {
			removed = append(removed, "-"+key)
		}
	}
	return strings.Join(slices.Concat(added, changed, removed), ", ")
}

// forget takes members out that neither stay nor leave with an instance. Of two instances with one identity the member
// stays when one does.
func (m *maker) forget() {
	spoken, stays := make(map[string]bool), make(map[string]bool)
	for _, a := range m.actions {
		spoken[a.ID], spoken[a.Member] = true, true
		if a.Kind != Destroy {
			stays[a.ID] = true
		}
	}
	for i, a := range m.actions {
		if stays[a.Member] && a.Member == a.ID {
			m.actions[i].Member, m.actions[i].Voter = "", false
		}
	}
	for _, h := range m.seen.Roster {
		if spoken[h.ID] {
			continue
		}
		m.actions = append(m.actions, Action{
			Kind: Forget, Host: h.Name, Provider: h.Provider, Generation: h.Generation, ID: h.ID, Voter: h.Voter, Member: h.ID,
			Reason: "its instance is gone",
		})
	}
}

var kindOrder = []Kind{Create, Replace, Start, Keep, Relabel, Appoint, Retire, Destroy, Forget}

func (m *maker) plan(voters map[string]bool) Plan {
	slices.SortFunc(m.actions, func(a, b Action) int {
		return cmp.Or(compareNames(a.Host, b.Host), cmp.Compare(a.Generation, b.Generation),
			cmp.Compare(slices.Index(kindOrder, a.Kind), slices.Index(kindOrder, b.Kind)),
			cmp.Compare(a.Provider, b.Provider), cmp.Compare(a.Instance.ID, b.Instance.ID))
	})
	if m.seen.ClusterID == "" {
		for i := range m.actions {
			m.actions[i].ID = ""
		}
	}
	p := Plan{Cluster: m.spec.Cluster, ClusterID: m.seen.ClusterID, Actions: m.actions, Warnings: m.warnings}
	p.Voters = slices.SortedFunc(maps.Keys(voters), compareNames)
	if p.Actions == nil {
		p.Actions = []Action{}
	}
	if p.Warnings == nil {
		p.Warnings = []string{}
	}
	if p.Voters == nil {
		p.Voters = []string{}
	}
	return p
}
