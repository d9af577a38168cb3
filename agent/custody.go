package agent

import (
	"slices"
	"time"

	"github.com/musterhq/muster/agent/runtime"
	"github.com/musterhq/muster/agent/unitfile"
	"github.com/musterhq/muster/cluster/store"
)

// custody is what the executor keeps of units that depend on the host's contact with the store.
type custody struct {
	revision int64                    // as of which the schedule was read, 0 for the one on disk
	epoch    int                      // partition.Contact.Epoch
	stops    map[string]time.Duration // TimeoutStopSec of units that were loaded
	strays   map[string]bool          // strict units that the schedule has no more, and that were not told to leave
	withheld map[string]string        // units that are not run for want of contact, and why
}

func newCustody() custody {
	return custody{stops: map[string]time.Duration{}, strays: map[string]bool{}, withheld: map[string]string{}}
}

// accept takes a schedule in place of another one.
func (c *custody) accept(was *store.ScheduleRecord, is scheduled) {
	c.revision = is.revision
	names := make(map[string]bool, len(is.record.Units))
	for _, u := range is.record.Units {
		names[u.Name] = true
		delete(c.strays, u.Name)
	}
	if was == nil {
		return
	}
	for _, u := range was.Units {
		if u.Partition == store.PartitionStrict && u.Leaving == 0 && !names[u.Name] {
			c.strays[u.Name] = true
		}
	}
}

// keepCustody returns the units as they are wanted now, which for those that depend on the contact is loaded and no more
// while there is none, and when to look again. busy are those that are being worked on. mu is held.
func (e *executor) keepCustody(observed []runtime.Status, busy map[string]bool) ([]store.ScheduledUnit, time.Duration) {
	up, loaded := make(map[string]bool, len(observed)), make(map[string]bool, len(observed))
	for _, s := range observed {
		loaded[s.Name] = true
		up[s.Name] = s.Active != "inactive" && s.Active != "failed"
	}
	for name := range e.custody.strays {
		if !up[name] && !busy[name] {
			delete(e.custody.strays, name)
		}
	}
	if e.contact.now().Unannounced(e.custody.revision) && slices.ContainsFunc(e.desired.Units, isStrict) {
		e.again.raise()
	}
	e.contact.scheduled(e.custody.revision, len(e.custody.strays) > 0)
	clear(e.custody.withheld)
	contact, now, next := e.contact.now(), e.contact.clock(), lastRetry
	again := contact.Epoch != e.custody.epoch
	e.custody.epoch = contact.Epoch
	units := slices.Clone(e.desired.Units)
	left := map[string]int64{}
	for i := range units {
		u := &units[i]
		switch {
		case u.Leaving != 0:
			if !loaded[u.Name] && !busy[u.Name] { // nor can a socket or a timer start it here any more
				left[u.Name] = u.Leaving
			}
			continue
		case u.Partition == store.PartitionKeep || u.Desired != store.DesiredLaunched:
			continue
		}
		if _, begun := e.begun[u.Name]; begun && again && isStrict(*u) && !busy[u.Name] {
			delete(e.begun, u.Name) // it may have been killed
			e.unsaved = true
		}
		stop, known := e.custody.stops[u.Name]
		if !known {
			stop = unitfile.Infinity
		}
		_, begun := e.begun[u.Name]
		may := contact.MayRun(u.Partition, stop, now)
		if !up[u.Name] && !begun {
			may = contact.MayStart(u.Partition, stop, now)
		}
		if !may {
			u.Desired = store.DesiredLoaded
			e.custody.withheld[u.Name] = e.contact.withheld(u.Partition)
			continue
		}
		if until, bounded := contact.Until(u.Partition, stop); bounded {
			next = min(next, max(until-now, 0)+time.Millisecond)
		}
	}
	e.gaveUp(left)
	return units, next
}

func isStrict(u store.ScheduledUnit) bool { return u.Partition == store.PartitionStrict }
