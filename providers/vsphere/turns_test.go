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
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/musterhq/muster/providers"
)

// turns keeps apart what the simulator cannot do at the same time and a vCenter can, or refuses. An import holds the lock of
// the resource pool and waits for the folder's, a clone holds the folder's and waits for the pool's: both wait forever. And
// nothing keeps a machine that is being cloned from being powered on or destroyed, where a vCenter answers TaskInProgress:
// the simulator panics when the machine is gone when its clone is done. So machines are made and changed side by side, but
// each by one task at a time, and every other call that changes something has the simulator for itself until its tasks have
// ended. Reads go on all the time.
type turns struct {
	registry *simulator.Registry
	turn     sync.RWMutex
	machines providers.Locks // by name
	tasks    sync.WaitGroup  // that hold the turn
}

// sideBySide are the calls that make or change one machine and end in a task.
var sideBySide = []string{"CloneVM_Task", "CreateVM_Task", "PowerOnVM_Task", "PowerOffVM_Task", "ReconfigVM_Task"}

func (s *turns) wrap(inner http.RoundTripper) http.RoundTripper {
	return roundTrip(func(req *http.Request) (*http.Response, error) {
		switch name := callName(req); {
		case !changes(name):
			return inner.RoundTrip(req)
		case slices.Contains(sideBySide, name):
			return s.shared(inner, req)
		}
		s.turn.Lock()
		res, err := inner.RoundTrip(req)
		s.tasks.Go(func() {
			defer s.turn.Unlock()
			s.ended(s.recent())
		})
		return res, err
	})
}

// shared makes a call about one machine.
func (s *turns) shared(inner http.RoundTripper, req *http.Request) (*http.Response, error) {
	unlock, err := s.machines.Lock(req.Context(), s.machineOf(req))
	if err != nil {
		return nil, err
	}
	s.turn.RLock()
	res, err := inner.RoundTrip(req)
	var begun []types.ManagedObjectReference
	if err == nil {
		begun, err = taskOf(res)
	}
	s.tasks.Go(func() {
		defer unlock()
		defer s.turn.RUnlock()
		s.ended(begun)
	})
	return res, err
}

var (
	newName = regexp.MustCompile(`<name>([^<]+)</name>`)
	thisVM  = regexp.MustCompile(`<_this type="VirtualMachine">([^<]+)</_this>`)
)

// machineOf is the name of the machine that a call makes or changes.
func (s *turns) machineOf(req *http.Request) string {
	body, _ := io.ReadAll(req.Body)
	req.Body = io.NopCloser(bytes.NewReader(body))
	if made := newName.FindSubmatch(body); made != nil {
		return string(made[1])
	}
	if this := thisVM.FindSubmatch(body); this != nil {
		machine := s.registry.Get(types.ManagedObjectReference{Type: "VirtualMachine", Value: string(this[1])})
		if entity, is := machine.(mo.Entity); is {
			return entity.Entity().Name
		}
	}
	return "" // one that is gone
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
