package fleet

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/musterhq/muster/agent/schedule"
	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/store"
)

const strictName = "db.service"

// strictWorld is a store and its hosts, of which each does what the schedule says that it has read, however long ago.
type strictWorld struct {
	revision int64
	wanted   bool           // the unit is to run
	strict   bool           // its record says that it is
	at       map[int]record // schedules, by host
	alive    map[int]bool
	left     map[int]int64 // what the host has told, 0 for nothing
	gone     map[int]bool  // it has been away for so long that nothing runs there
	members  map[int]bool

	mutant string // what is broken on purpose

	seen    map[int]record // the schedule that the host obeys
	runs    map[int]bool
	current map[int]bool // the host has read its schedule since it is back
}

// record is a schedule with its revision, without units if the unit is not in it.
type record struct {
	revision int64
	units    []store.ScheduledUnit
}

func newStrictWorld() *strictWorld {
	w := &strictWorld{
		revision: 1, wanted: true, strict: true, at: map[int]record{}, alive: map[int]bool{}, left: map[int]int64{}, gone: map[int]bool{},
		members: map[int]bool{}, seen: map[int]record{}, runs: map[int]bool{}, current: map[int]bool{},
	}
	for n := 1; n <= 3; n++ {
		w.members[n], w.alive[n] = true, true
	}
	return w
}

// view is what a leader reads.
func (w *strictWorld) view(t *testing.T) View {
	r := newRecorder(t)
	partition := store.PartitionKeep
	if w.strict {
		partition = store.PartitionStrict
	}
	if w.wanted {
		put(r, store.UnitKey(strictName), store.Marshal[store.UnitRecord],
			store.UnitRecord{File: "f", Desired: store.DesiredLaunched, Partition: partition})
	}
	for n := range w.members {
		put(r, store.RosterKey(id(n)), store.Marshal[store.RosterRecord], store.RosterRecord{Host: roster.Host{ID: id(n), Name: id(n)}})
		host := store.HostRecord{HoldMillis: 1000}
		if w.left[n] != 0 {
			host.Left = map[string]int64{strictName: w.left[n]}
		}
		put(r, store.HostKey(id(n)), store.Marshal[store.HostRecord], host)
		if w.alive[n] {
			put(r, store.AliveKey(id(n)), store.Marshal[store.Alive], store.Alive{Since: time.Unix(0, 0)})
		}
	}
	for n, s := range w.at {
		data, err := store.Marshal(store.ScheduleRecord{Units: s.units})
		if err != nil {
			t.Fatal(err)
		}
		item := store.Item{Key: store.ScheduleKey(id(n)), Value: data, CreateRevision: s.revision, ModRevision: s.revision}
		r.v.Read(store.View{Revision: s.revision, Items: []store.Item{item}})
	}
	return r.v
}

// decision is what a leader has worked out from a view and will write: first where the unit is lost, then where it arrives.
type decision struct {
	schedules map[int]record // with the revision that they replace
	forfeits  map[int]bool
	gains     map[int]bool
}

func (w *strictWorld) decide(t *testing.T, to int) decision {
	v := w.view(t)
	after := schedule.Snapshot{Placed: map[string]string{}}
	if w.wanted && to != 0 {
		after.Placed[strictName] = id(to)
	}
	gone := map[string]bool{}
	for n := range w.members {
		if w.gone[n] || w.mutant == absentIsGone && !w.alive[n] {
			gone[id(n)] = true
		}
	}
	d := decision{schedules: map[int]record{}, forfeits: map[int]bool{}, gains: map[int]bool{}}
	for host, is := range v.Schedules(after, nil, func(a, b string) bool { return a == b }, gone) {
		var n int
		if _, err := fmt.Sscanf(host, "%x", &n); err != nil {
			t.Fatal(err)
		}
		if slices.EqualFunc(is.Units, w.at[n].units, store.ScheduledUnit.Equal) {
			continue
		}
		d.schedules[n] = record{w.at[n].revision, is.Units}
		d.forfeits[n] = v.Forfeits(host, is.Units) && w.mutant != neverForfeits
		d.gains[n] = len(w.at[n].units) < len(is.Units)
	}
	return d
}

// commit writes a decision as a leader does: with guards on what it was made from, and until one does not hold.
func (w *strictWorld) commit(d decision) {
	for _, gains := range []bool{false, true} {
		for _, n := range slices.Sorted(maps.Keys(d.schedules)) {
			if d.gains[n] != gains {
				continue
			}
			if d.schedules[n].revision != w.at[n].revision || d.forfeits[n] && w.alive[n] {
				return
			}
			w.revision++
			w.at[n] = record{w.revision, d.schedules[n].units}
		}
	}
}

