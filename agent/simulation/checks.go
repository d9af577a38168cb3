package simulation

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/musterhq/muster/agent/fleet"
	"github.com/musterhq/muster/agent/schedule"
	"github.com/musterhq/muster/agent/unitfile"
	"github.com/musterhq/muster/cluster/store"
)

// checks are what must hold after each step, and what is measured.
type checks struct {
	*world
	versions map[string][]*version // schedules by host ID, ascending
	traits   map[string]traits     // by unit and contents
	reader   *fleet.Rules
	rolls    *rolls
	balance  store.RebalanceRecord
	away     map[string]loss // units whose host is lost, by name
	lastBad  time.Duration
	why      string
}

// version is what a host's schedule was from one revision to the next, by unit. A schedule that is gone is no version: it
// says nothing.
type version struct {
	revision int64
	units    map[string]store.ScheduledUnit
}

// loss is when a unit's host was lost.
type loss struct {
	at    time.Duration
	from  *machine
	alone bool
}

func newChecks(w *world) *checks {
	return &checks{
		world: w, versions: map[string][]*version{}, traits: map[string]traits{}, reader: fleet.NewRules(),
		away: map[string]loss{}, rolls: &rolls{world: w, now: map[string]*rolling{}},
	}
}

// right says what a commit lacks that only the leader may make, "" for nothing.
func (c *checks) right(commit store.Commit) string {
	if !slices.ContainsFunc(commit.Ops, func(op store.Op) bool { return strings.HasPrefix(op.Key, store.PrefixSchedule) }) {
		return ""
	}
	var first int64
	for _, candidate := range c.server.tables.Candidates {
		if first == 0 || candidate.Created < first {
			first = candidate.Created
		}
	}
	for _, g := range commit.Guards {
		if strings.HasPrefix(g.Key, store.PrefixLeader) && g.Kind == store.GuardCreateRevision && g.Revision == first && first != 0 {
			return ""
		}
	}
	return "it writes schedules and does not lead"
}

// changed takes in a change of the store.
func (c *checks) changed(change store.Change) {
	hosts := map[string]bool{}
	for _, e := range change.Events {
		if rest, ok := strings.CutPrefix(e.Key, store.PrefixSchedule); ok {
			id, _, _ := strings.Cut(rest, "/")
			hosts[id] = true
		}
	}
	for id := range hosts {
		if entry, there := c.server.tables.Schedule[id]; there {
			v := &version{revision: change.Revision, units: map[string]store.ScheduledUnit{}}
			for u := range entry.Record.Each() {
				v.units[u.Name] = u
			}
			c.versions[id] = append(c.versions[id], v)
		}
	}
	c.rolls.ended(change)
	if len(hosts) > 0 {
		c.schedules()
		c.rolls.schedules()
	}
	if is := c.server.tables.Rebalance.Record; !is.At.Equal(c.balance.At) || is.Left != c.balance.Left {
		c.rolls.batch(c.balance, is)
		c.balance = is
	}
}

// hear notes that musterd knows what its schedule was at a revision.
func (m *machine) hear(revision int64) {
	var known *version
	for _, v := range m.check.versions[m.host.ID] {
		if v.revision <= revision {
			known = v
		}
	}
	if known != nil && (len(m.told) == 0 || m.told[len(m.told)-1] != known) {
		m.told = append(m.told, known)
	}
}

// schedules checks the rules: no unit is on two hosts, none is beside one with which it conflicts, and none reserves what
// its host does not have.
func (c *checks) schedules() {
	on := map[string]string{}
	for _, m := range c.machines {
		entry, there := c.server.tables.Schedule[m.host.ID]
		if !there {
			continue
		}
		var cpu, memory int64
		units := slices.Collect(entry.Record.Each())
		for _, u := range units {
			r := c.rulesOf(u)
			if other, twice := on[u.Name]; twice && !r.Global {
				c.fail("%s is scheduled on %s and on %s", u.Name, other, m.host.Name)
			}
			on[u.Name] = m.host.Name
			if u.Leaving != 0 {
				continue // it has lost its place, and is there so that nobody else runs it yet
			}
			cpu, memory = cpu+r.MilliCPU, memory+r.Memory
			for _, v := range units {
				if v.Name != u.Name && v.Leaving == 0 && c.conflict(r, v.Name) {
					c.fail("%s conflicts with %s, and both are scheduled on %s", u.Name, v.Name, m.host.Name)
				}
			}
		}
		if cpu > hostCPUs*1000 || memory > hostMemory {
			c.fail("units reserve more than %s has: %d thousandths of a CPU, %d bytes", m.host.Name, cpu, memory)
		}
	}
}

