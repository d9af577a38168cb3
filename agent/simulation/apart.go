package simulation

import (
	"maps"
	"slices"
	"time"

	"github.com/musterhq/muster/agent/control"
	"github.com/musterhq/muster/agent/unitfile"
	"github.com/musterhq/muster/cluster/store"
)

// alone checks that a strict unit which has just begun to run, or to run again, on a machine does so nowhere else. Processes
// of a machine that stands still do not run.
func (c *checks) alone(m *machine, name string) {
	for _, other := range c.machines {
		k := other.runtime.known[name]
		if other != m && other.paused == 0 && k != nil && k.alive && k.alone {
			c.fail("%s, of which there may be only one, runs on %s and on %s", name, other.host.Name, m.host.Name)
		}
	}
}

// awake checks the strict units of a machine that stood still and goes on.
func (c *checks) awake(m *machine) {
	for _, name := range slices.Sorted(maps.Keys(m.runtime.known)) {
		if k := m.runtime.known[name]; k.alive && k.alone {
			c.alone(m, name)
		}
	}
}

// sessionTTL is how long the sessions of hosts live.
var sessionTTL = control.SessionTTL(lease)

// slack is how much later than it must a musterd that has everything it needs does what it must.
const slack = 500 * time.Millisecond

// beat looks a few times a second whether units of OnPartition=stop are stopped where they must be.
func (c *checks) beat() {
	for _, m := range c.machines {
		if m.runtime.excess > 0 {
			c.fail("%s has strict units held for %v longer than it was heard", m.host.Name, m.runtime.excess)
		}
		p := m.process
		if p == nil || m.frozen+m.paused > 0 {
			m.able = c.elapsed()
		} else if since := max(m.able, m.heard); c.elapsed()-since > m.real(sessionTTL)+slack {
			c.cutOff(m)
		}
	}
	c.after(300*time.Millisecond, c.beat)
}

// cutOff checks that no unit of OnPartition=stop runs on a machine that has had no contact for a session's life.
func (c *checks) cutOff(m *machine) {
	for _, name := range slices.Sorted(maps.Keys(m.runtime.known)) {
		k := m.runtime.known[name]
		if k.Active == "active" && c.partitionOf(name, k.RunningHash) != store.PartitionKeep {
			c.fail("%s still runs %s, %v after it was heard", m.host.Name, name, c.elapsed()-m.heard)
		}
	}
}

// underWay is how long ago a stop that begins may have been decided on.
const underWay = prompt + time.Millisecond

// mayStop says whether a unit may be stopped though its schedule has it.
func (c *checks) mayStop(m *machine, k *unit) bool {
	switch c.partitionOf(k.Name, k.RunningHash) {
	case store.PartitionStrict:
		return true // that it runs again is checked at the end
	case store.PartitionStop:
		return c.elapsed()-m.heard >= m.real(sessionTTL) || c.elapsed()-m.regained < underWay
	}
	return c.traitsOf(k.Name, k.RunningHash).muster.HealthCheck.Restart // a musterd that is frozen gets no answer in time
}

// partitionOf is what contents say of a unit on a host that is cut off.
func (c *checks) partitionOf(name, file string) store.Partition {
	switch m := c.traitsOf(name, file).muster; {
	case m.Strict:
		return store.PartitionStrict
	case m.StopCutOff:
		return store.PartitionStop
	}
	return store.PartitionKeep
}

// traits are what contents say of a unit.
type traits struct {
	rules  unitfile.Requirements
	muster unitfile.Muster
}

func (c *checks) traitsOf(name, file string) traits {
	key := name + " " + file
	t, known := c.traits[key]
	if !known {
		parsed, _, err := unitfile.Parse(name, []byte(c.files[file]))
		if err != nil {
			c.fail("the simulation cannot read %s: %v", name, err)
		}
		t.rules, _ = parsed.Requirements(name)
		t.muster = parsed.Muster(name)
		c.traits[key] = t
	}
	return t
}
