package simulation

import (
	"fmt"

	"github.com/musterhq/muster/cluster/roster"
)

// What every host has.
const (
	hostCPUs   = 4
	hostMemory = 8 << 30
)

// muster makes the hosts: 3 to 12, in one to three clouds, of which two or three vote.
func (w *world) muster() {
	hosts, clouds := 3+w.rng.IntN(10), 1+w.rng.IntN(3)
	voters := 2 + w.rng.IntN(2)
	for n := range hosts {
		m := &machine{world: w, index: n, rate: 1 + (w.rng.Float64()-0.5)/50, boot: 1, host: roster.Host{
			ID: fmt.Sprintf("%032x", n+1), Name: fmt.Sprintf("node-%02d", n+1), Generation: 1,
			Provider: fmt.Sprintf("cloud-%c", 'a'+n%clouds), Address: fmt.Sprintf("127.1.0.%d", n+1), Ports: roster.DefaultPorts(),
			Voter: n < voters,
		}}
		m.runtime = newUnits(m)
		w.machines = append(w.machines, m)
		if err := m.format(); err != nil {
			w.fail("the simulation cannot make a disk: %v", err)
		}
		if joins := w.between(0, calm/5); n > voters && w.rng.IntN(6) == 0 {
			w.after(w.between(calm, heal), func() { w.saw("hosts that join late"); m.start() })
		} else {
			w.after(joins, m.start)
		}
	}
	w.note("%d hosts in %d clouds, %d voters", hosts, clouds, voters)
}

func (w *world) note(format string, args ...any) {
	w.result.Story += fmt.Sprintf(format, args...) + "\n"
	w.tell(format, args...)
}

func (w *world) roster() roster.Roster {
	var list roster.Roster
	for _, m := range w.machines {
		list = append(list, m.host)
	}
	return list
}
