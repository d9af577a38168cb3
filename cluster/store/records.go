package store

import (
	"time"

	"github.com/musterhq/muster/cluster/backup"
	"github.com/musterhq/muster/cluster/instances"
	"github.com/musterhq/muster/cluster/roster"
)

// The key space. Every record is JSON with a version field "v"; readers refuse versions they do not know. A record is
// written in the first version that can say what it says, so a cluster that uses nothing new can be read by an older
// muster, and one that cannot read a record touches nothing that depends on it. <id> is a host ID (32 hexadecimal
// digits), <name> a unit name, <n> a number from 1.
//
//	/muster/cluster               Cluster: identity and settings; written by voters
//	/muster/cluster/voters        VotersRecord: what became of the voters of late; by the leader
//	/muster/roster/<id>           roster.Host: who belongs; written by voters
//	/muster/tokens/<hash>         Token: join tokens not yet used; voters only, hosts cannot read
//	/muster/hosts/<id>            HostRecord: what the host says of itself; written by the host
//	/muster/alive/<id>            Alive under the host's session; written by the host
//	/muster/units/<name>          UnitRecord: what is wanted; written by voters on behalf of operators
//	/muster/files/<sha256>        a unit file's bytes, addressed by content; written by voters
//	/muster/schedule/<id>         ScheduleRecord: the units of the host, all or the first; written by the leader, fenced
//	/muster/schedule/<id>/<n>     ScheduleRecord: more of them, so that no record grows beyond PartSize; likewise
//	/muster/states/<id>           StatesRecord: the units' states, all or the first; written by the host, coalesced
//	/muster/states/<id>/<n>       StatesRecord: more of them, as with schedules
//	/muster/orders/<id>           OrderRecord: a host that is cordoned or being drained; voters on behalf of operators
//	/muster/rebalance             RebalanceRecord: moves to hosts that have less; by the leader, and voters for operators
//	/muster/lock                  TurnRecord: which voter got the reboot lock last; by who gives it, see agent/lock
//	/muster/lock/<group>          LockRecord: the reboot lock of a group; by the leader, and voters for clients and operators
//	/muster/reboots/<id>          RebootRecord: what the host wants of the reboot lock; written by the host
//	/muster/grants/<id>           GrantRecord: that the host holds the lock; in the commits that write LockRecord
//	/muster/update/<group>        UpdateRecord: how hosts update; voters on behalf of operators, and the leader when it fails
//	/muster/update/hosts/<id>     UpdateHostRecord: how far the host is; written by the host
//	/muster/leader/               election of the scheduling leader among voters
//	/muster/access                which hosts have access to etcd, one key a host below it; cluster/voter alone
//
// Beside it are the applications' keys, which muster does not look into: the key /a/b of theirs is /app/a/b. They and what
// agent/keys knows of them, all that every host may write, are from FirstApp to EndApp, without the latter.
const (
	Prefix         = "/muster/"
	KeyCluster     = "/muster/cluster"
	KeyVoters      = KeyCluster + "/voters"
	PrefixRoster   = "/muster/roster/"
	PrefixTokens   = "/muster/tokens/"
	PrefixHosts    = "/muster/hosts/"
	PrefixAlive    = "/muster/alive/"
	PrefixUnits    = "/muster/units/"
	PrefixFiles    = "/muster/files/"
	PrefixSchedule = "/muster/schedule/"
	PrefixStates   = "/muster/states/"
	PrefixOrders   = "/muster/orders/"
	KeyRebalance   = "/muster/rebalance"
	PrefixLeader   = "/muster/leader/"
)

// The applications' keys.
const (
	FirstApp  = "/app." // '.' is the character before '/'
	PrefixApp = "/app/"
	EndApp    = "/app0" // and '0' the one after it
)

// RecordVersion is the first version of every record. Some know more, see UnitRecord and ScheduleRecord.
const (
	RecordVersion  = 1
	packedVersion  = 2 // of schedules and states
	promiseVersion = 3 // of schedules
	boundVersion   = 2 // of units
)

