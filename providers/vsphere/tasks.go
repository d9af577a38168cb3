package vsphere

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/musterhq/muster/providers"
)

// tasks waits for the server's tasks. All that are waited for are read together: one of the waiting callers reads, and
// hands the reading on when its own task has ended.
type tasks struct {
	mu      sync.Mutex
	waiting map[types.ManagedObjectReference]chan outcome
	reader  chan struct{} // holds a value while somebody reads
	last    time.Time     // of the last read; the reader's
	failed  int           // reads in a row that failed
}

// outcome is how a task ended.
type outcome struct {
	result any
	err    error
}

func newTasks() *tasks {
	return &tasks{waiting: map[types.ManagedObjectReference]chan outcome{}, reader: make(chan struct{}, 1)}
}

// maxFailedReads is how many reads in a row may fail before everybody who waits is told that the outcome is unknown.
const maxFailedReads = 3

// pace is how long to wait between two reads when the reader's own task is as old as this: short for short tasks, and
// never more often than once a second for long ones.
func pace(age time.Duration) time.Duration {
	return min(max(age/8, 10*time.Millisecond), time.Second)
}

// wait waits for a task's end and returns its result. When ctx ends, the task goes on.
func (t *tasks) wait(ctx context.Context, c *client, ref types.ManagedObjectReference) (any, error) {
	done, began := make(chan outcome, 1), time.Now()
	t.mu.Lock()
	t.waiting[ref] = done
	t.mu.Unlock()
	defer func() {
		t.mu.Lock()
		delete(t.waiting, ref)
		t.mu.Unlock()
	}()
	select {
	case end := <-done:
		return end.result, end.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case t.reader <- struct{}{}:
		defer func() { <-t.reader }()
	}
	for {
		if err := providers.Pause(ctx, time.Until(t.last.Add(pace(time.Since(began))))); err != nil {
			return nil, err
		}
		t.read(ctx, c)
		t.last = time.Now()
		select {
		case end := <-done:
			return end.result, end.err
		default:
		}
	}
}

// read reads all tasks that are waited for and tells whose has ended.
func (t *tasks) read(ctx context.Context, c *client) {
	t.mu.Lock()
	refs := make([]types.ManagedObjectReference, 0, len(t.waiting))
	for ref := range t.waiting {
		refs = append(refs, ref)
	}
	t.mu.Unlock()
	if len(refs) == 0 {
		return
	}
	list, err := c.look(ctx, refs, wanted("Task", "info.state", "info.error", "info.result"))
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		t.unread(ctx, refs, err)
		return
	}
	t.failed = 0
	for _, task := range list {
		if end, ended := outcomeOf(task); ended {
			t.tell(task.ref, end)
		}
	}
}

// tell tells who waits for a task how it ended. The lock is held.
func (t *tasks) tell(ref types.ManagedObjectReference, end outcome) {
	done, waited := t.waiting[ref]
	if !waited {
		return
	}
	select {
	case done <- end:
	default: // it knows
	}
}

// unread tells of a read that failed: the one whose task the server does not know any more, or all when nothing can be
// read for long. The lock is held.
func (t *tasks) unread(ctx context.Context, refs []types.ManagedObjectReference, err error) {
	if missing, is := faultOf(err).(*types.ManagedObjectNotFound); is {
		t.tell(missing.Obj, outcome{err: fmt.Errorf("the server has forgotten task %s: %w", missing.Obj.Value, providers.ErrUnavailable)})
		return
	}
	if t.failed++; t.failed < maxFailedReads && ctx.Err() == nil {
		return
	}
	if ctx.Err() != nil {
		return // the reader's own end, and nobody else's
	}
	t.failed = 0
	for _, ref := range refs {
		t.tell(ref, outcome{err: classified(ctx, fmt.Errorf("cannot read how the task goes: %w", err))})
	}
}

// outcomeOf is how a task ended, if it has.
func outcomeOf(task object) (end outcome, ended bool) {
	state, _ := task.props["info.state"].(types.TaskInfoState)
	switch state {
	case types.TaskInfoStateSuccess:
		return outcome{result: task.props["info.result"]}, true
	case types.TaskInfoStateError:
		fault, is := task.props["info.error"].(types.LocalizedMethodFault)
		if !is || fault.Fault == nil {
			return outcome{err: errors.New("the task failed and does not say why")}, true
		}
		return outcome{err: &taskError{fault.Fault, fault.LocalizedMessage}}, true
	}
	return outcome{}, false
}
