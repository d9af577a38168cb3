package api

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// Lock is the reboot lock of a group (GET /v1/locks).
type Lock struct {
	Group   string       `json:"group"`
	Max     int          `json:"max"`
	Holders []LockHolder `json:"holders"`
	Waiting []LockWaiter `json:"waiting"`
	History []LockEvent  `json:"history"` // the oldest first
}

// LockHolder is who holds a place.
type LockHolder struct {
	ID     string    `json:"id"`             // of a host its ID
	Kind   string    `json:"kind"`           // host, fleetlock, locksmith, operator
	Host   string    `json:"host,omitempty"` // name, if it is a host of the cluster
	Boot   string    `json:"boot,omitempty"` // in which the host was when it asked
	Since  time.Time `json:"since"`
	Reason string    `json:"reason,omitempty"`
}

// LockWaiter is a host that waits, and why.
type LockWaiter struct {
	ID     string `json:"id"`
	Host   string `json:"host"` // name
	Reason string `json:"reason"`
}

// LockEvent is one line of the history.
type LockEvent struct {
	At     time.Time `json:"at"`
	What   string    `json:"what"` // granted, released, forced, max
	ID     string    `json:"id,omitempty"`
	Host   string    `json:"host,omitempty"` // name, if it is known
	Boot   string    `json:"boot,omitempty"`
	By     string    `json:"by"`
	Reason string    `json:"reason,omitempty"`
}

// The verbs of a LockOrder.
const (
	LockHold    = "hold"    // take a place for Holder
	LockRelease = "release" // give it back; with Force whoever holds it, and however
	LockMax     = "max"     // let Max hold it at once
)

// LockOrder changes the lock of a group for an operator (POST /v1/locks/GROUP/VERB).
type LockOrder struct {
	Holder string `json:"holder,omitempty"` // a host's name or ID, or any other word
	Force  bool   `json:"force,omitempty"`
	Max    int    `json:"max,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// Locks asks for every group's lock, sorted by group.
func (c *Client) Locks(ctx context.Context) ([]Lock, error) {
	var locks []Lock
	return locks, c.get(ctx, "/v1/locks", &locks)
}

// OrderLock does one of the verbs of a LockOrder.
func (c *Client) OrderLock(ctx context.Context, group, verb string, order LockOrder) error {
	_, err := c.change(ctx, http.MethodPost, "/v1/locks/"+url.PathEscape(group)+"/"+url.PathEscape(verb), order)
	return err
}

// SwapLock puts locksmith's JSON in the place of what a group's lock had at an index (lock.Locksmith), in the caller's own
// name.
func (c *Client) SwapLock(ctx context.Context, group string, swap LockSwap) error {
	_, err := c.change(ctx, http.MethodPut, "/v1/locks/"+url.PathEscape(group)+"/semaphore", swap)
	return err
}

// LockSwap is locksmith's compare-and-swap. Index 0 asks for a group that nobody has used yet.
type LockSwap struct {
	Index int64  `json:"index"`
	Value string `json:"value"`
}

func (s *Server) getLocks(w http.ResponseWriter, r *http.Request, _ Caller) error {
	locks, err := s.Fleet.Locks(r.Context())
	if err != nil {
		return fmt.Errorf("cannot tell of the reboot lock: %w", err)
	}
	writeJSON(w, http.StatusOK, locks)
	return nil
}

func (s *Server) postLock(w http.ResponseWriter, r *http.Request, _ Caller) error {
	var order LockOrder
	if err := readJSON(r, &order); err != nil {
		return err
	}
	if err := s.Admin.OrderLock(r.Context(), r.PathValue("group"), r.PathValue("verb"), order); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// putLock lets hosts change their own place alone.
func (s *Server) putLock(w http.ResponseWriter, r *http.Request, c Caller) error {
	var swap LockSwap
	if err := readJSON(r, &swap); err != nil {
		return err
	}
	self := ""
	if c.Role == Host {
		self = c.ID
	}
	if err := s.Admin.SwapLock(r.Context(), r.PathValue("group"), self, swap); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// fleetLock serves FleetLock (agent/fleetlock) to callers with certificates, below FleetLockPath.
func (s *Server) fleetLock(w http.ResponseWriter, r *http.Request, c Caller) error {
	if s.FleetLock == nil {
		return errNotVoter()
	}
	s.FleetLock(c.ID).ServeHTTP(w, r)
	return nil
}
