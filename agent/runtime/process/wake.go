package process

import "golang.org/x/sys/unix"

// wake wakes stopped keepers that no record names: an agent that ended after it had written down that a process is over,
// and before it woke that one's keeper, left both. A keeper that is still the parent of something goes on as that; the others
// are gone, or killed, when it returns.
func (rt *Runtime) wake(units []*unit) error {
	known := map[id]bool{}
	for _, u := range units {
		for _, p := range []*proc{u.record.Main, u.record.Control} {
			if p != nil && u.record.Boot == rt.boot {
				known[p.Keeper] = true
			}
		}
	}
	processes, err := all()
	if err != nil {
		return err
	}
	parents := map[int]bool{}
	for _, l := range processes {
		parents[l.Parent] = true
	}
	var childless []*handle
	for _, l := range processes {
		if known[l.id] || l.Session != l.PID || !has(environment(l.PID), instanceMark+"="+rt.config.Instance) || !isKeeper(l.PID) {
			continue
		}
		h, err := open(l.id)
		if err != nil {
			continue // it has ended
		}
		rt.config.Log.Debug("waking the keeper of a process that is over", "pid", l.PID)
		_ = h.signal(unix.SIGCONT)
		if parents[l.PID] {
			h.Close()
			continue
		}
		childless = append(childless, h)
	}
	rt.awaitEnds(childless)
	return nil
}

// awaitEnds waits until keepers without a child are gone, and kills those that take too long.
func (rt *Runtime) awaitEnds(keepers []*handle) {
	ctx, cancel := rt.within(dismissTimeout)
	defer cancel()
	for _, h := range keepers {
		if h.wait(ctx) != nil {
			_ = h.signal(unix.SIGKILL)
		}
		h.Close()
	}
}
