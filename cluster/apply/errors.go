package apply

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Errors that callers test with errors.Is.
var (
	// ErrNotConfirmed says that instances would be ended or stopped and nobody agreed to that.
	ErrNotConfirmed = errors.New("not confirmed; nothing was changed")
	// ErrUnreachable says that the cluster has formed and does not answer.
	ErrUnreachable = errors.New("the cluster does not answer")
	// ErrNoQuorum says that a stop would leave too few voters, or may.
	ErrNoQuorum = errors.New("no majority of the voters is sure to remain")
)

// HostError is what went wrong with one host.
type HostError struct {
	Host     string
	Provider string
	Phase    Phase
	Err      error
}

func (e *HostError) Error() string {
	if e.Host == "" {
		return fmt.Sprintf("provider %s: %v", e.Provider, e.Err)
	}
	return fmt.Sprintf("host %s (%s): %v", e.Host, e.Provider, e.Err)
}

// Unwrap is the cause.
func (e *HostError) Unwrap() error { return e.Err }

// PartialError says that some hosts are as they should be and some are not.
type PartialError struct {
	Failed []*HostError
	Total  int // hosts that something was to be done with, or that were waited for
}

func (e *PartialError) Error() string {
	lines := make([]string, len(e.Failed))
	for i, f := range e.Failed {
		lines[i] = f.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap is every host's error.
func (e *PartialError) Unwrap() []error {
	errs := make([]error, len(e.Failed))
	for i, f := range e.Failed {
		errs[i] = f
	}
	return errs
}

// NotReadyError says that a host was not ready in time. Last is what was last known of it.
type NotReadyError struct {
	After time.Duration
	Last  string
	Log   string // where to look, "" when the provider cannot tell
}

func (e *NotReadyError) Error() string {
	text := fmt.Sprintf("not ready after %s: %s", e.After, e.Last)
	if e.Log != "" {
		return text + "; its log: " + e.Log
	}
	return text + "; see the log of musterd on the host, and its console at the provider"
}
