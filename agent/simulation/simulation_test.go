package simulation

import (
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var (
	seeds = flag.Int("seeds", 300, "how many seeds TestSeeds simulates")
	from  = flag.Uint64("from", 0, "the first of them")
	only  = flag.Int64("seed", -1, "the seed whose history TestStory prints")
	twice = flag.Bool("twice", false, "have TestSeeds simulate each seed twice more, once shaken, and compare the histories")
)

// run simulates a seed.
func run(t *testing.T, o Options) (r Result) {
	t.Helper()
	dir, err := os.MkdirTemp(memoryDir(t), "muster-simulation-")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	o.Dir = dir
	synctest.Test(t, func(t *testing.T) { r = Run(t.Context(), o) })
	return r
}

// memoryDir is where files are in memory, if there is such a place: hosts write theirs as if power could be lost.
func memoryDir(t *testing.T) string {
	const shm = "/dev/shm"
	if info, err := os.Stat(shm); err == nil && info.IsDir() {
		return shm
	}
	return t.TempDir()
}

// TestSeeds breaks fleets in as many ways as there are seeds (S2, L1 to L3). `make sim SEEDS=10000` takes more of them.
func TestSeeds(t *testing.T) {
	if *only >= 0 {
		t.Skip("-seed asks for the story of one seed")
	}
	debug.SetGCPercent(400) // many short-lived worlds
	c := &census{t: t, began: time.Now(), seen: map[string]int{}}
	t.Run("all", func(t *testing.T) {
		workers := runtime.GOMAXPROCS(0)
		for worker := range workers {
			t.Run(fmt.Sprint(worker), func(t *testing.T) {
				t.Parallel()
				for seed := *from + uint64(worker); seed < *from+uint64(*seeds); seed += uint64(workers) {
					c.add(one(t, seed))
				}
			})
		}
	})
	c.judge()
}

// census gathers what came of many seeds.
type census struct {
	t     *testing.T
	began time.Time

	mu                           sync.Mutex
	failovers, strict, converged []time.Duration
	count, steps                 int
	seen                         map[string]int
	worst                        []Result
}

// progress is after how many seeds one is told how it goes.
const progress = 500

func (c *census) add(r Result) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failovers, c.strict = append(c.failovers, r.Failovers...), append(c.strict, r.Strict...)
	c.converged = append(c.converged, r.Converged)
	c.steps += r.Steps
	for what, n := range r.Seen {
		c.seen[what] += n
	}
	c.worst = append(c.worst, r)
	slices.SortFunc(c.worst, func(a, b Result) int { return cmp.Compare(b.Worst, a.Worst) })
	c.worst = c.worst[:min(len(c.worst), 3)]
	if c.count++; c.count%progress == 0 && c.count < *seeds {
		fmt.Printf("%d of %d seeds in %v\n", c.count, *seeds, time.Since(c.began).Round(time.Second))
	}
}

// judge tells what was measured, and fails if it is not good enough.
func (c *census) judge() {
	for _, list := range [][]time.Duration{c.failovers, c.strict, c.converged} {
		slices.Sort(list)
	}
	c.t.Logf("%d seeds from %d in %v, %d steps", c.count, *from, time.Since(c.began).Round(time.Second), c.steps)
	for _, m := range []struct {
		what  string
		list  []time.Duration
		bound time.Duration
	}{
		{"units run elsewhere after the loss of their host", c.failovers, late},
		{"units of Singleton=strict do", c.strict, late},
		{"all is well after the last fault", c.converged, converge},
	} {
		c.t.Logf("%s: %v (p50), %v (p99), %v (worst) of %d", m.what, quantile(m.list, 0.5), quantile(m.list, 0.99),
			quantile(m.list, 1), len(m.list))
		if p99 := quantile(m.list, 0.99); p99 > m.bound {
			c.t.Errorf("%s: %v (p99), want %v", m.what, p99, m.bound)
		}
	}
	for _, r := range c.worst {
		c.t.Logf("seed %d: %s ran elsewhere after %v", r.Seed, r.WorstUnit, r.Worst.Round(time.Millisecond))
	}
	c.t.Logf("there were %v", c.seen)
	if *seeds < 300 {
		return
	}
	if len(c.failovers) < *seeds/4 {
		c.t.Errorf("only %d failovers were measured", len(c.failovers))
	}
	for what, every := range map[string]int{
		"kills by a guard": 300, "batches of moves": 300, "rollouts that are done": 300, "rollouts that are failed": 300,
		"rollouts that are undone": 2000, "health checks that failed": 300, "drains with a deadline": 300, "hosts that join late": 300,
	} {
		if c.seen[what] < *seeds/every {
			c.t.Errorf("there were only %d %s in %d histories", c.seen[what], what, *seeds)
		}
	}
}