func (c *checks) conflict(r unitfile.Requirements, name string) bool {
	return slices.ContainsFunc(r.Conflicts, func(pattern string) bool {
		match, _ := path.Match(pattern, name)
		return match
	})
}

// rulesOf are a unit's rules by the file with which it is scheduled.
func (c *checks) rulesOf(u store.ScheduledUnit) unitfile.Requirements {
	return c.traitsOf(u.Name, u.File).rules
}

// stopping checks that a unit is stopped for a reason: since it was started its host was told of a schedule that wants it
// otherwise.
func (c *checks) stopping(m *machine, k *unit) {
	if c.mayStop(m, k) {
		return
	}
	for _, v := range m.told[max(0, k.basis):] {
		u, there := v.units[k.Name]
		if !there || u.Desired != store.DesiredLaunched || u.File != k.RunningHash {
			return
		}
	}
	c.fail("%s stops %s although every schedule that it was told of since its start has it", m.host.Name, k.Name)
}

// lose begins to measure how soon the units of a host that is lost run elsewhere: if nothing else is wrong.
func (c *checks) lose(f *fault) {
	if c.ill() {
		return
	}
	for _, m := range f.lost {
		for name, u := range c.current(m) {
			k := m.runtime.known[name]
			runs := k != nil && k.Active == "active" && u.Desired == store.DesiredLaunched
			if runs && c.wanted(name) && !c.rulesOf(u).Global {
				c.away[name] = loss{at: c.elapsed(), from: m, alone: k.alone}
			}
		}
	}
	for _, m := range f.lost {
		c.tell("%d units of %s and others must run elsewhere", len(c.away), m.host.Name)
	}
}

// since is when a loss counts from: the last sign of life that the store got, which may come later from a machine that hears
// no answers, or whose fault began slowly.
func (l loss) since() time.Duration { return max(l.at, l.from.reached) }

// wanted says whether the store has a unit. One that was emptied has it again once an operator says so, and hosts go on
// with theirs until then.
func (c *checks) wanted(name string) bool {
	template, _ := unitfile.Template(name)
	_, unit := c.server.tables.Units[name]
	_, instance := c.server.tables.Units[template]
	return unit || instance
}

// current is what a machine's schedule is, or was when it was last there.
func (c *checks) current(m *machine) map[string]store.ScheduledUnit {
	all := c.versions[m.host.ID]
	if len(all) == 0 {
		return nil
	}
	return all[len(all)-1].units
}

// active notes that a unit runs.
func (c *checks) active(m *machine, k *unit) {
	if was, lost := c.away[k.Name]; lost && was.from != m {
		delete(c.away, k.Name)
		c.failedOver(k.Name, k.alone, c.elapsed()-was.since())
	}
	c.rolls.active(m, k)
}

func (c *checks) failedOver(name string, alone bool, took time.Duration) {
	if alone {
		c.result.Strict = append(c.result.Strict, took)
	} else {
		c.result.Failovers = append(c.result.Failovers, took)
	}
	if took > c.result.Worst {
		c.result.Worst, c.result.WorstUnit = took, name
	}
}

// late is when a unit that fits elsewhere should run there (L1). That holds for one of Singleton=strict, too, whose host goes
// on for as long again as the session lives: with the lease that clusters have by default that is 4 s of the 5 beyond it.
const late = lease + 5*time.Second

