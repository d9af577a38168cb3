// Package api is the agent's API: HTTP/JSON over mutual TLS, spoken by the CLI and between agents, and read-only on a
// unix socket for processes of the same host. types.go is the contract; server.go serves it; client.go calls it.
package api

import (
	"time"

	"github.com/musterhq/muster/cluster/roster"
)

// Status is the whole cluster in one answer (GET /v1/status). Its JSON shape is stable and tested as a contract.
type Status struct {
	Cluster string       `json:"cluster"`
	Voters  VotersStatus `json:"voters"`
	Hosts   []HostStatus `json:"hosts"` // sorted by name
	Units   []UnitStatus `json:"units"` // sorted by name, then host
	// Rollouts are those of units whose contents change, or were changed last, a few at a time; sorted by unit.
	Rollouts []Rollout `json:"rollouts,omitempty"`
	// Scheduler is the name of the voter that leads the scheduling, "" while nobody does.
	Scheduler string `json:"scheduler,omitempty"`
	// Warnings say what is wrong with the cluster as a whole and what to do: "1 of 3 voters answers: ...".
	Warnings []string `json:"warnings,omitempty"`
	// Stale is true when the answer comes from a replica without quorum and may be old.
	Stale bool `json:"stale,omitempty"`
}

// VotersStatus tells how the shared brain is. Leader is the name of etcd's leader, "" for none.
type VotersStatus struct {
	Total   int    `json:"total"`
	Healthy int    `json:"healthy"`
	Leader  string `json:"leader"`
	// Unhealthy are the IDs of the hosts whose voter does not answer or does not vote yet.
	Unhealthy []string `json:"unhealthy,omitempty"`
	// Changes are the last changes of who votes, the newest last, and Waits what the next one waits for, "" when none is due.
	Changes []VoterChange `json:"changes,omitempty"`
	Waits   string        `json:"waits,omitempty"`
}

// VoterChange is one change of who votes.
type VoterChange struct {
	At     time.Time `json:"at"`
	Host   string    `json:"host"` // name
	Did    string    `json:"did"`  // "takes the place of node-2", "votes", "votes no more"
	Reason string    `json:"reason"`
}

// HostStatus is one host.
type HostStatus struct {
	Name       string            `json:"name"`
	Provider   string            `json:"provider"`
	Address    string            `json:"address"`
	State      string            `json:"state"` // ready, lost, joining
	Voter      bool              `json:"voter"`
	Appointed  bool              `json:"appointed,omitempty"` // it becomes a voter
	Barred     bool              `json:"barred,omitempty"`    // it never does, by the cluster file
	Labels     map[string]string `json:"labels"`
	RunLabels  []string          `json:"run_labels,omitempty"` // keys of labels that were set while it ran
	ID         string            `json:"id"`
	Generation int               `json:"generation"`
	Ports      roster.Ports      `json:"ports"`
	Facts      *roster.Facts     `json:"facts,omitempty"`
	// Units is how many units and instances the host has or shall have.
	Units int `json:"units"`
	// Order is what operators ordered of the host, "" for nothing: then it takes units. OrderedAt is since when, and
	// Deadline, of a drain, until when units that fit nowhere else stay.
	Order     string     `json:"order,omitempty"`
	OrderedAt *time.Time `json:"ordered_at,omitempty"`
	Deadline  *time.Time `json:"deadline,omitempty"`
	// Remaining is how many units a host that is being drained has still to give up. Global ones stay.
	Remaining int `json:"remaining,omitempty"`
}

// The orders in HostStatus.
const (
	OrderCordoned = "cordoned" // keeps its units and gets no more
	OrderDraining = "draining" // gives its units to others
	OrderDrained  = "drained"  // has given all of them
)

// The states of a host in HostStatus.
const (
	HostReady   = "ready"
	HostLost    = "lost"    // joined, but its lease has ended
	HostJoining = "joining" // in the roster, not seen yet
)

// UnitStatus is one unit on one host; a Global unit has one entry per host.
type UnitStatus struct {
	Name    string `json:"name"`
	Host    string `json:"host"`    // name, "" while it has none
	State   string `json:"state"`   // see below
	Desired string `json:"desired"` // inactive, loaded, launched
	Reason  string `json:"reason"`  // why it is in this state; always set when pending or failed
	Load    string `json:"load,omitempty"`
	Active  string `json:"active,omitempty"`
	Sub     string `json:"sub,omitempty"`
	// Health is what its health check says while it runs: starting, healthy, unhealthy; "" if there is none. HealthReason
	// is what the last check said that failed.
	Health       string `json:"health,omitempty"`
	HealthReason string `json:"health_reason,omitempty"`
	// Replicas tells of all replicas of a template; Name is the template's then, and Host "". The replicas are entries of
	// their own too, unless there are more than a thousand.
	Replicas *ReplicaCounts `json:"replicas,omitempty"`
}

