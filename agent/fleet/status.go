package fleet

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/agent/unitfile"
	"github.com/musterhq/muster/cluster/instances"
	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/store"
)

// VoterHealth is what a voter's store answered when it was asked how it is.
type VoterHealth struct {
	Host       roster.Host
	Err        error    // why it did not answer; nil when it did
	Leads      bool     // the store's leader
	Leaderless bool     // it does not know a leader
	Learner    bool     // still catching up
	Alarms     []string // what it complains about, as etcd names it
}

// Quorate reports whether enough voters answer for writes.
func Quorate(voters []VoterHealth) bool {
	s := votersStatus(voters)
	return s.Healthy >= s.Total/2+1
}

// Status derives from the records what the API shows. pending says why units without a host have none, by unit.
func (v View) Status(pending map[string]string) api.Status {
	rollouts, warnings := v.rollouts()
	return api.Status{
		Cluster:   v.Cluster.Record.Name,
		Voters:    v.voters(),
		Hosts:     v.hostStatuses(),
		Units:     v.unitStatuses(pending),
		Rollouts:  rollouts,
		Scheduler: v.Leader(),
		Warnings:  slices.Concat(v.bad(), v.troubles(), v.unhealthy(), warnings),
	}
}

// troubles are what hosts that are there say does not work on them.
func (v View) troubles() []string {
	var lines []string
	for _, h := range v.Members() {
		for _, trouble := range v.Hosts[h.ID].Record.Troubles {
			if v.Ready(h.ID) {
				lines = append(lines, "host "+h.Name+": "+trouble)
			}
		}
	}
	return lines
}

// WithVoters completes a status with what the voters said.
func WithVoters(s api.Status, voters []VoterHealth) api.Status {
	changes, waits := s.Voters.Changes, s.Voters.Waits
	s.Voters = votersStatus(voters)
	s.Voters.Changes, s.Voters.Waits = changes, waits
	s.Warnings = append(voterWarnings(voters), s.Warnings...)
	return s
}

// Unplaced returns the units that are wanted on a host and have none, and the templates of whose replicas that is so,
// sorted.
func (v View) Unplaced() []string {
	where := v.placements(v.crowds())
	var names []string
	for _, name := range slices.Sorted(maps.Keys(v.Units)) {
		u := v.Units[name].Record
		if u.Desired == store.DesiredInactive || len(where[name]) > 0 {
			continue
		}
		if u.Replicated {
			if c := v.replicaStatus(name, u, "").Replicas; c.Placed >= c.Wanted {
				continue
			}
		}
		names = append(names, name)
	}
	return names
}

// HostsOf returns the members that have a unit by the schedule, in the order of their IDs.
func (v View) HostsOf(unit string) []roster.Host {
	var hosts []roster.Host
	for _, p := range v.placementsOf(unit) {
		hosts = append(hosts, v.Roster[p.host].Record.Host)
	}
	return hosts
}

// UnitList is every unit that was submitted, without contents, sorted by name.
func (v View) UnitList() []api.Unit {
	units := make([]api.Unit, 0, len(v.Units))
	for _, name := range slices.Sorted(maps.Keys(v.Units)) {
		u := v.Units[name].Record
		units = append(units, api.Unit{Name: name, Desired: string(u.Desired), Hash: u.File})
	}
	return units
}

// voters tells what became of the voters of late.
func (v View) voters() api.VotersStatus {
	s := api.VotersStatus{Waits: v.Voters.Record.Waits}
	for _, c := range v.Voters.Record.Changes {
		s.Changes = append(s.Changes, api.VoterChange(c))
	}
	return s
}

func votersStatus(voters []VoterHealth) api.VotersStatus {
	s := api.VotersStatus{Total: len(voters)}
	for _, h := range voters {
		if h.Err == nil && !h.Learner {
			s.Healthy++
		} else {
			s.Unhealthy = append(s.Unhealthy, h.Host.ID)
		}
		if h.Leads {
			s.Leader = h.Host.Name
		}
	}
	return s
}

// voterWarnings says which voters do not answer, what that means and what to do.
func voterWarnings(voters []VoterHealth) []string {
	var silent, learning []string
	leaderless := Quorate(voters)
	for _, h := range voters {
		switch {
		case h.Err != nil:
			silent = append(silent, fmt.Sprintf("%s %s: %v", h.Host.Name, h.Host.Address, h.Err))
		case h.Learner:
			learning = append(learning, h.Host.Name)
		}
		leaderless = leaderless && (h.Err != nil || h.Leaderless)
	}
	var lines []string
	if len(silent) > 0 {
		lines = append(lines, silentVoters(len(voters), silent))
	}
	if len(learning) > 0 {
		lines = append(lines, strings.Join(learning, ", ")+" does not vote yet: it is catching up with the other voters")
	}
	lines = append(lines, alarmWarnings(voters)...)
	if leaderless {
		lines = append(lines, "the voters are electing a leader: writes wait for a moment")
	}
	return lines
}

