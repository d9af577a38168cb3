package membership

import (
	"cmp"
	"fmt"
	"slices"
)

// Database is how one member's database is. Sizes are in bytes.
type Database struct {
	Member  uint64
	Healthy bool
	Leader  bool
	Size    int64 // of the file
	Used    int64 // of what is in it
	Quota   int64 // that the file may have
	Full    bool  // it complains that its quota is used up (NOSPACE)

	// Defragmented says that nothing has been compacted since the file was made anew. Before that, Used may be too large for as
	// long as nothing is written: a page is free only two writes after it was left.
	Defragmented bool
}

// Upkeep is one thing to do for the databases. Reason says why or, for UpkeepNone of a full one, what is to be done by hand.
type Upkeep struct {
	Kind   UpkeepKind
	Member uint64 // of Defragment
	Reason string
}

// UpkeepKind is what to do.
type UpkeepKind int

// The kinds of upkeep.
const (
	UpkeepNone UpkeepKind = iota
	Compact               // forget old revisions now, and not in some minutes
	Defragment            // give back what is free in one member's file. It does not answer meanwhile
	Disarm                // the alarms: there is room again
)

// When a file is worth to be defragmented, and how much of the quota may be used for an alarm to end.
const (
	worthBytes  = 64 << 20 // that are free in the file
	worthPart   = 2        // and no less than this part of it: a half
	disarmBelow = 90       // percent of the quota
)

// NextUpkeep decides what is done next. A database is defragmented while all members answer, one at a time, the leader's
// last. When the quota is used up, old revisions go first, then every member's file is made anew, and the alarm ends when there
// is room in the file of every member that answers: nobody can take the place of a silent one before, since that has to be
// written. compacted says that old revisions have gone since.
func NextUpkeep(all []Database, compacted bool) Upkeep {
	all = slices.Clone(all)
	slices.SortFunc(all, func(a, b Database) int {
		if a.Leader != b.Leader {
			return cmp.Compare(btoi(a.Leader), btoi(b.Leader))
		}
		return cmp.Compare(a.Member, b.Member)
	})
	full := slices.ContainsFunc(all, func(d Database) bool { return d.Full })
	if full && !compacted {
		return Upkeep{Kind: Compact, Reason: "the quota of the database is used up"}
	}
	silent := func(d Database) bool { return !d.Healthy }
	if !full && slices.ContainsFunc(all, silent) {
		return Upkeep{Reason: "a member is silent"}
	}
	room := "there is room again"
	if slices.ContainsFunc(all, silent) {
		room += " at the members that answer"
	}
	all = slices.DeleteFunc(all, silent)
	for _, d := range all {
		free := d.Size - d.Used
		if free >= worthBytes && free*worthPart >= d.Size || full && d.worth() {
			return Upkeep{Kind: Defragment, Member: d.Member, Reason: fmt.Sprintf("%d of %d bytes are free", free, d.Size)}
		}
	}
	if !full {
		return Upkeep{}
	}
	if slices.ContainsFunc(all, func(d Database) bool { return d.tight(d.Size) }) {
		return Upkeep{Reason: "the database is full of what is needed: remove keys or units; nothing can be written until then"}
	}
	return Upkeep{Kind: Disarm, Reason: room}
}

// worth reports whether making a full file anew may help.
func (d Database) worth() bool {
	return d.tight(d.Size) && (!d.Defragmented || d.Used < d.Size && !d.tight(d.Used))
}

// tight reports whether so many bytes are too much of the quota for an alarm to end.
func (d Database) tight(bytes int64) bool { return bytes*100 >= d.Quota*disarmBelow }

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}
