package systemd

import (
	"github.com/godbus/dbus/v5"
)

// signal takes in what systemd tells. It runs in the goroutine that reads from the connection, so it never waits.
func (rt *Runtime) signal(s *dbus.Signal) {
	switch s.Name {
	case propertiesInterface + ".PropertiesChanged":
		var iface string
		var changed map[string]dbus.Variant
		var invalidated []string
		if dbus.Store(s.Body, &iface, &changed, &invalidated) == nil {
			rt.unitChanged(s.Path, changed)
		}
	case managerInterface + ".JobRemoved":
		var id uint32
		var job dbus.ObjectPath
		var unit, result string
		if dbus.Store(s.Body, &id, &job, &unit, &result) == nil {
			rt.endJob(id, unit, result)
		}
	case managerInterface + ".Reloading":
		var begins bool
		if dbus.Store(s.Body, &begins) == nil && !begins {
			rt.lookAgain()
		}
	case busName + ".NameOwnerChanged":
		var name, before, now string
		if dbus.Store(s.Body, &name, &before, &now) == nil && now != "" {
			rt.missed.Store(true)
			rt.lookAgain()
		}
	}
}

// lookAgain has the supervisor ask systemd for its units.
func (rt *Runtime) lookAgain() {
	select {
	case rt.stale <- struct{}{}:
	default:
	}
}

func (rt *Runtime) unitChanged(path dbus.ObjectPath, changed map[string]dbus.Variant) {
	rt.mu.Lock()
	u := rt.byPath[path]
	if u != nil {
		u.told(changed)
	}
	rt.mu.Unlock()
	if u != nil {
		rt.touch()
	}
}

// endJob tells those who wait for a job first, see starts.
func (rt *Runtime) endJob(id uint32, name, result string) {
	rt.jobs.end(id, result)
	if rt.with(name, func(u *unit) { u.jobEnded(id, result) }) == nil {
		rt.touch()
	}
}
