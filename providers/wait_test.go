package providers_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/musterhq/muster/providers"
)

// TestLocks lets many want two names: each name has one holder at a time, and neither keeps the other waiting.
func TestLocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var locks providers.Locks
		var group sync.WaitGroup
		began := time.Now()
		var holders [2]int
		for i := range 20 {
			group.Go(func() {
				unlock, err := locks.Lock(t.Context(), string(rune('a'+i%2)))
				if err != nil {
					t.Error(err)
					return
				}
				defer unlock()
				if holders[i%2]++; holders[i%2] != 1 {
					t.Errorf("%d hold a name", holders[i%2])
				}
				_ = providers.Pause(t.Context(), time.Second)
				holders[i%2]--
			})
		}
		group.Wait()
		if took := time.Since(began); took != 10*time.Second {
			t.Errorf("ten holders in a row of a second each took %v", took)
		}
	})
}

func TestLockIsCalledOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var locks providers.Locks
		unlock, err := locks.Lock(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		why := errors.New("why")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, why)
		defer cancel()
		if _, err := locks.Lock(ctx, "a"); !errors.Is(err, why) {
			t.Errorf("waited for what was held: %v", err)
		}
		unlock()
		if _, err := locks.Lock(ctx, "a"); !errors.Is(err, why) {
			t.Errorf("took a lock when nobody waits for it any more: %v", err)
		}
		if err := providers.Pause(ctx, time.Hour); !errors.Is(err, why) {
			t.Errorf("paused: %v", err)
		}
		if _, err := locks.Lock(t.Context(), "a"); err != nil {
			t.Error(err)
		}
	})
}
