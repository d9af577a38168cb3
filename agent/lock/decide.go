package lock

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/musterhq/muster/cluster/store"
)

// Request is what a host wants, as its record says.
type Request struct {
	Record   store.RebootRecord
	Revision int64 // of the record: who asked first is served first, after voters
}

// Member is a host of the roster.
type Member struct {
	Name  string
	Ready bool // its session lives
}

// View is everything that Decide looks at, as of the revision of the groups; requests and members may be a little older or
// newer.
type View struct {
	Groups   map[string]store.LockRecord
	Requests map[string]Request // by host ID
	Members  map[string]Member  // by host ID
	Voters   []Voter            // nil while nobody could ask them: then no voter is let go
	Votes    map[string]bool    // IDs of hosts that the roster has vote
	Now      time.Time
	// AllowOutage lets the voters of clusters of one or two go, although no quorum is left without them.
	AllowOutage bool
}

// Step is what becomes of one group. It is committed whole or not at all.
type Step struct {
	Group    string
	Record   store.LockRecord
	Granted  []store.LockHolder
	Released []store.LockHolder
	// Voter is the ID of the voter that is let go, "" for none. There is one at most in all steps of a decision.
	Voter string
}

// Decision is what to do now, and for each host that goes on waiting, why.
type Decision struct {
	Steps []Step // sorted by group
	Waits map[string]string
}

// Decide releases what hosts have given back and grants what is free to those who wait, first come first served; one that
// may not go now lets others pass. At most so many hosts change in one step.
func Decide(v View, most int) Decision {
	d := &decider{View: v, most: most, waits: map[string]string{}, steps: map[string]*Step{}, full: map[string]string{}}
	for _, group := range slices.Sorted(maps.Keys(v.Groups)) {
		d.release(group)
	}
	for _, host := range d.queue() {
		if why := d.grant(host); why != "" {
			d.waits[host] = why
		}
	}
	decision := Decision{Waits: d.waits}
	for _, group := range slices.Sorted(maps.Keys(d.steps)) {
		decision.Steps = append(decision.Steps, *d.steps[group])
	}
	return decision
}

type decider struct {
	View
	most  int
	steps map[string]*Step
	waits map[string]string
	voter bool              // one is let go
	full  map[string]string // by group without a free place: which that is in words
}

// step is what is being made of a group.
func (d *decider) step(group string) *Step {
	s, ok := d.steps[group]
	if !ok {
		record, known := d.Groups[group]
		if !known {
			record = New()
		}
		s = &Step{Group: group, Record: record}
	}
	return s
}

// release takes back what hosts do not need any more.
func (d *decider) release(group string) {
	s := d.step(group)
	for _, h := range s.Record.Holders {
		why := d.over(h)
		if why == "" || len(s.Released) == d.most {
			continue
		}
		i, _ := find(s.Record, h.ID)
		s.Record = without(s.Record, i, Released, Word{At: d.Now, By: string(h.Kind), Reason: why})
		s.Released = append(s.Released, h)
		d.steps[group] = s
	}
}

// over says why a host's hold has ended, "" if it has not.
func (d *decider) over(h store.LockHolder) string {
	if h.Kind != store.HolderHost {
		return ""
	}
	if _, member := d.Members[h.ID]; !member {
		return "the host is gone: it has left the roster"
	}
	r, asked := d.Requests[h.ID]
	switch {
	case !asked || !r.Record.Healthy || r.Record.Ticket < h.Ticket:
		return ""
	case r.Record.Ticket > h.Ticket, !r.Record.Wants && r.Record.Boot == h.Boot:
		return cmp.Or(r.Record.Reason, "the host gave it back")
	case !r.Record.Wants:
		return cmp.Or(r.Record.Reason, "the host is healthy in boot "+r.Record.Boot)
	}
	return ""
}

