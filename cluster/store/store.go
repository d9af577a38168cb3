// Package store is the cluster's shared brain as the rest of muster sees it: ordered keys with revisions, guarded
// commits, watches, sessions and elections, and on top of them the typed records of the key space (records.go).
//
// There are two implementations, etcd and memory, and one conformance suite (storetest). The package guarantees what
// etcd v3 guarantees: commits are atomic and linearizable, a watch delivers every commit once and in order or says that
// it cannot.
package store

import (
	"context"
	"errors"
	"time"
)

// Errors that callers test with errors.Is.
var (
	ErrConflict    = errors.New("a guard of the commit does not hold")   // nothing was written
	ErrUnavailable = errors.New("store unavailable")                     // no quorum or no connection; outcome of a commit unknown
	ErrCompacted   = errors.New("the revisions asked for are compacted") // read again, then watch from there
	ErrDenied      = errors.New("permission denied by the store")        // RBAC
	ErrSessionLost = errors.New("session ended")                         // lease expired or revoked
	// ErrFull is of commits that put, and of sessions; what fills the store may have been written. Room is made by itself
	// (membership.NextUpkeep), as far as it can be.
	ErrFull = errors.New("the store is full and takes no writes until there is room: old revisions are removed by themselves " +
		"within a minute; if it stays full, remove keys (etcdctl del) or units")
)

// Item is one key and its value.
type Item struct {
	Key            string
	Value          []byte // readers must not change it
	CreateRevision int64  // revision of the commit that made the key
	ModRevision    int64  // revision of the last commit that changed it
	Session        int64  // ID of the session it is bound to, 0 for none
}

// View is the result of one read: items sorted by key, as of Revision.
type View struct {
	Revision int64
	Items    []Item
}

// Guard is a condition of a commit. Exactly one of the fields beside Key is used, chosen by Kind.
type Guard struct {
	Key      string
	Kind     GuardKind
	Revision int64
}

// GuardKind says what a Guard compares.
type GuardKind int

// The kinds of guards.
const (
	GuardModRevision    GuardKind = iota // key's ModRevision equals Revision; 0 means that the key does not exist
	GuardCreateRevision                  // key's CreateRevision equals Revision; 0 means that the key does not exist
)

// Op is one write of a commit: a put, or a delete of a key or a prefix.
type Op struct {
	Key     string
	Value   []byte
	Delete  bool
	Prefix  bool  // with Delete: every key that begins with Key
	Session int64 // with a put: bind the key to this session, 0 for none
}

// Put is an Op that writes a key.
func Put(key string, value []byte) Op { return Op{Key: key, Value: value} }

// Delete is an Op that removes a key.
func Delete(key string) Op { return Op{Key: key, Delete: true} }

// DeletePrefix is an Op that removes every key with a prefix.
func DeletePrefix(prefix string) Op { return Op{Key: prefix, Delete: true, Prefix: true} }

// Commit is a guarded write of at most 128 Ops that touch each key once.
type Commit struct {
	Guards []Guard
	Ops    []Op
}

// Event is one change that a watch saw. Deleted items carry Key and ModRevision only.
type Event struct {
	Item
	Deleted bool
}

// Change is every event of one or more whole revisions, in order. Err is set on the last Change of a watch that cannot
// go on; its channel is then closed.
type Change struct {
	Revision int64
	Events   []Event
	Err      error
}

// Store is an ordered key space with revisions. Implementations are safe for concurrent use.
type Store interface {
	// Range reads every key that begins with prefix, linearizably.
	Range(ctx context.Context, prefix string) (View, error)
	// RangeStale is Range from whatever replica answers, even without quorum; the view may be old.
	RangeStale(ctx context.Context, prefix string) (View, error)
	// Get reads one key. A missing key is an Item with ModRevision 0 and no error.
	Get(ctx context.Context, key string) (Item, error)
	// Commit writes all ops atomically if all guards hold, else nothing and ErrConflict. It returns the new revision.
	Commit(ctx context.Context, c Commit) (int64, error)
	// Watch delivers every change of keys with prefix after revision (exclusive). It survives lost connections. The
	// channel is closed when ctx ends, or after a Change with Err (ErrCompacted, ErrDenied).
	Watch(ctx context.Context, prefix string, after int64) <-chan Change
	// NewSession makes a session that lives while it is kept alive and dies ttl after its holder falls silent.
	NewSession(ctx context.Context, ttl time.Duration) (Session, error)
	// Campaign waits until this session holds the election (a key prefix) and returns its leadership.
	Campaign(ctx context.Context, election, candidate string, s Session) (Leadership, error)
	// Close releases connections. Sessions are not revoked.
	Close() error
}

// Session is a lease that is kept alive in the background.
type Session interface {
	ID() int64
	// Done is closed when the session has ended or can no longer be known to live.
	Done() <-chan struct{}
	// Observe has stamp called right before each later sign of life is sent, and renewed with its result when that has
	// succeeded. There is one observer at most. Both return soon.
	Observe(stamp func() time.Duration, renewed func(sent time.Duration))
	// Revoke ends the session and deletes its keys now.
	Revoke(ctx context.Context) error
}

// Leadership is a won election.
type Leadership interface {
	// Fence is a guard that holds only while the leadership lasts. Every write of a leader carries it.
	Fence() Guard
	// Done is closed when the leadership may be lost.
	Done() <-chan struct{}
	// Resign gives the leadership up.
	Resign(ctx context.Context) error
}
