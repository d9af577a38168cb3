package simulation

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/agent/control"
	"github.com/musterhq/muster/agent/unitfile"
	"github.com/musterhq/muster/cluster/store"
)

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
	{"alone-%d.service", "[X-Muster]\nSingleton=strict\n"},
	{"lone-%d.service", "[X-Muster]\nSingleton=strict\nPriority=1\nCPU=1\n"},
	{"stop-%d.service", "[X-Muster]\nOnPartition=stop\n"},
	{"roll-%d@.service", "[X-Muster]\nReplicas=%[2]d\nSpread=host\nUpdateParallel=2\n" + checked},
	{"each-%d.service", "[X-Fleet]\nGlobal=true\n[X-Muster]\nUpdateParallel=3\n" + checked},
	{"next-%d.service", "[X-Muster]\nSingleton=strict\nUpdateParallel=1\n" + checked},
	{"well-%d.service", "[X-Muster]\nHealthAction=restart\n" + checked},
}

const (
	checked = "HealthCheck=exec:/bin/well\nHealthInterval=2s\nHealthTimeout=1s\nHealthRetries=2\nHealthStartPeriod=2s\n"
	// sickness is in contents of which a health check says that they are no good.
	sickness = "Environment=SICK=1\n"
)

func sick(content string) bool { return strings.Contains(content, sickness) }

// wanted is a unit that operators want, and how often its contents were changed.
type wanted struct {
	name    string
	rules   string
	edition int
	sick    bool // the edition is
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
	service := fmt.Sprintf("[Service]\nTimeoutStartSec=4\nTimeoutStopSec=4\nExecStart=/bin/sleep %d\n", 1000+u.edition)
	if u.sick {
		service += sickness
	}
	return service + rules
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
	w.at(heal, w.tidy)
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

// admin is a voter that does what operators want.
func (w *world) admin() *control.Admin {
	return &control.Admin{Store: w.server.memory, Log: w.log, Now: time.Now}
}

// command is one call that operators make of a voter. While the store is away they cannot, and do not try again. It says
// whether the voter did it.
func (w *world) command(what string, do func(*control.Admin) error) bool {
	if w.server.without > 0 {
		return false
	}
	w.check.disturbed()
	err := do(w.admin())
	w.note("%6.1f s: an operator %s%s", w.elapsed().Seconds(), what, outcome(err, false))
	w.server.spread()
	return err == nil
}

// say tells what operators want of a unit.
func (w *world) say(what string, u *wanted) bool {
	return w.command(what+" "+u.name, func(a *control.Admin) error {
		if u.desired == "" {
			return a.DeleteUnit(w.ctx, u.name)
		}
		content := u.content()
		w.files[store.FileSum([]byte(content))] = content
		_, err := a.PutUnit(w.ctx, api.Unit{Name: u.name, Content: content, Desired: string(u.desired)})
		return err
	})
}

// operate does one thing that operators do.
func (w *world) operate(n int) {
	u := w.units[w.rng.IntN(len(w.units))]
	switch w.rng.IntN(13) {
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
	case 5, 6, 7, 8:
		w.replace(u)
	case 9:
		verb := []string{api.RolloutPause, api.RolloutResume, api.RolloutUndo, api.RolloutUndo}[w.rng.IntN(4)]
		if i := slices.IndexFunc(w.units, w.rolled); i >= 0 {
			u = w.units[i]
		}
		w.command(verb+"s the rollout of "+u.name, func(a *control.Admin) error { return a.ChangeRollout(w.ctx, u.name, verb) })
	case 10:
		moves := w.rng.IntN(4)
		w.command(fmt.Sprintf("orders rebalancing, %d moves", moves), func(a *control.Admin) error {
			return a.OrderRebalance(w.ctx, api.RebalanceOrder{MaxMoves: moves})
		})
	default:
		w.order(w.machines[w.rng.IntN(len(w.machines))])
	}
}

// rolled says whether a unit has a rollout, under way or over.
func (w *world) rolled(u *wanted) bool { return w.server.tables.Units[u.name].Record.Rollout != nil }

// replace gives a unit other contents. Some are no good; without a rollout to find out, operators see it at once.
func (w *world) replace(u *wanted) {
	was := *u
	u.desired = store.DesiredLaunched
	u.edition++
	u.sick = w.rng.IntN(3) == 0 && w.server.tables.Units[u.name].Record.Desired == store.DesiredLaunched
	if !w.say("replaces", u) {
		*u = was
		return
	}
	if u.sick && !w.server.tables.Units[u.name].Record.Rollout.Active() {
		u.edition++
		u.sick = false
		w.say("mends", u)
	}
}

// order has operators cordon a host, drain it, for good or until a deadline, or take it back into service.
func (w *world) order(m *machine) {
	var order api.HostOrder
	switch w.rng.IntN(4) {
	case 0, 1:
	case 2:
		order.Order = string(store.OrderCordon)
	default:
		order.Order = string(store.OrderDrain)
		if w.rng.IntN(2) == 0 {
			within := w.between(0, 20*time.Second)
			order.Within = &within
			w.saw("drains with a deadline")
		}
	}
	w.command(fmt.Sprintf("orders %q of %s", order.Order, m.host.Name), func(a *control.Admin) error {
		_, err := a.OrderHost(w.ctx, m.host.ID, order)
		return err
	})
}

// repeat has operators say all of it once more, as after the store has lost it.
func (w *world) repeat() {
	for _, u := range w.units {
		if u.sick {
			u.edition++
			u.sick = false
		}
		if u.desired != "" {
			w.say("says again", u)
		}
	}
}

// tidy has operators see to rollouts that stand still, every few seconds.
func (w *world) tidy() {
	for _, u := range w.units {
		if roll := w.server.tables.Units[u.name].Record.Rollout; roll.Active() && roll.Paused {
			w.command("resumes the rollout of "+u.name, func(a *control.Admin) error {
				return a.ChangeRollout(w.ctx, u.name, api.RolloutResume)
			})
		}
	}
	w.after(5*time.Second, w.tidy)
}