// ReplicaCounts is how many replicas a template asks for, and how far they have come.
type ReplicaCounts struct {
	Wanted  int `json:"wanted"`
	Placed  int `json:"placed"` // have a host
	Running int `json:"running"`
	Failed  int `json:"failed"`
	// Unhealthy are of those that run.
	Unhealthy int `json:"unhealthy,omitempty"`
}

// The states of a unit in UnitStatus.
const (
	UnitRunning  = "running"  // active
	UnitExited   = "exited"   // a oneshot that is done
	UnitStarting = "starting" // scheduled or activating
	UnitStopping = "stopping"
	UnitStopped  = "stopped" // loaded, not active, as desired
	UnitPending  = "pending" // wanted, no host fits
	UnitFailed   = "failed"
	UnitUnknown  = "unknown"  // its host is lost and it has not moved yet
	UnitInactive = "inactive" // submitted only
)

// Unit is one unit with its contents (GET /v1/units/NAME; PUT with Content and/or Desired).
type Unit struct {
	Name    string `json:"name"`
	Content string `json:"content,omitempty"`
	Desired string `json:"desired,omitempty"`
	Hash    string `json:"hash,omitempty"`
}

// Why explains a unit's placement (GET /v1/units/NAME/why).
type Why struct {
	Unit   string       `json:"unit"`
	Host   string       `json:"host"`
	State  string       `json:"state"`
	Reason string       `json:"reason"`
	Hosts  []HostReason `json:"hosts"` // each host: chosen, or the rule that excludes it
	// Rollout tells of that which gives the unit its contents, "" if there was none.
	Rollout string `json:"rollout,omitempty"`
}

// HostReason is why one host may or may not have the unit.
type HostReason struct {
	Host   string `json:"host"`
	Fits   bool   `json:"fits"`
	Reason string `json:"reason"`
}

// TokenRequest asks for a join token for a host to come (POST /v1/tokens).
type TokenRequest struct {
	Host roster.Host   `json:"host"` // Address and Ports empty
	TTL  time.Duration `json:"ttl"`
	// Hash is the SHA-256 of the secret that the caller made, so that a repeated request changes nothing.
	Hash string `json:"hash"`
}

// Labels are the labels of a host (PUT /v1/hosts/{id}/labels) that the cluster file says.
type Labels struct {
	Labels map[string]string `json:"labels"`
}

// LabelPatch changes some labels of a host and leaves the others (PATCH /v1/hosts/{id}/labels): null removes one, as in
// a JSON merge patch (RFC 7396).
type LabelPatch struct {
	Labels map[string]*string `json:"labels"`
}

// HostOrder is what an operator wants of a host (PUT /v1/hosts/{id}/order): "cordon" for it to get no more units, "drain"
// for it to give its units to others, "" for it to take units again.
type HostOrder struct {
	Order string `json:"order"`
	// Within is, of a drain, how long units that fit nowhere else keep running there, in nanoseconds. Null: for as long as
	// it takes.
	Within *time.Duration `json:"within,omitempty"`
}

// RenewRequest asks a voter for a new certificate (POST /v1/renew). It carries the one to be replaced, which may have
// expired: the new one is for the same host and the same key, and so of no use to anybody else.
type RenewRequest struct {
	Certificate string `json:"certificate"` // host's certificate followed by the issuer's, PEM
}

// RenewReply is the answer to a RenewRequest.
type RenewReply struct {
	Certificate string `json:"certificate"` // host's certificate followed by the issuer's, PEM
}

// Health is what an agent says of itself (GET /v1/health).
type Health struct {
	Host    string `json:"host"`
	ID      string `json:"id"`
	Version string `json:"version"`
	Voter   bool   `json:"voter"`
	Joined  bool   `json:"joined"` // its session with the store lives
}

// Outcome is what a PUT changed.
type Outcome int

// The outcomes of a PUT, as HTTP statuses 201, 200 and 204.
const (
	Created Outcome = iota
	Changed
	Unchanged
)

// LogOptions choose what Logs shows.
type LogOptions struct {
	Host   string    // name, for units that run on several hosts; "" for any
	Lines  int       // the last ones; negative for all
	Follow bool      // go on with what is printed later
	Since  time.Time // nothing older; zero for no such bound
	// Priority is the least severe to show, a name of syslog's (emerg ... debug) or its number; "" for all.
	Priority string
	// Output is how entries are shown: cat, short, short-iso or json (agent/journal); "" for cat, which is what the unit wrote
	// and nothing else. The others also have what systemd said of it.
	Output string
}

// Error is the body of every answer that is not 2xx.
type Error struct {
	Status  int    `json:"-"` // of HTTP
	Message string `json:"error"`
	Hint    string `json:"hint,omitempty"`
}
