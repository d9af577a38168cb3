package simulation

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/musterhq/muster/agent"
	"github.com/musterhq/muster/agent/control"
	"github.com/musterhq/muster/agent/pause"
	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/store"
)

// machine is a host: what it runs, how it is connected, and what is wrong with it. Faults that overlap are counted.
type machine struct {
	*world
	index   int
	host    roster.Host
	rate    float64       // of its monotonic clock
	offset  time.Duration // of its wall clock
	boot    int
	runtime *units
	process *process // nil while musterd does not run
	started int

	noRequests int // they do not leave
	noAnswers  int // they do not arrive, nor do changes
	lossy      int // answers are lost by chance
	slow       int // the network is
	frozen     int // musterd is
	paused     int // all of the machine is
	off        int

	heard    time.Duration // when the last sign of life that was answered was sent
	regained time.Duration // when an answer came after the store was not heard for the life of a session
	reached  time.Duration // when the last one reached the store, answered or not
	able     time.Duration // since when musterd has done what it can

	trap func() // what happens when a strict unit is about to start; nil for nothing

	stopped []func()   // what happens on the machine once it is not paused
	told    []*version // the schedules that musterd was told, in its order
}

// process is musterd from one start to its end.
type process struct {
	machine *machine
	number  int
	client  *client
	changed chan struct{} // of the runtime
	dead    chan struct{} // closed by a crash
	cancel  context.CancelFunc
	gone    bool     // nothing reaches it any more
	held    []func() // what reaches it once it is neither frozen nor paused

	sessions []*session

	until time.Duration // when strict units are killed, as it said last; guarded by units.mu
	file  int           // of the guard's, that it wrote to; likewise
}

// do has something happen to a process at once, or when it is not frozen any more.
func (p *process) do(f func()) {
	m := p.machine
	switch {
	case p.gone:
	case m.frozen+m.paused > 0:
		p.held = append(p.held, f)
	default:
		m.touched = true
		f()
	}
}

// local has something happen on the machine at once, or when it is not paused any more.
func (m *machine) local(f func()) {
	if m.paused > 0 {
		m.stopped = append(m.stopped, f)
		return
	}
	f()
}

// thaw lets happen what could not while musterd or the machine stood still.
func (m *machine) thaw() {
	if m.paused == 0 {
		late := m.stopped
		m.stopped = nil
		for _, f := range late {
			f()
		}
		m.check.awake(m)
	}
	if p := m.process; p != nil && m.frozen+m.paused == 0 {
		late := p.held
		p.held = nil
		for i, f := range late { // one after the other, for what comes together can be taken in any order
			m.after(time.Duration(i)*time.Microsecond, func() { p.do(f) })
		}
	}
}

// start starts musterd.
func (m *machine) start() {
	if m.process != nil || m.off > 0 {
		return
	}
	m.started++
	ctx, cancel := context.WithCancel(pause.With(m.ctx, m.chance))
	p := &process{
		machine: m, number: m.started, cancel: cancel, dead: make(chan struct{}), changed: make(chan struct{}, 1),
	}
	p.client = &client{world: m.world, process: p}
	m.process, m.touched, m.heard = p, true, max(m.heard, m.elapsed())
	m.tell("%s: musterd starts", m.host.Name)
	managers := &agent.Managers{
		Store: p.client, Runtime: supervised{units: m.runtime, process: p}, HostID: m.host.ID, Lease: lease, Root: m.dir(),
		Now: m.readWall, Clock: m.readClock, Exec: p.ask, Log: m.log,
		Facts: roster.Facts{Hostname: m.host.Name, CPUs: hostCPUs, MemoryBytes: hostMemory, BootID: fmt.Sprint(m.boot)},
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return managers.Run(ctx) })
	if m.host.Voter {
		g.Go(func() error { return m.leader(p).Run(ctx) })
	}
	go func() {
		if err := g.Wait(); !errors.Is(err, context.Canceled) {
			m.fail("musterd of %s ended: %v", m.host.Name, err)
		}
	}()
}

