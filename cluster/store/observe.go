package store

import (
	"sync/atomic"
	"time"
)

// observed is a session that can be observed.
type observed struct{ by atomic.Pointer[observer] }

type observer struct {
	stamp   func() time.Duration
	renewed func(sent time.Duration)
}

// Observe implements Session.
func (o *observed) Observe(stamp func() time.Duration, renewed func(sent time.Duration)) {
	o.by.Store(&observer{stamp: stamp, renewed: renewed})
}

// sends is called before a sign of life is sent, and returns what to call when it has succeeded.
func (o *observed) sends() (succeeded func()) {
	by := o.by.Load()
	if by == nil {
		return func() {}
	}
	sent := by.stamp()
	return func() { by.renewed(sent) }
}
