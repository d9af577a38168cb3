package vsphere

import (
	"bytes"
	"io"
	"net/http"
	"regexp"
	"slices"
	"sync"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/types"
)

// turns keeps apart what the simulator cannot do at the same time and a vCenter can, or refuses. An import holds the lock of
// the resource pool and waits for the folder's, a clone holds the folder's and waits for the pool's: both wait forever. And
// nothing keeps a machine that is being cloned from being powered on or destroyed, where a vCenter answers TaskInProgress:
// the simulator panics when the machine is gone when its clone is done. So machines are made side by side, and every other
// call that changes something has the simulator for itself until its tasks have ended. Reads go on all the time.
type turns struct {
	registry *simulator.Registry
	turn     sync.RWMutex
	tasks    sync.WaitGroup // that hold the turn
}

// sideBySide are the calls that make machines and end in a task.
var sideBySide = []string{"CloneVM_Task", "CreateVM_Task"}

func (s *turns) wrap(inner http.RoundTripper) http.RoundTripper {
	return roundTrip(func(req *http.Request) (*http.Response, error) {
		name := callName(req)
		if !changes(name) {
			return inner.RoundTrip(req)
		}
		release, tasks := s.turn.Unlock, s.recent
		if slices.Contains(sideBySide, name) {
			s.turn.RLock()
			release = s.turn.RUnlock
		} else {
			s.turn.Lock()
		}
		res, err := inner.RoundTrip(req)
		if err == nil && slices.Contains(sideBySide, name) {
			begun, readErr := taskOf(res)
			tasks, err = func() []types.ManagedObjectReference { return begun }, readErr
		}
		s.tasks.Go(func() {
			defer release()
			s.ended(tasks())
		})
		return res, err
	})
}

// begunTask is the task in the answer of a call.
var begunTask = regexp.MustCompile(`<returnval type="Task">([^<]+)<`)

// taskOf is the task that an answer names; a fault names none.
func taskOf(res *http.Response) ([]types.ManagedObjectReference, error) {
	body, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	res.Body = io.NopCloser(bytes.NewReader(body))
	found := begunTask.FindSubmatch(body)
	if found == nil {
		return nil, err
	}
	return []types.ManagedObjectReference{{Type: "Task", Value: string(found[1])}}, err
}

// recent are all tasks that the simulator remembers.
func (s *turns) recent() []types.ManagedObjectReference {
	content := s.registry.Get(vim25.ServiceInstance).(*simulator.ServiceInstance).Content
	manager := s.registry.Get(*content.TaskManager).(*simulator.TaskManager)
	manager.Lock()
	defer manager.Unlock()
	return slices.Clone(manager.RecentTask)
}

// ended waits until tasks have ended.
func (s *turns) ended(tasks []types.ManagedObjectReference) {
	for _, ref := range tasks {
		if task, is := s.registry.Get(ref).(*simulator.Task); is {
			task.Wait()
		}
	}
}
