package store

import (
	"time"

	"github.com/musterhq/muster/cluster/roster"
)

// The key space. Every record is JSON with a version field "v"; readers refuse versions they do not know. <id> is a host
// ID (32 hexadecimal digits), <name> a unit name.
//
//	/muster/cluster               Cluster: identity and settings; written by voters
//	/muster/roster/<id>           roster.Host: who belongs; written by voters
//	/muster/tokens/<hash>         Token: join tokens not yet used; voters only, hosts cannot read
//	/muster/hosts/<id>            HostRecord: what the host says of itself; written by the host
//	/muster/alive/<id>            Alive under the host's session; written by the host
//	/muster/units/<name>          UnitRecord: what is wanted; written by voters on behalf of operators
//	/muster/files/<sha256>        a unit file's bytes, addressed by content; written by voters
//	/muster/schedule/<id>         ScheduleRecord: every unit of the host in one record; written by the leader, fenced
//	/muster/states/<id>           StatesRecord: every unit's state in one record; written by the host, coalesced
//	/muster/leader/               election of the scheduling leader among voters
//	/muster/access                who has a user in etcd, and below it one key a host; cluster/voter alone
const (
	Prefix         = "/muster/"
	KeyCluster     = "/muster/cluster"
	PrefixRoster   = "/muster/roster/"
	PrefixTokens   = "/muster/tokens/"
	PrefixHosts    = "/muster/hosts/"
	PrefixAlive    = "/muster/alive/"
	PrefixUnits    = "/muster/units/"
	PrefixFiles    = "/muster/files/"
	PrefixSchedule = "/muster/schedule/"
	PrefixStates   = "/muster/states/"
	PrefixLeader   = "/muster/leader/"
)

// RecordVersion is the version written into every record.
const RecordVersion = 1

// Cluster is the record of the cluster as a whole.
type Cluster struct {
	V           int    `json:"v"`
	ID          string `json:"id"`
	Name        string `json:"name"`
	LeaseMillis int64  `json:"lease_ms"`
}

// RosterRecord is a member of the cluster.
type RosterRecord struct {
	V int `json:"v"`
	roster.Host
}

// Token is a join token that may still be used. The key is the SHA-256 of the secret; the secret is not stored.
type Token struct {
	V       int         `json:"v"`
	Host    roster.Host `json:"host"` // what the joining host will be, but for Address and Ports
	Expires time.Time   `json:"expires"`
	// UsedBy is the SHA-256 of the public key that used the token, in hexadecimal, or "". The same key may repeat the
	// join, because its answer may have been lost; another is refused.
	UsedBy string `json:"used_by,omitempty"`
}

// HostRecord is what a host says of itself.
type HostRecord struct {
	V     int          `json:"v"`
	Facts roster.Facts `json:"facts"`
}

// Alive exists while a host's session lives.
type Alive struct {
	V     int       `json:"v"`
	Since time.Time `json:"since"`
}

// Desired is what the operator wants of a unit. The words are fleet's.
type Desired string

// The desired states of a unit.
const (
	DesiredInactive Desired = "inactive" // known, not on any host
	DesiredLoaded   Desired = "loaded"   // on a host, stopped
	DesiredLaunched Desired = "launched" // on a host, running
)

// UnitRecord is a unit that an operator submitted.
type UnitRecord struct {
	V       int     `json:"v"`
	File    string  `json:"file"` // SHA-256 of the contents, hexadecimal, a key below PrefixFiles
	Desired Desired `json:"desired"`
}

// ScheduledUnit is one unit in a host's schedule.
type ScheduledUnit struct {
	Name    string  `json:"n"`
	File    string  `json:"f"` // SHA-256, as in UnitRecord
	Desired Desired `json:"d"` // loaded or launched
}

// ScheduleRecord is everything that a host shall have, sorted by name.
type ScheduleRecord struct {
	V     int             `json:"v"`
	Units []ScheduledUnit `json:"units"`
}

// UnitState is what a host reports of one unit: systemd's triple, which of the contents it has, and why.
type UnitState struct {
	Name   string    `json:"n"`
	File   string    `json:"f"`
	Load   string    `json:"l"` // loaded, not-found, error
	Active string    `json:"a"` // active, activating, deactivating, inactive, failed
	Sub    string    `json:"s"` // running, dead, exited, auto-restart, ...
	Reason string    `json:"r,omitempty"`
	Since  time.Time `json:"t"`
}

// StatesRecord is the state of every unit on a host, sorted by name.
type StatesRecord struct {
	V     int         `json:"v"`
	Units []UnitState `json:"units"`
}