// alarmWarnings says what voters complain about. Room is made by the leader, as far as it can be.
func alarmWarnings(voters []VoterHealth) []string {
	var lines []string
	for _, h := range voters {
		for _, alarm := range h.Alarms {
			if alarm == "NOSPACE" {
				lines = append(lines, "the store of "+h.Host.Name+" is full: nothing can be written until there is room. "+
					"Old revisions are removed by themselves within a minute; if this stays, remove keys (etcdctl del) or units "+
					"(`muster units destroy`). Units go on")
				continue
			}
			lines = append(lines, "the store of "+h.Host.Name+" says "+alarm+": replace the host")
		}
	}
	return lines
}

func silentVoters(total int, silent []string) string {
	quorum := total/2 + 1
	up := total - len(silent)
	verb, them := "do", "them"
	if len(silent) == 1 {
		verb, them = "does", "it"
	}
	text := fmt.Sprintf("%d of %d voters %s not answer (%s): ", len(silent), total, verb, strings.Join(silent, "; "))
	switch missing := quorum - up; {
	case missing == 1:
		text += "no writes are possible until one returns; units go on"
	case missing > 1:
		text += fmt.Sprintf("no writes are possible until %d return; units go on", missing)
	case up == quorum:
		text += "writes go on, but not if one more is lost"
	default:
		text += fmt.Sprintf("writes go on; %d more may be lost", up-quorum)
	}
	return text + ". Start " + them + " again with `muster up`"
}

func (v View) hostStatuses() []api.HostStatus {
	hosts := make([]api.HostStatus, 0, len(v.Roster))
	for _, h := range v.Members() {
		s := api.HostStatus{
			Name: h.Name, Provider: h.Provider, Address: h.Address, State: v.hostState(h.ID), Voter: h.Voter,
			Labels: h.Labels, RunLabels: h.RunLabels, ID: h.ID, Generation: h.Generation, Ports: h.Ports,
			Appointed: h.Appointed, Barred: h.Barred,
		}
		if s.Labels == nil {
			s.Labels = map[string]string{}
		}
		if said, ok := v.Hosts[h.ID]; ok {
			s.Facts = &said.Record.Facts
		}
		v.addOrder(&s)
		hosts = append(hosts, s)
	}
	return hosts
}

func (v View) hostState(id string) string {
	switch {
	case v.Ready(id):
		return api.HostReady
	case v.Seen(id):
		return api.HostLost
	}
	return api.HostJoining
}

// placement is a unit on a host.
type placement struct {
	host      string // ID
	scheduled store.ScheduledUnit
}

// placements is where the schedule has each unit, hosts in the order of their IDs; replicas of some templates are left out.
func (v View) placements(without map[string]bool) map[string][]placement {
	where := make(map[string][]placement, len(v.Units))
	for _, id := range slices.Sorted(maps.Keys(v.Schedule)) {
		if _, member := v.Roster[id]; !member {
			continue
		}
		for _, u := range v.Schedule[id].Record.Units {
			if _, known := v.Units[u.Name]; without[u.Name] || u.Leaving != 0 && !known {
				continue
			}
			for each := range (store.ScheduleRecord{Units: []store.ScheduledUnit{u}}).Each() {
				where[each.Name] = append(where[each.Name], placement{host: id, scheduled: each})
			}
		}
	}
	return where
}

func (v View) unitStatuses(pending map[string]string) []api.UnitStatus {
	units := make([]api.UnitStatus, 0, len(v.Units))
	crowds := v.crowds()
	where := v.placements(crowds)
	reported := v.reported(crowds)
	for name, record := range v.Units {
		if u := record.Record; u.Replicated && u.Desired != store.DesiredInactive {
			units = append(units, v.replicaStatus(name, u, pending[name]))
			continue
		}
		units = append(units, v.unitStatus(name, record.Record, where[name], reported, pending)...)
	}
	for name, where := range where {
		if _, own := v.Units[name]; own {
			continue
		}
		template, _, _ := instances.Split(name)
		if u, ok := v.Units[template]; ok {
			units = append(units, v.unitStatus(name, u.Record, where, reported, pending)...)
		}
	}
	units = append(units, v.leaving(where, crowds)...)
	slices.SortFunc(units, func(a, b api.UnitStatus) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Host, b.Host))
	})
	return units
}

// spot is a unit's name and a host's ID.
type spot struct{ unit, host string }

// reported is what hosts say of units; replicas of some templates are left out.
func (v View) reported(without map[string]bool) map[spot]store.UnitState {
	states := map[spot]store.UnitState{}
	for id, r := range v.States {
		for s := range listed(r.Record, without) {
			states[spot{s.Name, id}] = s
		}
	}
	return states
}

