package keys

import (
	"fmt"
	"time"
)

// Node is a file or directory as a client sees it. It is never changed.
type Node struct {
	Key      string // "/a/b"; "/" is the root
	Value    string // of a file
	NoValue  bool   // a file that was deleted, and so has no value any more
	Dir      bool
	Expires  time.Time // zero: never
	Nodes    []*Node   // sorted by key; of a directory whose content was asked for
	Modified int64     // index
	Created  int64     // index
}

// Actions of events.
const (
	ActionGet              = "get"
	ActionSet              = "set"
	ActionCreate           = "create"
	ActionUpdate           = "update"
	ActionCompareAndSwap   = "compareAndSwap"
	ActionDelete           = "delete"
	ActionCompareAndDelete = "compareAndDelete"
	ActionExpire           = "expire"
)

// Event is a change, or the answer to a read. It is never changed.
type Event struct {
	Action   string
	Node     *Node
	PrevNode *Node // as it was before; nil if there was none
	// Index is the event's own for a change, and the mirror's for a read.
	Index   int64
	refresh bool // nobody is told of it
}

// size is what the event takes in memory, roughly.
func (e Event) size() int64 {
	n := int64(2*overhead + len(e.Node.Key) + len(e.Node.Value))
	if e.PrevNode != nil {
		n += int64(len(e.PrevNode.Value))
	}
	return n
}

// IsNew tells whether the event made a node where there was none.
func (e Event) IsNew() bool {
	return e.Action == ActionCreate || e.Action == ActionSet && e.PrevNode == nil
}

// Kind is what a Write does.
type Kind int

// Kinds of writes, by the HTTP methods that ask for them.
const (
	Put    Kind = iota // sets, creates, updates, swaps
	Post               // creates a file in order, below the key
	Delete             // also compares and deletes
)

// Write is a change that a client asks for, in version 2's terms.
type Write struct {
	Kind      Kind
	Key       string // a clean path: "/a/b"
	Value     string
	Dir       bool
	Recursive bool           // of Delete
	TTL       *time.Duration // whole seconds; nil: none
	Refresh   bool           // keep the value, set TTL, tell nobody
	PrevExist *bool
	PrevValue string // "" asks for none
	PrevIndex uint64 // 0 asks for none
}

func (w Write) compares() bool { return w.PrevValue != "" || w.PrevIndex != 0 }

// Read is what a client asks for.
type Read struct {
	Key       string // a clean path
	Recursive bool   // with everything below
	Quorum    bool   // with everything that was committed before
}

// Error codes of version 2 that the store gives.
const (
	CodeKeyNotFound  = 100
	CodeCompare      = 101
	CodeNotFile      = 102
	CodeNotDir       = 104
	CodeExists       = 105
	CodeRootReadOnly = 107
	CodeNotEmpty     = 108
	CodeUnauthorized = 110
	CodeValue        = 200
	CodePrevValue    = 201
	CodeTTL          = 202
	CodeIndex        = 203
	CodeField        = 209
	CodeForm         = 210
	CodeRefreshValue = 211
	CodeRefreshTTL   = 212
	CodeRaft         = 300
	CodeCleared      = 401
)

var messages = map[int]string{
	CodeKeyNotFound: "Key not found", CodeCompare: "Compare failed", CodeNotFile: "Not a file",
	CodeNotDir: "Not a directory", CodeExists: "Key already exists", CodeRootReadOnly: "Root is read only",
	CodeNotEmpty: "Directory not empty", CodeUnauthorized: "The request requires user authentication",
	CodeValue:     "Value is Required in POST form",
	CodePrevValue: "PrevValue is Required in POST form", CodeTTL: "The given TTL in POST form is not a number",
	CodeIndex: "The given index in POST form is not a number", CodeField: "Invalid field", CodeForm: "Invalid POST form",
	CodeRefreshValue: "Value provided on refresh", CodeRefreshTTL: "A TTL must be provided on refresh",
	CodeRaft: "Raft Internal Error", CodeCleared: "The event in requested index is outdated and cleared",
}

// Error is a refusal as clients of version 2 know them. Every error of a Store is one, in the sense of errors.As.
type Error struct {
	Code  int
	Cause string // the key, the parameter, or what failed
	Index int64  // the mirror's; 0 for what was refused before the store was asked
}

// Message is the code in words.
func (e *Error) Message() string { return messages[e.Code] }

func (e *Error) Error() string { return fmt.Sprintf("%d: %s (%s)", e.Code, e.Message(), e.Cause) }

func refuse(code int, cause string) *Error { return &Error{Code: code, Cause: cause} }
