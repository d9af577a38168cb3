package store

import (
	"time"

	"github.com/musterhq/muster/cluster/backup"
)

// VotersRecord is what became of the voters of late, to be shown. Nothing is decided from it.
type VotersRecord struct {
	V int `json:"v"`
	// Changes are the last ones, the newest last.
	Changes []VoterChange `json:"changes,omitempty"`
	// Waits says what the next change waits for, "" when none is due.
	Waits string `json:"waits,omitempty"`
}

// VoterChange is one change of who votes.
type VoterChange struct {
	At     time.Time `json:"at"`
	Host   string    `json:"host"` // name
	Did    string    `json:"did"`  // "takes the place of node-2", "votes", "votes no more"
	Reason string    `json:"reason"`
}

// maxVoterChanges is how many changes a VotersRecord keeps.
const maxVoterChanges = 10

// With is the record with another change.
func (r VotersRecord) With(c VoterChange) VotersRecord {
	r.Changes = append(r.Changes[max(0, len(r.Changes)-maxVoterChanges+1):len(r.Changes):len(r.Changes)], c)
	return r
}

// DefaultVoterGrace is Cluster.VoterGraceMillis where a cluster's record says nothing: longer than a host takes to boot,
// short beside the time until a second voter is likely to fail.
const DefaultVoterGrace = 5 * time.Minute

// VoterGrace is VoterGraceMillis, or its default.
func (c Cluster) VoterGrace() time.Duration {
	if c.VoterGraceMillis == nil {
		return DefaultVoterGrace
	}
	return time.Duration(*c.VoterGraceMillis) * time.Millisecond
}

// BackupSchedule is Backups, or its default.
func (c Cluster) BackupSchedule() backup.Schedule {
	if c.Backups == nil {
		return backup.DefaultSchedule()
	}
	return *c.Backups
}
