package update_test

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/musterhq/muster/agent/update"
)

// machine is update.Next, or a mutant of it.
type machine func(update.State, update.Event) (update.State, []update.Action)

// world is one host with its boot loader, a source of releases that is attacked, a reboot lock and a power supply that fails.
// What the machine must never do is noted in wrong.
type world struct {
	next   machine
	choose func(n int) int // 0 to n-1
	calm   bool            // nothing fails any more
	wrong  error

	now   time.Time
	disk  []byte       // the state as it was written last
	state update.State // as the agent has it
	queue []update.Action

	// The boot loader takes slot want as long as that is good or has tries left.
	slot    [2]image
	cur     int
	want    int
	boot    int
	isWell  bool // the host, in this boot
	wellYet bool // a probe has said so in this boot
	fallen  bool // it fell back, and no operator has resumed since

	fetched  map[string]bool // version → the files are what the metadata says
	verified map[string]bool

	held, hold bool // the lock; the rollout is held
	granted    int  // boot in which it got the lock
	resumed    int64
	confirmed  bool // rules and source allowed the target when they were asked last, after everything else
	newest     int
	broken     map[string]string // version → what is wrong with it: noboot, unwell
}

// image is what a slot holds; verified is the truth.
type image struct {
	version  string
	verified bool
	good     bool
	tries    int // -1: not counted
	boots    int // that were tries
}

func newWorld(next machine, choose func(int) int) *world {
	w := &world{
		next: next, choose: choose, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), isWell: true, newest: 1,
		fetched: map[string]bool{}, verified: map[string]bool{}, broken: map[string]string{},
	}
	w.slot[0] = image{version: "1", verified: true, good: true, tries: -1}
	w.start()
	return w
}

func (w *world) fail(format string, args ...any) {
	if w.wrong == nil {
		w.wrong = fmt.Errorf(format, args...)
	}
}

// maybe is true once in n times, and never when all is calm.
func (w *world) maybe(n int) bool { return !w.calm && w.choose(n) == n-1 }

func (w *world) slots() update.Slots {
	return update.Slots{Booted: w.slot[w.cur].slot(), Other: w.slot[1-w.cur].slot(), Next: w.slot[w.pick()].version}
}

func (i image) slot() update.Slot {
	return update.Slot{Version: i.version, Good: i.good, TriesLeft: i.tries}
}

// pick is the slot that the next boot takes.
func (w *world) pick() int {
	if i := w.slot[w.want]; i.good || i.tries > 0 {
		return w.want
	}
	return 1 - w.want
}

// give tells the machine, and writes what it answers, unless the power fails.
func (w *world) give(e update.Event) {
	e.At = w.now
	was := w.state.Phase
	state, actions := w.next(w.state, e)
	if w.maybe(15) {
		w.powerCut()
		return
	}
	if state.Phase == update.Failed && was != update.Failed {
		w.hold = true // the leader sees it
	}
	data, err := json.Marshal(state)
	if err != nil {
		w.fail("the state cannot be kept: %v", err)
	}
	w.disk, w.state = data, state
	if actions != nil {
		w.queue = actions
	}
	if w.maybe(15) {
		w.powerCut()
	}
}

func (w *world) start() {
	w.state, w.queue = update.State{}, nil
	if w.disk != nil {
		if err := json.Unmarshal(w.disk, &w.state); err != nil {
			w.fail("%v", err)
		}
	}
	w.give(update.Event{Kind: update.Started, Boot: fmt.Sprint(w.boot), Slots: w.slots()})
}

// powerCut boots whatever the boot loader has. An image that does not boot uses up its tries.
func (w *world) powerCut() {
	for {
		w.boot++
		w.cur = w.pick()
		if w.cur != w.want && w.slot[w.want].version != "" {
			w.fallen, w.want = true, w.cur
		}
		i := &w.slot[w.cur]
		if !i.good {
			i.tries--
			i.boots++
			w.booting(*i)
		}
		if w.broken[i.version] != "noboot" {
			break
		}
	}
	w.isWell, w.wellYet = w.broken[w.slot[w.cur].version] == "", false
	w.start()
}

func (w *world) booting(i image) {
	if !i.verified {
		w.fail("release %s is booted, and was not found to be what the metadata says", i.version)
	}
	if i.boots > update.DefaultTries {
		w.fail("release %s is booted %d times and was never good", i.version, i.boots)
	}
}

// step is one action of the machine, or time that passes.
func (w *world) step() {
	w.now = w.now.Add(time.Duration(w.choose(120)) * time.Second)
	if w.maybe(12) {
		w.powerCut()
		return
	}
	if w.hold && (w.calm || w.choose(6) == 0) {
		w.hold, w.fallen, w.resumed = false, false, w.resumed+1
	}
	if len(w.queue) == 0 {
		w.now = w.now.Add(max(0, w.state.Until.Sub(w.now)))
		w.give(update.Event{Kind: update.Tick})
		return
	}
	a := w.queue[0]
	w.queue = w.queue[1:]
	if w.maybe(12) {
		w.give(update.Event{Kind: update.Erred, Phase: a.Phase, Reason: "no luck"})
		return
	}
	e := w.do(a)
	e.Phase = a.Phase
	if e.Kind != "" {
		w.give(e)
	}
}

