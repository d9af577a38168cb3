package systemd

import (
	"maps"
	"slices"
	"sync"
)

// jobs tells callers how their jobs ended. systemd may have removed a job before the caller knows its ID, and it joins
// requests for the same thing into one job.
type jobs struct {
	mu      sync.Mutex
	calls   int                      // under way that will make a job
	early   map[uint32]string        // results of jobs that nobody waits for, as long as there are such calls
	waiting map[uint32][]chan string // each takes one result
}

func newJobs() *jobs {
	return &jobs{early: map[uint32]string{}, waiting: map[uint32][]chan string{}}
}

// lost is the result of a job that ended while nobody could tell.
const lost = "lost"

// start makes a job and returns its ID and where its result will be delivered.
func (j *jobs) start(enqueue func() (id int, err error)) (uint32, <-chan string, error) {
	j.mu.Lock()
	j.calls++
	j.mu.Unlock()
	n, err := enqueue()

	j.mu.Lock()
	defer j.mu.Unlock()
	id, result := uint32(n), make(chan string, 1)
	if early, over := j.early[id]; err == nil && over {
		result <- early
	} else if err == nil {
		j.waiting[id] = append(j.waiting[id], result)
	}
	if j.calls--; j.calls == 0 {
		clear(j.early)
	}
	return id, result, err
}

// end delivers the result of a job.
func (j *jobs) end(id uint32, result string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.calls > 0 {
		j.early[id] = result
	}
	for _, waiter := range j.waiting[id] {
		waiter <- result
	}
	delete(j.waiting, id)
}

// awaited are the jobs that somebody waits for.
func (j *jobs) awaited() []uint32 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Collect(maps.Keys(j.waiting))
}
