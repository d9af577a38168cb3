package lock

import (
	"fmt"
	"math/bits"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
)

// The sequential semaphore that histories are compared with (porcupine).

// verb is what a call of a history does.
type verb string

const (
	acquire verb = "acquire"
	release verb = "release"
	force   verb = "force"
	setMax  verb = "max"
)

// call is the input of an operation.
type call struct {
	verb verb
	id   int // of the holder, below 16
	max  int // of setMax
	// again is set where who holds may acquire once more and goes on holding: clients do, and hosts with a new ticket not.
	again bool
}

// answer is its output.
type answer string

const (
	done    answer = "done"
	busy    answer = "busy"    // refused since all places are held
	unclear answer = "unclear" // it may have been done, or be done yet, or never
)

// semaphore is the model's state.
type semaphore struct {
	max  int
	held uint16
}

// sequential is a semaphore that does one thing at a time.
func sequential() porcupine.Model {
	model := porcupine.NondeterministicModel{
		Init: func() []any { return []any{semaphore{max: DefaultMax}} },
		Step: func(state, input, output any) []any {
			s, in := state.(semaphore), input.(call)
			after, ok := s.apply(in)
			switch output.(answer) {
			case busy:
				if bits.OnesCount16(s.held) >= s.max {
					return []any{s}
				}
				return nil
			case unclear:
				if ok {
					return []any{s, after}
				}
				return []any{s}
			}
			if !ok {
				return nil
			}
			return []any{after}
		},
		DescribeOperation: func(input, output any) string { return fmt.Sprint(input, " ", output) },
		DescribeState:     func(state any) string { return fmt.Sprint(state) },
	}
	return model.ToModel()
}

func (s semaphore) apply(in call) (semaphore, bool) {
	bit := uint16(1) << in.id
	switch in.verb {
	case acquire:
		switch free := bits.OnesCount16(s.held) < s.max; {
		case s.held&bit != 0 && !in.again, s.held&bit == 0 && !free:
			return s, false
		}
		s.held |= bit
	case release, force:
		s.held &^= bit
	case setMax:
		s.max = in.max
	}
	return s, true
}

// record is a history while it is made. What is not answered by the end is unclear.
type record struct {
	now func() int64

	mu         sync.Mutex
	operations []*porcupine.Operation // guarded by mu, and what they point to
}

func (r *record) begin(client int, in call) *porcupine.Operation {
	r.mu.Lock()
	defer r.mu.Unlock()
	op := &porcupine.Operation{ClientId: client, Input: in, Call: r.now(), Output: unclear}
	r.operations = append(r.operations, op)
	return op
}

func (r *record) end(op *porcupine.Operation, out answer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	op.Output, op.Return = out, r.now()
}

// linearizable says whether the history is one that the semaphore could have.
func (r *record) linearizable() porcupine.CheckResult {
	end := r.now() + 1
	history := make([]porcupine.Operation, len(r.operations))
	for i, op := range r.operations {
		if history[i] = *op; op.Return == 0 {
			history[i].Return = end
		}
	}
	return porcupine.CheckOperationsTimeout(sequential(), history, time.Minute)
}

func (r *record) String() string {
	text := ""
	for _, op := range r.operations {
		text += fmt.Sprintf("%4d-%4d %d %v %v\n", op.Call, op.Return, op.ClientId, op.Input, op.Output)
	}
	return text
}
