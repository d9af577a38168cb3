package store

import (
	"context"
	"errors"
	"sync"
	"time"
)

// A member that was frozen, or cut off without a word, is left soon if anybody waits for it: a call that takes longer than
// doubtAfter has it probed at once, and if it is silent for rivalAfter more, and another member answers that has a leader,
// that one is turned to. So what is slow for all, as on a host that is overloaded, is left no sooner than without a call.
const (
	doubtAfter = 250 * time.Millisecond // more than a write takes while all is well
	rivalAfter = 350 * time.Millisecond
)

var errOutrun = errors.New("no answer, and another member has answered meanwhile")

// doubted makes a call, in the course of which the member comes to be doubted.
func (m *member) doubted(f func() error) error {
	doubt := time.AfterFunc(doubtAfter, m.suspect)
	defer doubt.Stop()
	return f()
}

// examine probes the member in use. Once it is doubted, another may answer in its place.
func (s *Etcd) examine(m *member, doubted bool) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithTimeout(s.ctx, probeTimeout)
	defer cancel()
	own, rival := make(chan error, 1), make(chan error, 1)
	wg.Go(func() { own <- m.probe(ctx, probeTimeout) })
	patience := time.NewTimer(rivalAfter)
	defer patience.Stop()
	doubts := m.nudge
	if doubted {
		doubts = nil
	} else {
		patience.Stop()
	}
	for {
		select {
		case err := <-own:
			return err
		case <-doubts:
			doubts = nil
			patience.Reset(rivalAfter)
		case <-patience.C:
			wg.Go(func() {
				other, err := s.greetAnother(ctx, m.endpoint)
				if err == nil {
					other.close()
				}
				rival <- err
			})
		case err := <-rival:
			if err == nil {
				return errOutrun
			}
		}
	}
}