// unit is what a schedule says of the unit.
func (r record) unit() (store.ScheduledUnit, bool) {
	if len(r.units) == 0 {
		return store.ScheduledUnit{}, false
	}
	return r.units[0], true
}

// step lets a host do something. What it does depends on what it has read, and not on what the store has.
func (w *strictWorld) step(r *rand.Rand, n int) {
	w.revision++
	switch r.IntN(16) {
	case 0, 1, 2, 3:
		if w.alive[n] {
			w.seen[n], w.current[n] = w.at[n], true
		}
	case 4, 5, 6, 7:
		if u, there := w.seen[n].unit(); there && u.Leaving == 0 && u.Desired == store.DesiredLaunched && w.current[n] {
			w.runs[n] = true
		}
	case 8, 9, 10:
		if u, there := w.seen[n].unit(); !there || u.Leaving != 0 {
			w.runs[n] = false
		}
	case 11, 12, 13:
		if u, there := w.seen[n].unit(); there && u.Leaving != 0 && !w.runs[n] && w.alive[n] {
			w.left[n] = u.Leaving
		}
	case 14: // its session ends, or it begins another
		if w.alive[n] = !w.alive[n]; w.alive[n] {
			delete(w.gone, n)
		}
		w.current[n] = false
	case 15: // it has been away for so long that what ran there has been killed
		if !w.alive[n] {
			w.gone[n], w.runs[n] = true, false
		}
	}
}

// leap lets a host be away for so long that what ran there has been killed, or be back and do at once what its schedule says.
func (w *strictWorld) leap(r *rand.Rand, n int) {
	w.revision++
	if w.alive[n] {
		if r.IntN(4) == 0 {
			w.alive[n], w.gone[n], w.runs[n], w.current[n] = false, true, false, false
		}
		return
	}
	delete(w.gone, n)
	w.alive[n], w.current[n], w.seen[n] = true, true, w.at[n]
	if u, there := w.seen[n].unit(); there && u.Leaving == 0 && u.Desired == store.DesiredLaunched {
		w.runs[n] = true
	}
}

// What the handover is broken by, to see that the test finds it.
const (
	neverForfeits = "Forfeits is always false"
	absentIsGone  = "a host without a session counts as one that has killed its strict units"
)

// TestHandover has a leader move a strict unit to and fro, by views that are old when it writes, while hosts read late,
// stop late, tell late, go and come back. It never runs twice, and no schedules let two hosts run it.
func TestHandover(t *testing.T) {
	moves := 0
	for seed := range uint64(200) {
		n, why := handOver(t, seed, "")
		if why != "" {
			t.Fatalf("seed %d: %s", seed, why)
		}
		moves += n
	}
	if moves < 100 {
		t.Errorf("the unit has moved %d times: too seldom to learn from", moves)
	}
}

// TestHandoverMutants breaks what keeps the unit from running twice. Each break must be found.
func TestHandoverMutants(t *testing.T) {
	const most = 400
	for _, mutant := range []string{neverForfeits, absentIsGone} {
		t.Run(mutant, func(t *testing.T) {
			for seed := range uint64(most) {
				if _, why := handOver(t, seed, mutant); why != "" {
					t.Logf("seed %d: %s", seed, why)
					return
				}
			}
			t.Errorf("nothing was found in %d seeds", most)
		})
	}
}

// handOver counts how often the unit has moved, and says what is wrong, "" for nothing.
func handOver(t *testing.T, seed uint64, mutant string) (moves int, why string) {
	r := rand.New(rand.NewPCG(seed, 0))
	w := newStrictWorld()
	w.mutant = mutant
	var pending *decision // of whoever leads: what another had decided is refused
	where, to := 0, 1
	for range 300 {
		switch r.IntN(9) {
		case 0:
			if r.IntN(3) == 0 {
				to = r.IntN(4)
			}
			if pending == nil || r.IntN(2) == 0 { // else it is slow to write what it has decided
				d := w.decide(t, to)
				pending = &d
			}
		case 1:
			if pending != nil {
				w.commit(*pending)
				pending = nil
			}
		case 2:
			if r.IntN(16) == 0 {
				w.wanted = !w.wanted
			}
		case 3:
			w.leap(r, 1+r.IntN(3))
		default:
			w.step(r, 1+r.IntN(3))
		}
		var run, may []int
		for n := 1; n <= 3; n++ {
			if w.runs[n] {
				run = append(run, n)
			}
			if _, there := w.at[n].unit(); there {
				may = append(may, n)
			}
		}
		if len(run) > 1 || len(may) > 1 {
			return moves, fmt.Sprintf("it runs on hosts %v, and is in the schedules of %v", run, may)
		}
		if len(run) == 1 && run[0] != where {
			where = run[0]
			moves++
		}
	}
	return moves, ""
}

