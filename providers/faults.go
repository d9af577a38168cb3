package providers

import (
	"context"
	"sync"
)

// Fault is what befalls one call. The zero value is a call that goes well. CrashBefore and CrashAfter run when set; one
// that returns goes on with the call, one that ends the process or panics does what its name says.
type Fault struct {
	CrashBefore func()
	Before      error // answered instead of making the call
	CrashAfter  func()
	After       error // answered instead of the answer of a call that was made and succeeded: the lost answer
}

// FaultPolicy chooses the fault of each call. It is called by one goroutine at a time.
type FaultPolicy func(Call) Fault

// Faults injects faults, for tests and sweeps over crash points.
func Faults(p Provider, policy FaultPolicy) Provider {
	var mu sync.Mutex
	choose := func(call Call) Fault {
		mu.Lock()
		defer mu.Unlock()
		return policy(call)
	}
	return Decorate(p, func(ctx context.Context, call Call, next func(context.Context) error) error {
		fault := choose(call)
		if fault.CrashBefore != nil {
			fault.CrashBefore()
		}
		if fault.Before != nil {
			return fault.Before
		}
		if err := next(ctx); err != nil {
			return err
		}
		if fault.CrashAfter != nil {
			fault.CrashAfter()
		}
		return fault.After
	})
}

// FaultAt is a policy that lets one fault befall the nth call of op, counted from 1, and no other.
func FaultAt(op Op, nth int, fault Fault) FaultPolicy {
	seen := 0
	return func(call Call) Fault {
		if call.Op != op {
			return Fault{}
		}
		if seen++; seen != nth {
			return Fault{}
		}
		return fault
	}
}

// FaultEvery is a policy that lets a fault befall every nth call of any kind.
func FaultEvery(nth int, fault Fault) FaultPolicy {
	seen := 0
	return func(Call) Fault {
		if seen++; seen%nth != 0 {
			return Fault{}
		}
		return fault
	}
}