// Cluster is the record of the cluster as a whole.
type Cluster struct {
	V           int    `json:"v"`
	ID          string `json:"id"`
	Name        string `json:"name"`
	LeaseMillis int64  `json:"lease_ms"`
	// RebalancePercent is how many of the units, in percent, may move at a time when hosts join, 0 for none. Nil is
	// DefaultRebalance.
	RebalancePercent *int `json:"rebalance_percent,omitempty"`
	// Voters is how many the cluster file asks for, 0 for as many as there are.
	Voters int `json:"voters,omitempty"`
	// VoterGraceMillis is how long a voter may be silent before a standby host takes its place. Nil is DefaultVoterGrace.
	VoterGraceMillis *int64 `json:"voter_grace_ms,omitempty"`
	// Backups is how voters write backups by themselves. Nil is backup.DefaultSchedule.
	Backups *backup.Schedule `json:"backups,omitempty"`
	// Fresh is that the store was empty moments ago: what its schedules do not say of units of Singleton=strict, schedules
	// that were lost may say. The leader takes it back when no host can still go by those.
	Fresh bool `json:"fresh,omitempty"`
	// Restored is the ID of the restore that these records come from, "" for none (join.Restore).
	Restored string `json:"restored,omitempty"`
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
	// HoldMillis is how long at most, by any clock, the host runs units of Singleton=strict after the last moment at which
	// the store may have known it to live. 0 is a host that promises nothing of the kind, and must get none of them.
	HoldMillis int64 `json:"hold_ms,omitempty"`
	// Announced counts how often the host was announced: it grows in each commit that makes the record of its life. Who
	// finds it as it was knows that the host had no session in between.
	Announced int64 `json:"announced,omitempty"`
	// StopsCutOff is that the host stops units of OnPartition=stop when it is cut off from the store.
	StopsCutOff bool `json:"stops_cut_off,omitempty"`
	// Left are units of Singleton=strict that the host was told to give up (ScheduledUnit.Leaving), and of which no process
	// is left there; with the number that it was told.
	Left map[string]int64 `json:"left,omitempty"`
	// Troubles are what of the host's services for its programs does not work, and why. Units do not depend on them.
	Troubles []string `json:"troubles,omitempty"`
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

// UnitRecord is a unit that an operator submitted. Version 2 has Partition or an active Rollout; an older muster, which
// would not keep what they promise, refuses it.
type UnitRecord struct {
	V       int     `json:"v"`
	File    string  `json:"file"` // SHA-256 of the contents, hexadecimal, a key below PrefixFiles
	Desired Desired `json:"desired"`
	// Replicated and Replicas are what a template's file says of replicas: that there are some, and how many. They are
	// written with the file, so that who counts need not read it.
	Replicated bool `json:"replicated,omitempty"`
	Replicas   int  `json:"replicas,omitempty"`
	// Partition is what the file says of hosts that are cut off, likewise.
	Partition Partition `json:"partition,omitempty"`
	// Global is what the file says too: that the unit runs on every host that fits. A drained host keeps it.
	Global bool `json:"global,omitempty"`
	// Rollout is how File came to be, or comes to be, or why it did not; nil if the contents were changed at once. A record
	// with an active one has version 2: an older muster, which would change all instances at once, leaves the unit as it is.
	Rollout *Rollout `json:"rollout,omitempty"`
}

// ScheduledUnit is one unit in a host's schedule, or instances of a template that shall all be the same.
type ScheduledUnit struct {
	Name      string        `json:"n"`           // the template's if there are Instances
	File      string        `json:"f"`           // SHA-256, as in UnitRecord
	Desired   Desired       `json:"d"`           // loaded or launched
	Instances instances.Set `json:"i,omitempty"` // "1-200,305": a million in a row take no more room than one
	Partition Partition     `json:"p,omitempty"` // what the host was told of the unit's
	// Leaving, if it is not 0, is that the unit may run nowhere else yet, and not go on here: Desired is inactive, and the
	// host tells with this number when it has stopped (HostRecord.Left). Only units of Singleton=strict leave so.
	Leaving int64 `json:"l,omitempty"`
}

// ScheduleRecord is what a host shall have, sorted by name: everything, or a part of it. A host's schedule is the union of
// the record below its ID and those below that, in no order: which unit is in which is the writer's affair (Repack), and
// changing one unit writes one part. What changes of one host is written in one commit.
//
// Version 2 has Instances or Part; an older muster, which would take a part for the whole, refuses it. Version 3 has
// Partition or Leaving, which an older one would not obey.
type ScheduleRecord struct {
	V     int             `json:"v"`
	Part  bool            `json:"p,omitempty"` // there are other records of the host
	Units []ScheduledUnit `json:"units"`
}

// UnitState is what a host reports of one unit: systemd's triple, which of the contents it has, and why; or of instances
// of a template of which all that is the same.
type UnitState struct {
	Name      string        `json:"n"` // the template's if there are Instances
	File      string        `json:"f"`
	Load      string        `json:"l"` // loaded, not-found, error
	Active    string        `json:"a"` // active, activating, deactivating, inactive, failed
	Sub       string        `json:"s"` // running, dead, exited, auto-restart, ...
	Reason    string        `json:"r,omitempty"`
	Since     time.Time     `json:"t"`           // of several instances, since when all are so
	Instances instances.Set `json:"i,omitempty"` // as in ScheduledUnit
	// Health is what its health check says, "" for a unit without one or that does not run, and HealthReason why.
	Health       string `json:"h,omitempty"`
	HealthReason string `json:"hr,omitempty"`
}

// What a health check says of a unit.
const (
	HealthStarting  = "starting" // no check has succeeded yet, and it may take its time
	HealthHealthy   = "healthy"
	HealthUnhealthy = "unhealthy"
)

// StatesRecord is the state of the units on a host, sorted by name: of all, or of some, as with ScheduleRecord.
type StatesRecord struct {
	V     int         `json:"v"`
	Part  bool        `json:"p,omitempty"`
	Units []UnitState `json:"units"`
}
