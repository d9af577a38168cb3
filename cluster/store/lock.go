package store

import "time"

// The reboot lock. What the records mean, who writes them and why that is safe is in the comment of package agent/lock.
const (
	KeyLock       = "/muster/lock" // of the TurnRecord; groups are below it, so that one read sees all of them as of one revision
	PrefixLock    = "/muster/lock/"
	PrefixReboots = "/muster/reboots/"
	PrefixGrants  = "/muster/grants/"
)

// LockRecord is the reboot lock of one group: a semaphore and what happened to it.
type LockRecord struct {
	V       int          `json:"v"`
	Max     int          `json:"max"`               // how many may hold it at once; 0 lets nobody begin
	Holders []LockHolder `json:"holders,omitempty"` // sorted by ID
	History []LockEvent  `json:"history,omitempty"` // the oldest first, the newest LockHistory of them
}

// LockHistory is how many events a LockRecord remembers.
const LockHistory = 100

// HolderKind is by which way a holder came to the lock, and so by which it gives it back.
type HolderKind string

// The kinds of holders.
const (
	HolderHost      HolderKind = "host"      // a host, by its RebootRecord
	HolderFleetLock HolderKind = "fleetlock" // a client of FleetLock
	HolderLocksmith HolderKind = "locksmith" // locksmithctl
	HolderOperator  HolderKind = "operator"  // muster lock hold
)

// LockHolder is who holds a place of a semaphore. No time ends it.
type LockHolder struct {
	ID     string     `json:"id"` // of a host its ID, else what the client calls itself
	Kind   HolderKind `json:"kind"`
	Host   string     `json:"host,omitempty"`   // ID of the host that may stand still meanwhile, "" if that is not known
	Boot   string     `json:"boot,omitempty"`   // of a host: its boot when it asked
	Ticket int64      `json:"ticket,omitempty"` // of a host: RebootRecord.Ticket
	Since  time.Time  `json:"since"`
	Reason string     `json:"reason,omitempty"`
}

// LockEvent is one line of a lock's history.
type LockEvent struct {
	At     time.Time `json:"at"`
	What   string    `json:"what"` // granted, released, forced, max
	ID     string    `json:"id,omitempty"`
	Boot   string    `json:"boot,omitempty"`
	By     string    `json:"by"`     // who did it: "host", "operator", "FleetLock", ...
	Reason string    `json:"reason"` // why
}

// TurnRecord changes whenever a voter is given the lock of any group, so that two of them are never given at once by
// commits that do not know of each other.
type TurnRecord struct {
	V     int       `json:"v"`
	Voter string    `json:"voter"` // host ID of the last one
	At    time.Time `json:"at"`
}

// RebootRecord is what a host wants of the reboot lock. The host alone writes it.
type RebootRecord struct {
	V     int    `json:"v"`
	Group string `json:"group"`
	Boot  string `json:"boot"` // that the host is in
	// Ticket counts how often the host has asked. It grows with each time, over boots too.
	Ticket int64 `json:"ticket"`
	// Wants is whether the host wants the lock, or still needs it.
	Wants bool `json:"wants"`
	// Healthy is whether the host does all that it is there for. It is what ends a hold, together with Wants.
	Healthy bool   `json:"healthy"`
	Reason  string `json:"reason,omitempty"`
}

// GrantRecord tells a host that it holds the lock: it exists for as long as LockRecord has the host among its holders, and
// changes in the same commits. A host has this one key to watch, however many hold the lock.
type GrantRecord struct {
	V      int    `json:"v"`
	Group  string `json:"group"`
	Boot   string `json:"boot"`
	Ticket int64  `json:"ticket"`
}

func (r *LockRecord) header() *int   { return &r.V }
func (r *TurnRecord) header() *int   { return &r.V }
func (r *RebootRecord) header() *int { return &r.V }
func (r *GrantRecord) header() *int  { return &r.V }

// LockKey is where the LockRecord of a group is.
func LockKey(group string) string { return PrefixLock + group }

// RebootKey is where a host's RebootRecord is.
func RebootKey(hostID string) string { return PrefixReboots + hostID }

// GrantKey is where a host's GrantRecord is, if it holds the lock.
func GrantKey(hostID string) string { return PrefixGrants + hostID }
