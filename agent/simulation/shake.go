package simulation

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"runtime"
)

// shake lets other goroutines run first, if the world is shaken. Processes come by here whenever they look at a clock, write
// to their log, or ask or hear from the outside.
func (w *world) shake() {
	if !w.Shaken {
		return
	}
	for range rand.IntN(4) { // true chance
		runtime.Gosched()
	}
}

// unheard is a log that nobody reads.
type unheard struct{ world *world }

func (u unheard) Enabled(context.Context, slog.Level) bool {
	u.world.shake()
	return false
}

func (u unheard) Handle(context.Context, slog.Record) error { return nil }
func (u unheard) WithAttrs([]slog.Attr) slog.Handler        { return u }
func (u unheard) WithGroup(string) slog.Handler             { return u }
