package providers

import (
	"context"
	"errors"
)

// classes names the error classes, in the order in which Class looks for them.
var classes = []struct {
	err  error
	name string
}{
	{ErrThrottled, "throttled"},
	{ErrUnavailable, "unavailable"},
	{ErrQuota, "quota"},
	{ErrAuth, "auth"},
	{ErrInvalid, "invalid"},
	{ErrNotFound, "not-found"},
	{ErrConflict, "conflict"},
	{errors.ErrUnsupported, "unsupported"},
	{context.Canceled, "canceled"},
	{context.DeadlineExceeded, "timeout"},
}

// Class names the class of a provider's error for logs and events: "throttled", "unavailable", "quota", "auth",
// "invalid", "not-found", "conflict", "unsupported", "canceled", "timeout"; "unknown" for any other, "" for nil.
func Class(err error) string {
	if err == nil {
		return ""
	}
	for _, c := range classes {
		if errors.Is(err, c.err) {
			return c.name
		}
	}
	return "unknown"
}

// Retryable tells whether the same call may succeed later: the request was throttled, or its outcome is unknown.
func Retryable(err error) bool {
	return errors.Is(err, ErrThrottled) || errors.Is(err, ErrUnavailable)
}
