package health

import (
	"container/heap"
	"context"
	"sync"
	"time"

	"github.com/musterhq/muster/agent/pause"
	"github.com/musterhq/muster/cluster/store"
)

// parallel is how many checks are made at once.
const parallel = 16

// Checker asks units again and again. Make one with New; Watch says which.
type Checker struct {
	exec    Exec
	changed chan struct{}
	again   chan struct{} // there are other targets
	slots   chan struct{}

	mu      sync.Mutex
	targets map[string]*tracked // by unit
	queue   queue               // of targets that wait for a check, and of some that are none any more
}

// tracked is a target and what is known of it.
type tracked struct {
	Target
	state State
	due   time.Time
}

// queue is a heap, by when checks are due.
type queue []*tracked

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].due.Before(q[j].due) }
func (q queue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)        { *q = append(*q, x.(*tracked)) }

func (q *queue) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}

// New makes a Checker that asks nobody yet.
func New(exec Exec) *Checker {
	return &Checker{
		exec: exec, changed: make(chan struct{}, 1), again: make(chan struct{}, 1), slots: make(chan struct{}, parallel),
		targets: map[string]*tracked{},
	}
}

// Changed delivers a token after what is known of some unit has changed. Tokens coalesce.
func (c *Checker) Changed() <-chan struct{} { return c.changed }

// Watch says which units to ask from now on. What is known of those that are asked already stays known, unless they were
// started anew since.
func (c *Checker) Watch(ctx context.Context, targets []Target) {
	c.mu.Lock()
	defer c.mu.Unlock()
	next := make(map[string]*tracked, len(targets))
	news := len(targets) != len(c.targets)
	for _, t := range targets {
		was := c.targets[t.Unit]
		if was == nil || !was.same(t) {
			was = &tracked{Target: t, due: time.Now().Add(first(t.Check, pause.Random(ctx, t.Check.Interval)))}
			heap.Push(&c.queue, was)
			news = true
		}
		next[t.Unit] = was
	}
	if c.targets = next; news {
		raise(c.again)
	}
}

// Of is what is known of a unit; no Word for one that is not watched.
func (c *Checker) Of(unit string) State {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.targets[unit]
	if t == nil {
		return State{}
	}
	s := t.state
	if s.Word == "" {
		s.Word = store.HealthStarting
	}
	return s
}

// Unwell names the units that are to be restarted because they are unhealthy, and says why.
func (c *Checker) Unwell() map[string]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var unwell map[string]string
	for unit, t := range c.targets {
		if t.Check.Restart && t.state.Word == store.HealthUnhealthy {
			if unwell == nil {
				unwell = map[string]string{}
			}
			unwell[unit] = t.state.Reason
		}
	}
	return unwell
}

// Run asks until ctx ends.
func (c *Checker) Run(ctx context.Context) error {
	var probes sync.WaitGroup
	defer probes.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		for _, t := range c.dueNow(time.Now()) {
			select {
			case c.slots <- struct{}{}:
			case <-ctx.Done():
				return ctx.Err()
			}
			probes.Go(func() {
				c.ask(ctx, t)
				<-c.slots
				raise(c.again)
			})
		}
		if wait, some := c.untilNext(time.Now()); some {
			timer.Reset(wait)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.again:
		case <-timer.C:
		}
	}
}

// dueNow takes those out of the queue whose check is due, in the order in which they are.
func (c *Checker) dueNow(now time.Time) []*tracked {
	c.mu.Lock()
	defer c.mu.Unlock()
	var due []*tracked
	for len(c.queue) > 0 && !c.queue[0].due.After(now) {
		if t := heap.Pop(&c.queue).(*tracked); c.targets[t.Unit] == t {
			due = append(due, t)
		}
	}
	return due
}

// untilNext is how long until the next check, if there is one to come.
func (c *Checker) untilNext(now time.Time) (wait time.Duration, some bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) == 0 {
		return 0, false
	}
	return max(c.queue[0].due.Sub(now), 0), true
}

// ask makes one check and takes in its result. A unit that is not watched any more is forgotten with it.
func (c *Checker) ask(ctx context.Context, t *tracked) {
	began := time.Now()
	reason := Probe(ctx, t.Target, c.exec)
	if ctx.Err() != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	was := t.state
	t.state = Next(t.Check, was, reason, began.Sub(t.Since))
	t.due = time.Now().Add(wait(t.Check, t.state, pause.Random(ctx, t.Check.Interval)))
	heap.Push(&c.queue, t)
	if was.Word != t.state.Word || was.Reason != t.state.Reason {
		raise(c.changed)
	}
}

func raise(signal chan struct{}) {
	select {
	case signal <- struct{}{}:
	default:
	}
}
