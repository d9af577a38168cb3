package simulation

import (
	"cmp"
	"container/heap"
	"context"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing/synctest"
	"time"
)

// Options say what is to be simulated.
type Options struct {
	Seed   uint64
	Dir    string    // an empty directory for what hosts keep on disk; in memory, if possible
	Trace  io.Writer // told of everything that happens; nil for nobody
	Mutant Mutant    // what is broken on purpose
	Shaken bool      // goroutines of processes give way to others by chance, which must not matter
}

// Result is what came of a run.
type Result struct {
	Seed      uint64
	Hash      uint64 // of the history
	Failure   string // the promise that was broken, "" for none
	Story     string // what the seed has made: hosts, units, faults
	Steps     int
	Converged time.Duration   // after the last fault was healed
	Failovers []time.Duration // from the loss of a host until a unit of it ran elsewhere
	Strict    []time.Duration // likewise, of units of Singleton=strict
	Worst     time.Duration   // of both
	WorstUnit string
	Seen      map[string]int // how often what a run is there for came to be
}

// The course of a run. Faults and operators are at work from calm to heal.
const (
	lease  = 5 * time.Second
	calm   = 15 * time.Second
	heal   = 105 * time.Second
	finish = heal + converge
	// converge is how soon after the last fault everything must be as it should be, and settled how long it must have been so
	// until a run ends early.
	converge = 60 * time.Second
	settled  = 15 * time.Second
)

// world is one run.
type world struct {
	Options
	ctx   context.Context
	rng   *rand.Rand
	began time.Time
	log   *slog.Logger

	events  events
	seq     int
	touched bool // a process may have something to do

	mu    sync.Mutex
	inbox []*request // what processes have asked for; guarded by mu
	wake  chan struct{}

	server   *server
	machines []*machine
	files    map[string]string // contents of unit files by hash
	check    *checks
	faults   []*fault
	units    []*wanted
	result   Result
	over     bool // there is nothing more to see
	hash     interface {
		io.Writer
		Sum64() uint64
	}
}

// Run simulates what the seed decides, until everything was checked or a promise is broken.
func Run(ctx context.Context, o Options) Result {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w := &world{
		Options: o, ctx: ctx, rng: rand.New(rand.NewPCG(o.Seed, 0x6d7573746572)), began: time.Now(), wake: make(chan struct{}, 1),
		files: map[string]string{}, hash: fnv.New64a(), result: Result{Seed: o.Seed, Seen: map[string]int{}},
	}
	w.log = slog.New(unheard{w})
	w.server = newServer(w)
	w.check = newChecks(w)
	w.muster()
	w.employ()
	w.plague()
	w.at(heal, w.healAll)
	w.at(heal, w.check.awaitConvergence)
	w.at(calm, w.check.beat)
	w.drive(finish)
	w.check.atEnd()
	w.dismiss()
	w.result.Hash = w.hash.Sum64()
	return w.result
}

// dismiss ends everything that runs.
func (w *world) dismiss() {
	for _, m := range w.machines {
		m.crash()
	}
	synctest.Wait()
	w.server.close()
}

// drive lets time pass until the given moment.
func (w *world) drive(until time.Duration) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	w.touched = true
	for w.result.Failure == "" && !w.over && w.elapsed() < until {
		for w.touched { // nothing happens before all processes have come to rest
			synctest.Wait()
			w.touched = false
			w.collect()
		}
		next := until
		if len(w.events) > 0 {
			next = min(next, w.events[0].at)
		}
		if wait := next - w.elapsed(); wait > 0 {
			timer.Reset(wait)
			select {
			case <-timer.C:
			case <-w.wake:
			}
			w.touched = true
			continue
		}
		if len(w.events) > 0 && w.events[0].at <= w.elapsed() {
			w.result.Steps++
			heap.Pop(&w.events).(*event).do()
		}
	}
}

func (w *world) elapsed() time.Duration { return time.Since(w.began) }

// fail notes the first promise that was broken.
func (w *world) fail(format string, args ...any) {
	if w.result.Failure == "" {
		w.result.Failure = fmt.Sprintf("after %v: ", w.elapsed()) + fmt.Sprintf(format, args...)
		w.tell("BROKEN: %s", w.result.Failure)
	}
}

// saw counts what happened.
func (w *world) saw(what string) { w.result.Seen[what]++ }

// tell adds to the history.
func (w *world) tell(format string, args ...any) {
	line := fmt.Sprintf("%12.6f ", w.elapsed().Seconds()) + fmt.Sprintf(format, args...) + "\n"
	_, _ = io.WriteString(w.hash, line)
	if w.Trace != nil {
		_, _ = io.WriteString(w.Trace, line)
	}
}

// event is something that happens at its time. Those of one moment happen in the order in which they were made.
type event struct {
	at  time.Duration
	seq int
	do  func()
}

func (w *world) at(at time.Duration, do func()) {
	w.seq++
	heap.Push(&w.events, &event{at: max(at, w.elapsed()), seq: w.seq, do: do})
}

func (w *world) after(d time.Duration, do func()) { w.at(w.elapsed()+d, do) }

type events []*event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(e[i].at, e[j].at), cmp.Compare(e[i].seq, e[j].seq)) < 0
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(*event)) }
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	(*e)[len(*e)-1] = nil
	*e = (*e)[:len(*e)-1]
	return last
}

// between is a duration that chance picks, to the nanosecond: no two things happen at the same moment by chance.
func (w *world) between(least, most time.Duration) time.Duration {
	return least + time.Duration(w.rng.Int64N(int64(most-least)))
}
