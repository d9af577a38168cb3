package schedule

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// room is what units reserve of a host: thousandths of a CPU, and bytes of memory.
type room struct{ cpu, memory int64 }

func needsOf(u *Unit) room { return room{cpu: u.Requirements.MilliCPU, memory: u.Requirements.Memory} }

// fit says whether free has what is needed. Who needs nothing of one fits however little there is of it.
func (r room) fit(free room) bool {
	return (r.cpu == 0 || r.cpu <= free.cpu) && (r.memory == 0 || r.memory <= free.memory)
}

// take takes n times the needs from free.
func (r *room) take(needs room, n int64) {
	r.cpu -= n * needs.cpu
	r.memory -= n * needs.memory
}

func (r room) isNone() bool { return r == room{} }

// String renders reservations as a unit file has them: CPU=0.5 and Memory=512M.
func (r room) String() string {
	var parts []string
	if r.cpu > 0 {
		parts = append(parts, "CPU="+cpus(r.cpu))
	}
	if r.memory > 0 {
		parts = append(parts, "Memory="+size(r.memory))
	}
	return strings.Join(parts, " and ")
}

func cpus(milli int64) string { return strconv.FormatFloat(float64(milli)/1000, 'f', -1, 64) }

// size renders bytes with the greatest suffix that leaves a whole number, or else with one decimal.
func size(bytes int64) string {
	const suffixes = "KMGT"
	exact, rough := fmt.Sprint(bytes), fmt.Sprint(bytes)
	for i, unit := 0, int64(1024); i < len(suffixes) && bytes >= unit; i, unit = i+1, unit*1024 {
		if bytes%unit == 0 {
			exact = fmt.Sprintf("%d%c", bytes/unit, suffixes[i])
		}
		rough = fmt.Sprintf("%.1f%c", float64(bytes)/float64(unit), suffixes[i])
	}
	if len(exact) <= len("1023.9M") {
		return exact
	}
	return rough
}

// whyNoRoom says what a host lacks for the unit, "" if it has room.
func (w *world) whyNoRoom(u *unit, at int32) string {
	h := &w.hosts[at]
	switch {
	case u.needs.cpu > 0 && h.MilliCPU == 0:
		return "has not said how many CPUs it has"
	case u.needs.memory > 0 && h.Memory == 0:
		return "has not said how much memory it has"
	case u.needs.cpu > 0 && u.needs.cpu > h.free.cpu:
		return fmt.Sprintf("has %s of its %s CPUs left, not %s", cpus(max(h.free.cpu, 0)), cpus(h.MilliCPU), cpus(u.needs.cpu))
	case u.needs.memory > 0 && u.needs.memory > h.free.memory:
		return fmt.Sprintf("has %s of its %s of memory left, not %s",
			size(max(h.free.memory, 0)), size(h.Memory), size(u.needs.memory))
	}
	return ""
}

// shed unsettles units where more is reserved than the host has: the first by priority, then by name, stay as far as
// there is room.
func (w *world) shed() {
	over := make(map[int32][]resident)
	for i := range w.hosts {
		if free := w.hosts[i].free; free.cpu < 0 || free.memory < 0 {
			over[int32(i)] = nil
		}
	}
	if len(over) == 0 {
		return
	}
	for _, r := range w.residents(func(u *unit, at int32) bool {
		_, crowded := over[at]
		return crowded && !u.needs.isNone()
	}) {
		over[r.at] = append(over[r.at], r)
	}
	for at, residents := range over {
		w.shedHost(at, residents)
	}
}

// shedHost takes everybody's reservation away and gives it again in order.
func (w *world) shedHost(at int32, residents []resident) {
	h := &w.hosts[at]
	for _, r := range residents {
		h.free.take(r.needs, -1)
	}
	slices.SortStableFunc(residents, func(a, b resident) int {
		return cmp.Compare(b.Requirements.Priority, a.Requirements.Priority)
	})
	for _, r := range residents {
		why := w.whyNoRoom(r.unit, at)
		if h.free.take(r.needs, 1); why != "" {
			w.leave(r, "host "+nameOf(h.Host)+" "+why)
		}
	}
}
