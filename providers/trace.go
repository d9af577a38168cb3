package providers

import (
	"context"
	"log/slog"
	"time"
)

// TraceEvent tells how one call went.
type TraceEvent struct {
	Call     Call
	Duration time.Duration
	Class    string // see Class, "" when the call succeeded
	Err      error
}

// Trace logs every call at debug level and hands it to hook, which may be nil and must not block.
func Trace(p Provider, log *slog.Logger, hook func(TraceEvent)) Provider {
	return Decorate(p, func(ctx context.Context, call Call, next func(context.Context) error) error {
		began := time.Now()
		err := next(ctx)
		event := TraceEvent{Call: call, Duration: time.Since(began), Class: Class(err), Err: err}
		attrs := []slog.Attr{slog.Any("call", call), slog.Duration("duration", event.Duration)}
		if err != nil {
			attrs = append(attrs, slog.String("class", event.Class), slog.Any("error", err))
		}
		log.LogAttrs(ctx, slog.LevelDebug, "provider call", attrs...)
		if hook != nil {
			hook(event)
		}
		return err
	})
}