// listed yields the states of a record but for replicas of some templates.
func listed(r store.StatesRecord, without map[string]bool) iter.Seq[store.UnitState] {
	units := slices.DeleteFunc(slices.Clone(r.Units), func(s store.UnitState) bool { return without[s.Name] })
	return store.StatesRecord{Units: units}.Each()
}

// unitStatus is the entries of one unit: one per host that has it, or one that says why none has. Templates cannot be
// on hosts and have none.
func (v View) unitStatus(name string, u store.UnitRecord, where []placement, reported map[spot]store.UnitState,
	pending map[string]string,
) []api.UnitStatus {
	if len(where) == 0 {
		return v.nowhere(name, u, pending)
	}
	list := make([]api.UnitStatus, 0, len(where))
	for _, p := range where {
		s := api.UnitStatus{Name: name, Host: v.Roster[p.host].Record.Name, Desired: string(u.Desired)}
		state, known := reported[spot{name, p.host}]
		switch {
		case p.scheduled.Leaving != 0, p.scheduled.Partition == store.PartitionStrict && !v.Ready(p.host):
			s.State, s.Reason = v.departure(p)
		case !v.Ready(p.host):
			s.State = api.UnitUnknown
			s.Reason = fmt.Sprintf("host %s is %s", s.Host, v.hostState(p.host))
		case !known:
			s.State, s.Reason = api.UnitStarting, "scheduled, the host has not said anything of it yet"
		default:
			s.State, s.Reason = stateOf(p.scheduled, state)
		}
		if known {
			s.Load, s.Active, s.Sub = state.Load, state.Active, state.Sub
			s.Health, s.HealthReason = state.Health, state.HealthReason
		}
		list = append(list, s)
	}
	return list
}

func (v View) nowhere(name string, u store.UnitRecord, pending map[string]string) []api.UnitStatus {
	s := api.UnitStatus{Name: name, Desired: string(u.Desired), State: api.UnitInactive}
	if u.Desired != store.DesiredInactive {
		s.State = api.UnitPending
		s.Reason = cmp.Or(pending[name], v.waits(u))
	} else if unitfile.IsTemplate(name) {
		return nil
	}
	return []api.UnitStatus{s}
}

// leaving is units that live hosts still report although the schedule does not have them there any more.
func (v View) leaving(where map[string][]placement, crowds map[string]bool) []api.UnitStatus {
	var list []api.UnitStatus
	for id, r := range v.States {
		if !v.Ready(id) {
			continue
		}
		for s := range listed(r.Record, crowds) {
			if template, _, ok := instances.Split(s.Name); ok && crowds[template] {
				continue
			}
			if slices.ContainsFunc(where[s.Name], func(p placement) bool { return p.host == id }) {
				continue
			}
			desired := cmp.Or(v.Units[s.Name].Record.Desired, store.DesiredInactive)
			list = append(list, api.UnitStatus{
				Name: s.Name, Host: v.Roster[id].Record.Name, State: api.UnitStopping, Desired: string(desired),
				Reason: "no longer wanted on this host", Load: s.Load, Active: s.Active, Sub: s.Sub,
			})
		}
	}
	return list
}

// stateOf puts systemd's words for a unit on its host into one, given what is wanted of it there.
func stateOf(want store.ScheduledUnit, s store.UnitState) (state, reason string) {
	if s.Load != "" && s.Load != "loaded" {
		return api.UnitFailed, cmp.Or(s.Reason, "the unit file is "+s.Load)
	}
	switch s.Active {
	case "active", "reloading":
		return running(want, s)
	case "activating":
		return api.UnitStarting, s.Reason
	case "deactivating":
		return api.UnitStopping, s.Reason
	case "failed":
		return api.UnitFailed, cmp.Or(s.Reason, "failed ("+s.Sub+"); see `muster logs "+s.Name+"`")
	}
	switch {
	case want.Desired == store.DesiredLoaded, s.Sub == store.SubCutOff:
		return api.UnitStopped, s.Reason
	case s.Reason == "":
		return api.UnitStarting, "loaded, about to start"
	}
	return api.UnitExited, s.Reason
}

func running(want store.ScheduledUnit, s store.UnitState) (state, reason string) {
	switch {
	case want.Desired == store.DesiredLoaded && s.Reason == store.StartedElsewise:
		return api.UnitRunning, s.Reason
	case want.Desired == store.DesiredLoaded:
		return api.UnitStopping, cmp.Or(s.Reason, "about to stop")
	case want.File != s.File:
		return api.UnitStarting, cmp.Or(s.Reason, "about to restart with new contents")
	case s.Sub == "exited":
		return api.UnitExited, s.Reason
	}
	return api.UnitRunning, s.Reason
}