// queue are the hosts that want a lock and have none with the ticket they ask with, in the order in which they asked, voters
// first: they go one at a time, and would otherwise be what all wait for in the end.
func (d *decider) queue() []string {
	var hosts []string
	voters := maps.Clone(d.Votes)
	for _, v := range d.Voters {
		if voters == nil {
			voters = map[string]bool{}
		}
		voters[v.Host] = true
	}
	turn := func(host string) int {
		if voters[host] {
			return 0
		}
		return 1
	}
	for id, r := range d.Requests {
		if !r.Record.Wants || !ValidGroup(r.Record.Group) || d.holds(id, r.Record) {
			continue
		}
		hosts = append(hosts, id)
	}
	slices.SortFunc(hosts, func(a, b string) int {
		return cmp.Or(cmp.Compare(turn(a), turn(b)), cmp.Compare(d.Requests[a].Revision, d.Requests[b].Revision), cmp.Compare(a, b))
	})
	return hosts
}

// holds says whether a host has what it asks for.
func (d *decider) holds(id string, r store.RebootRecord) bool {
	h, found := Holder(d.Groups[r.Group], id)
	return found && h.Kind == store.HolderHost && h.Boot == r.Boot && h.Ticket == r.Ticket
}

// grant gives a host its lock, or says why it waits.
func (d *decider) grant(host string) string {
	r := d.Requests[host].Record
	s := d.step(r.Group)
	h := store.LockHolder{ID: host, Kind: store.HolderHost, Host: host, Boot: r.Boot, Ticket: r.Ticket}
	if why := d.obstacle(host, s); why != "" {
		return why
	}
	if len(s.Record.Holders) >= s.Record.Max {
		if d.full[r.Group] == "" {
			d.full[r.Group] = full(s.Record) // once for all who wait
		}
		return d.full[r.Group]
	}
	after, _, err := Acquire(s.Record, h, Word{At: d.Now, By: string(store.HolderHost), Reason: r.Reason})
	if err != nil {
		return err.Error()
	}
	s.Record, s.Granted = after, append(s.Granted, h)
	if d.Votes[host] || votes(d.Voters, host) {
		s.Voter, d.voter = host, true
	}
	d.steps[r.Group] = s
	return ""
}

// obstacle is why a host does not get the lock, although there may be a place.
func (d *decider) obstacle(host string, s *Step) string {
	m, member := d.Members[host]
	r := d.Requests[host].Record
	switch {
	case !member:
		return "it is not in the roster"
	case !m.Ready:
		return "it is lost"
	case !r.Healthy:
		return "it is not healthy" // it would stand still for good, and its place with it
	case len(s.Granted)+len(s.Released) >= d.most && !slices.ContainsFunc(s.Released, func(h store.LockHolder) bool { return h.ID == host }):
		return "others come first"
	}
	for group, g := range d.Groups {
		if h, found := Holder(g, host); found && (group != r.Group || h.Kind != store.HolderHost) {
			return fmt.Sprintf("it holds the lock of group %s, %s", group, held(h))
		}
	}
	if !d.Votes[host] && !votes(d.Voters, host) {
		return ""
	}
	switch {
	case len(d.Voters) == 0:
		return "it votes, and the voters do not say how they are"
	case d.voter:
		return "another voter goes first"
	}
	return d.mayStop(host, d.outWith(s), d.waiting())
}

// outWith are the hosts that hold a lock when a step is committed. What the step itself releases is released then; what another
// group's does may not be.
func (d *decider) outWith(s *Step) map[string]bool {
	groups := map[string]store.LockRecord{}
	maps.Copy(groups, d.Groups)
	groups[s.Group] = s.Record
	return out(groups)
}

// out are the hosts that hold a lock of any group.
func out(groups map[string]store.LockRecord) map[string]bool {
	hosts := map[string]bool{}
	for _, g := range groups {
		for _, h := range g.Holders {
			hosts[h.Host] = true
		}
	}
	delete(hosts, "")
	return hosts
}

// waiting are the hosts that could be let go soon.
func (d *decider) waiting() map[string]bool {
	hosts := map[string]bool{}
	for id, r := range d.Requests {
		g, known := d.Groups[r.Record.Group]
		if r.Record.Wants && d.Members[id].Ready && r.Record.Healthy && !d.holds(id, r.Record) && (!known || g.Max > 0) {
			hosts[id] = true
		}
	}
	return hosts
}
