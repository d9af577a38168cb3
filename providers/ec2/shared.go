package ec2

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/musterhq/muster/providers"
)

// shared lets callers share the answers of a question: one asks, and everybody who came before the asking began takes
// what is answered. An answer is never older than the call for it.
type shared[T any] struct {
	turn chan struct{} // holds a value while somebody asks
	ask  func(context.Context) (T, error)

	mu     sync.Mutex
	came   int       // callers so far
	served int       // how many of them the last answer is for
	began  time.Time // the last asking
	answer T
	err    error
}

func newShared[T any](ask func(context.Context) (T, error)) *shared[T] {
	return &shared[T]{turn: make(chan struct{}, 1), ask: ask}
}

// get answers. Askings that are not urgent begin at least gap after the one before, whoever began that.
func (s *shared[T]) get(ctx context.Context, gap time.Duration) (answer T, err error) {
	s.mu.Lock()
	s.came++
	number, rest := s.came, gap-time.Since(s.began)
	s.mu.Unlock()
	if gap > 0 && rest > 0 {
		if err := providers.Pause(ctx, rest); err != nil {
			return answer, err
		}
	}
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return answer, context.Cause(ctx)
	}
	s.mu.Lock()
	if s.served >= number {
		defer s.mu.Unlock()
		return s.answer, s.err
	}
	began, covers := time.Now(), s.came
	s.began = began
	s.mu.Unlock()
	answer, err = s.ask(ctx)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return answer, cause // the next one asks
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.served, s.answer, s.err = covers, answer, err
	return answer, err
}

// once remembers what was found, by key. An error is for those who waited for it and is not remembered.
type once[K comparable, T any] struct {
	mu    sync.Mutex
	found map[K]*finding[T]
}

type finding[T any] struct {
	search *shared[T]
	done   bool
	value  T
}

// get answers what was found for the key, or finds it. Equal keys are found in equal ways.
func (o *once[K, T]) get(ctx context.Context, key K, find func(context.Context) (T, error)) (T, error) {
	o.mu.Lock()
	if o.found == nil {
		o.found = map[K]*finding[T]{}
	}
	f := o.found[key]
	if f == nil {
		f = &finding[T]{search: newShared(find)}
		o.found[key] = f
	}
	done, value := f.done, f.value
	o.mu.Unlock()
	if done {
		return value, nil
	}
	value, err := f.search.get(ctx, 0)
	if err == nil {
		o.mu.Lock()
		f.done, f.value = true, value
		o.mu.Unlock()
	}
	return value, err
}

// forget finds again what has such a key, and counts that.
func (o *once[K, T]) forget(such func(K) bool) (forgotten int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	before := len(o.found)
	maps.DeleteFunc(o.found, func(key K, _ *finding[T]) bool { return such(key) })
	return before - len(o.found)
}