// TestHandoverStays keeps a strict unit in the schedule of the host that may still run it, and out of all others.
func TestHandoverStays(t *testing.T) {
	launched := store.ScheduledUnit{Name: strictName, File: "f", Desired: store.DesiredLaunched, Partition: store.PartitionStrict}
	leaving := func(number int64) store.ScheduledUnit {
		u := launched
		u.Desired, u.Leaving = store.DesiredInactive, number
		return u
	}
	keep := launched
	keep.Partition = store.PartitionKeep
	for _, c := range []struct {
		name   string
		has    store.ScheduledUnit // the schedule of host 1, of revision 7
		change func(w *strictWorld)
		to     int
		one    []store.ScheduledUnit
		two    []store.ScheduledUnit
	}{
		{name: "it stays", has: launched, to: 1, one: []store.ScheduledUnit{launched}},
		{name: "it is asked to leave", has: launched, to: 2, one: []store.ScheduledUnit{leaving(7)}},
		{name: "it has not left", has: leaving(5), to: 2, one: []store.ScheduledUnit{leaving(5)}},
		{
			name: "it has left another time", has: leaving(5), to: 2, one: []store.ScheduledUnit{leaving(5)},
			change: func(w *strictWorld) { w.left[1] = 4 },
		},
		{
			name: "it has left", has: leaving(5), to: 2, two: []store.ScheduledUnit{launched},
			change: func(w *strictWorld) { w.left[1] = 5 },
		},
		{name: "it comes back", has: leaving(5), to: 1, one: []store.ScheduledUnit{launched}},
		{
			name: "the host is away", has: launched, to: 2, one: []store.ScheduledUnit{launched},
			change: func(w *strictWorld) { w.alive[1] = false },
		},
		{
			name: "the host has been away for long", has: launched, to: 2, two: []store.ScheduledUnit{launched},
			change: func(w *strictWorld) { w.alive[1], w.gone[1] = false, true },
		},
		{
			name: "the host is removed", has: launched, to: 2, one: []store.ScheduledUnit{launched},
			change: func(w *strictWorld) { w.alive[1] = false; delete(w.members, 1) },
		},
		{
			name: "the host never heard that it is strict", has: keep, to: 2, one: []store.ScheduledUnit{keep},
			change: func(w *strictWorld) { w.alive[1], w.gone[1] = false, true },
		},
		{name: "the host is told that it is strict", has: keep, to: 1, one: []store.ScheduledUnit{
			{Name: strictName, File: "f", Desired: store.DesiredInactive, Leaving: 7},
		}},
		{
			name: "it is not wanted any more", has: launched, one: []store.ScheduledUnit{leaving(7)},
			change: func(w *strictWorld) { w.wanted = false },
		},
	} {
		w := newStrictWorld()
		w.at[1] = record{7, []store.ScheduledUnit{c.has}}
		if c.change != nil {
			c.change(w)
		}
		w.commitAll(w.decide(t, c.to))
		for n, want := range map[int][]store.ScheduledUnit{1: c.one, 2: c.two} {
			if got := w.at[n].units; !slices.EqualFunc(got, want, store.ScheduledUnit.Equal) {
				t.Errorf("%s: host %d has %+v, want %+v", c.name, n, got, want)
			}
		}
	}
}

// commitAll writes without guards.
func (w *strictWorld) commitAll(d decision) {
	for n, s := range d.schedules {
		w.at[n] = s
	}
}

// TestForfeits tells which schedules may be written only while the host has no session.
func TestForfeits(t *testing.T) {
	unit := store.ScheduledUnit{Name: strictName, File: "f", Desired: store.DesiredLaunched, Partition: store.PartitionStrict}
	leaving := unit
	leaving.Leaving = 3
	for _, c := range []struct {
		name string
		has  store.ScheduledUnit
		left int64
		next []store.ScheduledUnit
		want bool
	}{
		{name: "it goes", has: unit, want: true},
		{name: "it stays", has: unit, next: []store.ScheduledUnit{unit}},
		{name: "it leaves", has: unit, next: []store.ScheduledUnit{leaving}},
		{name: "it goes and has not left", has: leaving, want: true},
		{name: "it goes and had left before", has: leaving, left: 2, want: true},
		{name: "it goes and has left", has: leaving, left: 3},
		{name: "it is not strict", has: store.ScheduledUnit{Name: strictName, File: "f", Desired: store.DesiredLaunched}},
	} {
		w := newStrictWorld()
		w.at[1] = record{7, []store.ScheduledUnit{c.has}}
		w.left[1] = c.left
		if got := w.view(t).Forfeits(id(1), c.next); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