// leader is the candidate for the scheduling leadership that every voter has.
func (m *machine) leader(p *process) *control.Leader {
	first := &control.Bootstrap{
		Store: p.client, Cluster: store.Cluster{ID: "simulated", Name: "simulated", LeaseMillis: lease.Milliseconds()},
		Roster: m.roster(), Log: m.log,
	}
	scheduler := &control.Scheduler{Store: p.client, Log: m.log}
	rebalancer := &control.Rebalancer{Store: p.client, Log: m.log}
	roller := &control.Roller{Store: p.client, Now: m.readWall, Log: m.log}
	janitor := &control.Janitor{Store: p.client, Now: m.readWall, Log: m.log}
	return &control.Leader{
		Store: p.client, Candidate: m.host.Name, First: first.Run, Log: m.log,
		Duties: []control.Duty{scheduler.Run, rebalancer.Run, roller.Run, func(ctx context.Context, fence store.Guard) error {
			for { // more often than Janitor.Run, since a run is short
				if err := pause.For(ctx, 40*time.Second); err != nil {
					return err
				}
				_ = janitor.Sweep(ctx, fence) // What could not be removed is left for the next time
			}
		}},
	}
}

// crash ends musterd without a word. Units go on.
func (m *machine) crash() {
	if p := m.process; p != nil {
		m.tell("%s: musterd crashes", m.host.Name)
		m.process = nil
		p.vanish()
	}
}

// vanish has nothing reach the process any more, nor anybody hear of it.
func (p *process) vanish() {
	p.gone, p.machine.touched = true, true
	close(p.dead)
	p.cancel()
	for _, s := range p.sessions {
		s.end("its process is gone")
	}
}

// farewell is how long a musterd that is told to end takes for it.
const farewell = 700 * time.Millisecond

// quit ends musterd politely.
func (m *machine) quit() {
	if p := m.process; p != nil && m.frozen+m.paused == 0 {
		m.tell("%s: musterd ends", m.host.Name)
		m.process, m.touched = nil, true
		p.cancel()
		m.after(farewell, p.vanish)
	}
}

// wall is what the machine takes for the time of day.
func (m *machine) wall() time.Time { return time.Now().Add(m.offset) }

// readWall and readClock are how musterd looks at its clocks.
func (m *machine) readWall() time.Time {
	m.shake()
	return m.wall()
}

func (m *machine) readClock() time.Duration {
	m.shake()
	return m.clock()
}

// clock is the machine's that never goes back, and goes on while the machine is paused.
func (m *machine) clock() time.Duration { return m.reading(m.elapsed()) }

func (m *machine) reading(at time.Duration) time.Duration {
	reading := time.Duration(float64(at) * m.rate)
	if m.Mutant == WallClock {
		reading += m.offset
	}
	return reading
}

// dir is the machine's disk.
func (m *machine) dir() string { return filepath.Join(m.Dir, m.host.Name) }

func (m *machine) format() error {
	return os.MkdirAll(filepath.Join(m.dir(), "var/lib/muster"), 0o700)
}

// chance is what musterd's pauses are made from. It depends on the moment and not on who asks first.
func (m *machine) chance(mean time.Duration) float64 {
	h := fnv.New64a()
	_, _ = fmt.Fprint(h, m.Seed, m.index, m.started, m.elapsed(), mean)
	return float64(h.Sum64()>>11) / (1 << 53)
}

// delay is how long a message takes on its way between the machine and the store.
func (m *machine) delay() time.Duration {
	if m.slow > 0 {
		return m.between(50*time.Millisecond, 900*time.Millisecond)
	}
	return m.between(200*time.Microsecond, 3*time.Millisecond)
}

// real is how long something takes that the machine's clock takes for d.
func (m *machine) real(d time.Duration) time.Duration { return time.Duration(float64(d) / m.rate) }
