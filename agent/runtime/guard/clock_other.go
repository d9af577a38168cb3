//go:build !linux

package guard

import (
	"context"
	"time"
)

// Available says whether this system can guard.
const Available = false

var began = time.Now()

// Now is a reading of a clock that nobody sets.
func Now() time.Duration { return time.Since(began) }

type timer struct{}

func newTimer() (timer, error) { return timer{}, nil }

func (timer) Close() error { return nil }

func (timer) wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
	return ctx.Err()
}