func one(t *testing.T, seed uint64) Result {
	t.Helper()
	r := run(t, Options{Seed: seed})
	if r.Failure != "" {
		t.Errorf("seed %d breaks a promise %s\nrepeat it: make sim SEED=%d\n%s", seed, r.Failure, seed, r.Story)
	}
	if *twice && !repeats(t, seed) {
		t.Fail()
	}
	return r
}

// repeats simulates a seed twice, once shaken, and shows where the histories part if they do.
func repeats(t *testing.T, seed uint64) bool {
	t.Helper()
	var histories [2]bytes.Buffer
	var results [2]Result
	for i := range histories {
		results[i] = run(t, Options{Seed: seed, Trace: &histories[i], Shaken: i > 0})
	}
	if results[0].Hash == results[1].Hash && results[0].Steps == results[1].Steps {
		return true
	}
	a, b := strings.Split(histories[0].String(), "\n"), strings.Split(histories[1].String(), "\n")
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	t.Logf("seed %d has made two histories of %d and %d steps. Both begin\n%s\nand one goes on\n%s\nand the other\n%s", seed,
		results[0].Steps, results[1].Steps, strings.Join(a[max(0, n-20):n], "\n"), strings.Join(a[n:min(n+5, len(a))], "\n"),
		strings.Join(b[n:min(n+5, len(b))], "\n"))
	return false
}

func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[int(q*float64(len(sorted)-1))].Round(time.Millisecond)
}

// TestRepeated runs seeds twice, the second time with goroutines that give way to each other by chance: the history follows
// from the seed.
func TestRepeated(t *testing.T) {
	for seed := range uint64(20) {
		if !repeats(t, seed) {
			t.Errorf("seed %d went two ways", seed)
		}
	}
}

// foundBy are seeds that find mutants.
var foundBy = map[Mutant]uint64{
	NoFence: 20, EmptyStops: 1, LosesEvents: 1, LosesWrites: 0,
	NoGuard: 25, LateStart: 12, WallClock: 38, FromAnswer: 0, IgnoresHold: 39, NotLeft: 21, OldReads: 3,
	NoAbsence: 4, Uncounted: 1,
}

// TestOften runs mutants that have a fault of their own: it finds them more often than not by chance.
func TestOften(t *testing.T) {
	const runs, least = 40, 3
	for _, mutant := range []Mutant{IgnoresHold, NoAbsence, Uncounted} {
		t.Run(string(mutant), func(t *testing.T) {
			t.Parallel()
			found := 0
			for seed := range uint64(runs) {
				if r := run(t, Options{Seed: seed, Mutant: mutant}); r.Failure != "" {
					found++
				}
			}
			t.Logf("%d of %d seeds find it", found, runs)
			if found < least {
				t.Errorf("%d of %d seeds find it, want %d", found, runs, least)
			}
		})
	}
}

// TestMutants breaks what keeps the promises. Each break must be found: by the seed that is stated, or, when the simulation
// has changed since, by another.
func TestMutants(t *testing.T) {
	const within = 300
	for _, mutant := range Mutants {
		t.Run(string(mutant), func(t *testing.T) {
			t.Parallel()
			stated := foundBy[mutant]
			if r := run(t, Options{Seed: stated, Mutant: mutant}); r.Failure != "" {
				t.Logf("seed %d: %s", stated, r.Failure)
				return
			}
			for seed := range uint64(within) {
				if r := run(t, Options{Seed: seed, Mutant: mutant}); r.Failure != "" {
					t.Logf("seed %d is stated, and what finds it is seed %d: %s", stated, seed, r.Failure)
					return
				}
			}
			t.Errorf("nothing was found in %d seeds", within)
		})
	}
}

// TestStory prints all that happens in the run of one seed, to find out why it fails: `make sim SEED=42`.
func TestStory(t *testing.T) {
	if *only < 0 {
		t.Skip("-seed names none")
	}
	r := run(t, Options{Seed: uint64(*only), Trace: os.Stdout})
	t.Logf("seed %d: history %x, %d steps, all was well %v after the last fault\n%s", r.Seed, r.Hash, r.Steps, r.Converged, r.Story)
	if r.Failure != "" {
		t.Error(r.Failure)
	}
}
