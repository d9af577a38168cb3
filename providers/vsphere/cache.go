package vsphere

import (
	"sync"

	"github.com/vmware/govmomi/vim25/types"
)

// refs remembers objects that the driver has found or made. The zero value remembers nothing.
type refs struct {
	mu    sync.Mutex
	known map[string]types.ManagedObjectReference
}

func (r *refs) get(name string) (types.ManagedObjectReference, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ref, ok := r.known[name]
	return ref, ok
}

func (r *refs) set(name string, ref types.ManagedObjectReference) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.known == nil {
		r.known = map[string]types.ManagedObjectReference{}
	}
	r.known[name] = ref
}

func (r *refs) drop(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.known, name)
}

func (r *refs) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.known = nil
}