// offer is what the source says now, which may be an attack.
func (w *world) offer() update.Offer {
	o := update.Offer{Version: fmt.Sprint(w.newest), Expires: w.now.Add(time.Hour)}
	switch {
	case w.maybe(6):
		o.Version = fmt.Sprint(max(1, w.newest-1-w.choose(3)))
	case w.maybe(6):
		o.Expires = w.now.Add(-time.Minute)
	case w.maybe(8):
		o.Minimum = fmt.Sprint(w.newest + 1)
	case w.maybe(8):
		o.Version = "../evil"
	}
	return o
}

// acceptable is what may be booted of what the source says.
func (w *world) acceptable(o update.Offer) bool {
	_, failed := w.state.Failure(o.Version)
	return update.ValidVersion(o.Version) && w.now.Before(o.Expires) && !failed &&
		(o.Minimum == "" || update.Compare(o.Version, o.Minimum) >= 0) && update.Compare(o.Version, w.slot[w.cur].version) > 0
}

func (w *world) do(a update.Action) update.Event {
	version, other := a.Target.Version, &w.slot[1-w.cur]
	switch a.Kind {
	case update.Check:
		if w.calm || w.choose(3) == 0 {
			w.newest++
			if !w.calm {
				w.broken[fmt.Sprint(w.newest)] = []string{"", "", "noboot", "unwell"}[w.choose(4)]
			}
		}
		return update.Event{Kind: update.Offered, Offer: w.offer()}
	case update.Fetch:
		w.fetched[version], w.verified[version] = !w.maybe(4), false
		return update.Event{Kind: update.Fetched}
	case update.Verify:
		if !w.fetched[version] {
			return update.Event{Kind: update.Erred, Reason: "a file is not what the metadata says"}
		}
		w.verified[version] = true
	case update.Stage:
		if other.version != version {
			*other = image{version: version, verified: w.verified[version]}
		}
	case update.Permit, update.Lock, update.Confirm:
		return w.permit(a)
	case update.Switch:
		w.switchTo(version)
	case update.Reboot:
		if !w.held {
			w.fail("the host reboots and does not hold the lock")
		}
		w.powerCut()
		return update.Event{}
	case update.Probe:
		w.wellYet = w.wellYet || w.isWell
		return update.Event{Kind: update.Probed, May: w.isWell, Reason: "no"}
	case update.Good:
		if !w.wellYet {
			w.fail("a slot is marked good and the host was not well in it")
		}
		w.slot[w.cur].good, w.slot[w.cur].tries, w.want = true, -1, w.cur
	case update.GiveBack:
		w.giveBack()
	case update.Forget:
		if other.version == version {
			*other, w.want = image{}, w.cur
		}
	case update.Hold:
		if w.hold {
			w.queue = []update.Action{a}
			return update.Event{}
		}
	}
	return update.Event{Kind: update.Done}
}

func (w *world) permit(a update.Action) update.Event {
	e := update.Event{Kind: update.Permitted, Offer: w.offer(), May: !w.hold && !w.maybe(5), Resumed: w.resumed, Slots: w.slots()}
	if a.Kind == update.Lock {
		if w.held && w.granted != w.boot {
			w.fail("the host asks for the lock, which it holds since an earlier boot")
		}
		w.held, w.granted = true, w.boot
	}
	if a.Kind == update.Confirm && w.held && w.maybe(6) {
		w.held = false // an operator takes it away
	}
	e.Held = w.held
	w.confirmed = a.Kind == update.Confirm && e.May && e.Held && e.Offer.Version == a.Target.Version && w.acceptable(e.Offer)
	return e
}

func (w *world) switchTo(version string) {
	other := &w.slot[1-w.cur]
	switch {
	case !w.confirmed:
		w.fail("the boot loader is told to boot release %s, which may not be booted by now", version)
	case !w.held:
		w.fail("the boot loader is told and the lock is not held")
	case other.version != version:
		w.fail("the boot loader is told to boot release %s, which is not there", version)
	case !other.good && other.tries == 0 && other.boots == 0:
		other.tries = update.DefaultTries
	}
	w.want = 1 - w.cur
}

func (w *world) giveBack() {
	switch {
	case w.held && w.granted != w.boot && !w.wellYet:
		w.fail("the lock is given back, and the host was not well since it booted")
	case w.held && w.fallen:
		w.fail("the lock is given back after the host fell back, and no operator has looked")
	}
	w.held = false
}

// wander lives through so many steps with everything going wrong, and then some with nothing: the host must come to run the
// newest release, and must not hold the lock.
func (w *world) wander(steps int) error {
	for range steps {
		if w.step(); w.wrong != nil {
			return w.wrong
		}
	}
	w.calm = true
	w.newest++ // one that works
	for range 300 {
		if w.step(); w.wrong != nil {
			return w.wrong
		}
		if w.state.Phase == update.Idle && update.Compare(w.slot[w.cur].version, fmt.Sprint(w.newest-1)) >= 0 && !w.held {
			return nil
		}
	}
	return fmt.Errorf("it comes to no end: %s of %+v, held %v, %s", w.state.Phase, w.slots(), w.held, w.state.Reason)
}
