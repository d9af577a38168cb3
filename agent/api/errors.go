package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/musterhq/muster/cluster/store"
)

// Error renders the message and what to do about it.
func (e *Error) Error() string {
	if e.Hint == "" {
		return e.Message
	}
	return e.Message + "; " + e.Hint
}

// Errorf makes an error for the caller of the API. Hint says what to do next.
func Errorf(status int, hint, format string, args ...any) *Error {
	return &Error{Status: status, Message: fmt.Sprintf(format, args...), Hint: hint}
}

// IsNotFound reports whether err says that what was asked for does not exist.
func IsNotFound(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Status == http.StatusNotFound
}

// hintNoQuorum is what to do when the store does not take writes.
const hintNoQuorum = "a majority of the voters must run: see `muster status`, start them with `muster up`; " +
	"units go on meanwhile"

// hintVersions is what to do when the two sides do not understand each other.
const hintVersions = "muster and the agents must be of the same version"

// AsError turns any error into one for the caller: an *Error as it is, the store's errors and others by their class.
func AsError(err error) *Error {
	var e *Error
	switch {
	case errors.As(err, &e):
		return e
	case isAny(err, store.ErrUnavailable, context.DeadlineExceeded, store.ErrSessionLost):
		return Errorf(http.StatusServiceUnavailable, hintNoQuorum, "the voters do not answer: %v", err)
	case errors.Is(err, store.ErrFull):
		return Errorf(http.StatusInsufficientStorage, "`muster status` tells whether it still is; reads and units go on", "%v", err)
	case errors.Is(err, store.ErrConflict):
		return Errorf(http.StatusConflict, "someone else changed it at the same time; try again", "%v", err)
	case errors.Is(err, store.ErrDenied):
		return Errorf(http.StatusForbidden, "this host may not do that; ask a voter", "%v", err)
	}
	return Errorf(http.StatusInternalServerError, "see the log of musterd on that host", "%v", err)
}

func isAny(err error, targets ...error) bool {
	return slices.ContainsFunc(targets, func(target error) bool { return errors.Is(err, target) })
}

func writeError(w http.ResponseWriter, err error) {
	e := AsError(err)
	writeJSON(w, e.Status, e)
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the caller is gone; nobody is left to tell
}
