package simulation

import (
	"fmt"
	"strings"
	"time"

	"github.com/musterhq/muster/agent/unitfile"
	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/store"
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
		w.after(w.between(0, calm/5), m.start)
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

// kinds are units such as operators have: the sections that matter, and under which names.
var kinds = []struct {
	name  string // %d counts
	rules string
}{
	{"plain-%d.service", ""},
	{"solo-%d.service", "[X-Fleet]\nConflicts=solo-*.service\n"},
	{"big-%d.service", "[X-Muster]\nCPU=2.5\nMemory=3G\n"},
	{"web-%d@.service", "[X-Muster]\nReplicas=%[2]d\nSpread=host\n"},
	{"wide-%d@.service", "[X-Muster]\nReplicas=%[2]d\nSpread=provider\nCPU=0.5\n"},
	{"every-%d.service", "[X-Fleet]\nGlobal=true\n"},
	{"here-%d.service", "[X-Fleet]\nMachineMetadata=provider=cloud-a\n"},
	{"peer-%d.service", "[X-Fleet]\nMachineOf=plain-0.service\n"},
	{"first-%d.service", "[X-Muster]\nPriority=10\nCPU=1.5\n"},
}

// wanted is a unit that operators want, and how often its contents were changed.
type wanted struct {
	name    string
	rules   string
	edition int
	desired store.Desired
	count   int // of replicas
}

const maxReplicas = 5

// size is how many units it may become.
func (u wanted) size() int {
	if unitfile.IsTemplate(u.name) {
		return maxReplicas
	}
	return 1
}

// content is the unit's file.
func (u wanted) content() string {
	rules := u.rules
	if strings.Contains(rules, "%[2]d") {
		rules = fmt.Sprintf(strings.Replace(rules, "%[2]d", "%d", 1), u.count)
	}
	return fmt.Sprintf("[Service]\nExecStart=/bin/sleep %d\n", 1000+u.edition) + rules
}

// submit writes the unit as a voter does for an operator.
func (w *world) submit(u wanted) []store.Op {
	content := u.content()
	sum := store.FileSum([]byte(content))
	w.files[sum] = content
	record := store.UnitRecord{File: sum, Desired: u.desired}
	if unitfile.IsTemplate(u.name) {
		record.Replicated, record.Replicas = true, u.count
	}
	data, err := store.Marshal(record)
	if err != nil {
		w.fail("the simulation cannot write %s: %v", u.name, err)
	}
	return []store.Op{store.Put(store.FileKey(sum), []byte(content)), store.Put(store.UnitKey(u.name), data)}
}

// employ has operators submit units, and change their minds.
func (w *world) employ() {
	w.after(calm/3, func() {
		for n := range 4 + w.rng.IntN(9) {
			w.add(n)
		}
	})
	for n := range 3 + w.rng.IntN(8) {
		w.at(w.between(calm, heal), func() { w.operate(100 + n) })
	}
}

// most is how many units and replicas there are at most: as many as an agent works on at once. Of more, chance would decide
// which come first, and not the seed.
const most = 16

// add submits another unit.
func (w *world) add(n int) {
	kind := kinds[w.rng.IntN(len(kinds))]
	u := &wanted{name: fmt.Sprintf(kind.name, n), rules: kind.rules, desired: store.DesiredLaunched, count: 1 + w.rng.IntN(maxReplicas)}
	if n == 0 {
		u.name, u.rules = "plain-0.service", ""
	}
	total := u.size()
	for _, other := range w.units {
		total += other.size()
	}
	if total > most {
		return
	}
	w.units = append(w.units, u)
	w.say("submits", u)
}

// say writes what operators want of a unit. While the store is away they cannot, and do not try again.
func (w *world) say(what string, u *wanted) {
	ops := []store.Op{store.Delete(store.UnitKey(u.name))}
	if u.desired != "" {
		ops = w.submit(*u)
	}
	w.command(what+" "+u.name, ops...)
}

// command is one commit that a voter makes for an operator.
func (w *world) command(what string, ops ...store.Op) {
	if w.server.without > 0 {
		return
	}
	w.note("%6.1f s: an operator %s", w.elapsed().Seconds(), what)
	w.check.disturbed()
	w.server.write(ops...)
}

// operate does one thing that operators do.
func (w *world) operate(n int) {
	u := w.units[w.rng.IntN(len(w.units))]
	switch w.rng.IntN(9) {
	case 0:
		w.add(n)
	case 1:
		u.desired = ""
		w.say("removes", u)
	case 2:
		u.desired = store.DesiredInactive
		w.say("unloads", u)
	case 3:
		u.desired = store.DesiredLoaded
		w.say("stops", u)
	case 4:
		u.desired, u.count = store.DesiredLaunched, 1+w.rng.IntN(maxReplicas)
		w.say("starts and scales", u)
	case 5, 6:
		u.desired = store.DesiredLaunched
		u.edition++
		w.say("replaces", u)
	default:
		w.order(w.machines[w.rng.IntN(len(w.machines))])
	}
}

// order has operators cordon a host, drain it, for good or until a deadline, or take it back into service.
func (w *world) order(m *machine) {
	record := store.OrderRecord{Order: store.OrderCordon, Since: time.Now()}
	switch w.rng.IntN(4) {
	case 0, 1:
		w.command("takes "+m.host.Name+" back into service", store.Delete(store.OrderKey(m.host.ID)))
		return
	case 2:
		record.Order = store.OrderDrain
		if w.rng.IntN(2) == 0 {
			deadline := time.Now().Add(w.between(0, 20*time.Second))
			record.Deadline = &deadline
		}
	}
	data, err := store.Marshal(record)
	if err != nil {
		w.fail("the simulation cannot write an order: %v", err)
	}
	w.command(fmt.Sprintf("orders %s of %s", record.Order, m.host.Name), store.Put(store.OrderKey(m.host.ID), data))
}

// repeat has operators say all of it once more, as after the store has lost it.
func (w *world) repeat() {
	for _, u := range w.units {
		w.say("says again", u)
	}
}
