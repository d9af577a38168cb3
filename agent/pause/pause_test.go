package pause

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestSpread waits three times, by true chance and by a given one.
func TestSpread(t *testing.T) {
	given := func(c float64) Chance { return func(time.Duration) float64 { return c } }
	for name, test := range map[string]struct {
		chance      Chance
		least, most float64 // of the mean
	}{
		"true chance": {nil, 0.5, 1.5}, "the least": {given(0), 0.5, 0.5}, "the mean": {given(0.5), 1, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx := t.Context()
			if test.chance != nil {
				ctx = With(ctx, test.chance)
			}
			p := New(time.Second)
			mean := First
			for range 3 {
				began := time.Now()
				if err := p.Wait(ctx); err != nil {
					t.Fatal(err)
				}
				took := time.Since(began).Seconds() / mean.Seconds()
				if took < test.least-0.001 || took > test.most+0.001 {
					t.Errorf("%s: waited %.3f times the mean", name, took)
				}
				mean = mean * 3 / 2
			}
		})
	}
}
