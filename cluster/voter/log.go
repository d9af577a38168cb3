package voter

import (
	"context"
	"log/slog"
	"slices"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// zapTo is a zap logger that writes to a slog one: etcd knows only the first. etcd's warnings stay warnings; what it
// calls information is about itself and becomes debug output.
func zapTo(log *slog.Logger) *zap.Logger { return zap.New(&slogCore{log: log}) }

// slogCore is a zapcore.Core over slog.
type slogCore struct {
	log    *slog.Logger
	fields []zapcore.Field
}

// levelOf maps zap's levels. Above error zap panics or exits by itself after the entry is written.
func levelOf(l zapcore.Level) slog.Level {
	switch {
	case l >= zapcore.ErrorLevel:
		return slog.LevelError
	case l == zapcore.WarnLevel:
		return slog.LevelWarn
	default:
		return slog.LevelDebug
	}
}

// quieter are warnings and errors of etcd that tell nothing, or tell a second time what another line or an error tells.
var quieter = map[string]bool{
	// What stops it comes through Err; the rest is how it closes.
	"setting up serving from embedded etcd failed.": true,
	// Nobody has a password.
	"simple token is not cryptographically signed": true,
	// Part of every first start.
	"Failed to detect schema version": true,
	// "peer became inactive" tells it once.
	"closed TCP streaming connection with remote peer": true,
	"lost TCP streaming connection with remote peer":   true,
	"prober detected unhealthy status":                 true,
	"failed to reach the peer URL":                     true,
	"failed to get version":                            true,
	// A user or role changed meanwhile; the client asks again.
	"request auth revision is less than current node auth revision": true,
	"failed to apply request": true, // the client gets the error
	// membership has the change wait, and says so.
	"rejecting member add request; local member has not been connected to majority peers, reconfigure breaks active quorum": true,
}

// Enabled implements zapcore.Core.
func (c *slogCore) Enabled(l zapcore.Level) bool {
	return c.log.Enabled(context.TODO(), levelOf(l))
}

// With implements zapcore.Core.
func (c *slogCore) With(fields []zapcore.Field) zapcore.Core {
	return &slogCore{log: c.log, fields: slices.Concat(c.fields, fields)}
}

// Check implements zapcore.Core.
func (c *slogCore) Check(e zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if quieter[e.Message] {
		e.Level = zapcore.DebugLevel
	}
	if c.Enabled(e.Level) {
		return checked.AddCore(e, c)
	}
	return checked
}

// Write implements zapcore.Core.
func (c *slogCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	encoder := zapcore.NewMapObjectEncoder()
	for _, f := range slices.Concat(c.fields, fields) {
		f.AddTo(encoder)
	}
	attrs := make([]slog.Attr, 0, len(encoder.Fields))
	for k, v := range encoder.Fields {
		attrs = append(attrs, slog.Any(k, v))
	}
	slices.SortFunc(attrs, func(a, b slog.Attr) int {
		if a.Key < b.Key {
			return -1
		}
		return 1
	})
	c.log.LogAttrs(context.TODO(), levelOf(e.Level), e.Message, attrs...)
	return nil
}

// Sync implements zapcore.Core.
func (c *slogCore) Sync() error { return nil }