// disturbed ends the measurement: with two things at once it would say nothing. Those that are late by then count.
func (c *checks) disturbed() {
	if len(c.away) == 0 {
		return
	}
	waiting := map[string]bool{}
	_, _, decisions := c.decide()
	for _, d := range decisions {
		if d.Kind == schedule.Wait {
			waiting[d.Unit] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.away)) {
		took := c.elapsed() - c.away[name].since()
		template, _ := unitfile.Template(name)
		if took > late && !waiting[name] && !waiting[template] {
			c.tell("%s has not come elsewhere", name)
			c.failedOver(name, c.away[name].alone, took)
		}
	}
	clear(c.away)
}

// decide decides as the leader would now.
func (c *checks) decide() (fleet.View, schedule.Snapshot, []schedule.Decision) {
	view := fleet.View{Tables: c.server.tables}
	rules, err := c.reader.Of(c.ctx, c.server.memory, view)
	if err != nil {
		c.fail("the simulation cannot read rules: %v", err)
	}
	snapshot := view.Snapshot(rules, time.Now())
	return view, snapshot, schedule.Decide(snapshot)
}

// awaitConvergence looks every second whether all is as it should be.
func (c *checks) awaitConvergence() {
	if why := c.unconverged(); why != c.why {
		c.tell("to converge: %s", why)
		c.why = why
	}
	if c.why != "" {
		c.lastBad = c.elapsed() + time.Second
	}
	c.over = c.elapsed() > max(c.lastBad, heal)+settled
	c.after(time.Second, c.awaitConvergence)
}

func (c *checks) atEnd() {
	c.disturbed()
	if c.result.Failure != "" {
		return
	}
	if why := c.unconverged(); why != "" {
		c.fail("%v after the last fault was mended: %s", converge, why)
		return
	}
	c.result.Converged = max(0, c.lastBad-heal)
}

// unconverged says what is not as it should be, "" if all is: the schedule is what it would be if it were decided anew,
// each host runs what its schedule has and nothing else, and the store knows.
func (c *checks) unconverged() string {
	if why := c.rolls.unfinished(); why != "" {
		return why
	}
	view, snapshot, decisions := c.decide()
	after := schedule.After(snapshot, decisions)
	want := view.Schedules(after, schedule.GlobalHosts(after), c.reader.SameRun, nil)
	for _, m := range c.machines {
		id := m.host.ID
		if !view.Ready(id) {
			return m.host.Name + " is not known to be alive"
		}
		entry, there := view.Schedule[id]
		record, wanted := want[id]
		if there != wanted || !slices.EqualFunc(entry.Record.Units, record.Units, store.ScheduledUnit.Equal) {
			return "the schedule of " + m.host.Name + " is not what it should be"
		}
		if !there && len(snapshot.Units) > 0 {
			return m.host.Name + " was told nothing since the store was emptied"
		}
		if !there {
			continue
		}
		if why := c.astray(m, entry.Record, view.States[id].Record); why != "" {
			return m.host.Name + ": " + why
		}
	}
	return ""
}

// astray says what differs between a machine's schedule, its units and what the store has of their states.
func (c *checks) astray(m *machine, s store.ScheduleRecord, reported store.StatesRecord) string {
	states := map[string]store.UnitState{}
	for _, each := range reported.Units {
		for n := range each.Instances.All() {
			states[unitfile.Instance(each.Name, fmt.Sprint(n))] = each
		}
		if each.Instances == nil {
			states[each.Name] = each
		}
	}
	rest := maps.Clone(m.runtime.known)
	for u := range s.Each() {
		k := rest[u.Name]
		delete(rest, u.Name)
		state := states[u.Name]
		switch {
		case k == nil || k.Hash != u.File:
			return u.Name + " is not loaded"
		case u.Desired == store.DesiredLaunched && (k.Active != "active" || k.RunningHash != u.File):
			return u.Name + " does not run: " + k.Active
		case u.Desired == store.DesiredLoaded && k.alive:
			return u.Name + " has not stopped"
		case state.Active != k.Active || state.File != u.File:
			return fmt.Sprintf("%s is reported as %q", u.Name, state.Active)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(rest)) {
		return name + " is not scheduled here"
	}
	return ""
}
