package simulation

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/musterhq/muster/cluster/store"
)

// request is what a process asks of the outside. Requests that read the same are of the same process and moment, and are
// answered together: which of them is which goroutine's must not matter.
type request struct {
	process *process
	label   string
	carry   func(twins []*request) // begins to deal with them, at the world's turn
	execute func() any             // once for each twin
	heard   func(answer any)       // when the process has the answer; nil for nothing
	reply   chan any

	mu        sync.Mutex
	abandoned bool // whoever asked waits no more; guarded by mu
}

// post hands a request to the world.
func (w *world) post(r *request) {
	w.shake()
	r.reply = make(chan any, 1)
	w.mu.Lock()
	w.inbox = append(w.inbox, r)
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// await returns the reply to a request. What is asked in vain is unavailable.
func await[T any](ctx context.Context, r *request) (T, error) {
	var none T
	select {
	case got := <-r.reply:
		r.process.machine.shake()
		if err, failed := got.(error); failed {
			return none, err
		}
		value, _ := got.(T)
		return value, nil
	case <-ctx.Done():
	case <-r.process.dead:
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.abandoned = true
	return none, fmt.Errorf("%w: nobody waits for the answer", store.ErrUnavailable)
}

func (r *request) isAbandoned() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.abandoned
}

// collect takes what processes have asked for, in an order that depends on nothing but what it is.
func (w *world) collect() {
	w.mu.Lock()
	inbox := w.inbox
	w.inbox = nil
	w.mu.Unlock()
	inbox = slices.DeleteFunc(inbox, (*request).isAbandoned) // they came from a process that was being told to end
	slices.SortStableFunc(inbox, compareRequests)
	for len(inbox) > 0 {
		n := 1
		for n < len(inbox) && compareRequests(inbox[n], inbox[0]) == 0 {
			n++
		}
		twins := inbox[:n]
		inbox = inbox[n:]
		twins[0].process.do(func() { twins[0].carry(twins) })
	}
}

func compareRequests(a, b *request) int {
	return cmp.Or(cmp.Compare(a.process.machine.index, b.process.machine.index), cmp.Compare(a.process.number, b.process.number),
		cmp.Compare(a.label, b.label))
}

// answer gives a process the answers to requests, if it can take them.
func (p *process) answer(twins []*request, answer func(*request) any) {
	p.do(func() {
		for _, r := range twins {
			r.mu.Lock()
			if got := answer(r); !r.abandoned {
				if r.heard != nil {
					r.heard(got)
				}
				r.reply <- got
			}
			r.mu.Unlock()
		}
	})
}

// aside does something for a process at the world's turn, without a network.
func aside(ctx context.Context, p *process, label string, do func()) error {
	r := &request{process: p, label: label, execute: func() any { do(); return nil }}
	r.carry = func(twins []*request) { p.answer(twins, func(r *request) any { return r.execute() }) }
	p.machine.post(r)
	_, err := await[struct{}](ctx, r)
	return err
}
