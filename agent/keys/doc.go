// Package keys is the cluster's key space as etcd's version 2 knew it, a tree of files and directories, over a store that
// has versions 3's flat keys: both are the same data.
//
// The file /a/b of version 2 is the key /app/a/b with the value as it is, so clients of version 3, who see what is below
// /app as their whole key space, and clients of version 2 share it. What version 3 has no word for (directories that are
// empty or end, indices that a swap keeps, the action of a change) lies beside it below /app. (layout.go), is written in the
// same transaction, and is watched in the same range, so that whoever watches sees both at one revision. What clients of
// version 3 write appears to version 2 as set, delete and expire. A key of version 3 that is no path (a//b) version 2 does
// not show, and where a key has keys below it, version 2 shows the directory.
//
// Indices are the store's revisions. A time to live is a lease. Every host mirrors the whole tree in memory and keeps the
// last 1,000 events. Reads come from the mirror and go on when the store is away (Store.Stale tells since when); those with
// a quorum wait until the mirror has everything that was committed before them. A write is one transaction that is committed
// only if what it was decided on still holds, and that is answered once this host's mirror has it; a refusal is given only
// after the mirror was brought up to date. So writes, and reads with a quorum, are linearizable.
//
// The package knows no HTTP, no listeners and no users: see keysapi.
package keys
