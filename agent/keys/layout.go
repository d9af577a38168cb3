package keys

import (
	"encoding/json"
	"path"
	"strings"
)

// How the tree lies in etcd. Everything is in one range, so that one watch has all changes of a transaction together; '.'
// is the character before '/'.
const (
	// First and End are the range, [First, End), that a host reads and writes for its clients.
	First = "/app."
	End   = "/app0"

	// Values is what the names of files, which begin with a slash, are appended to. Clients of version 3 see the keys that
	// begin with Values+"/", without it.
	Values = "/app"

	nodePrefix  = "/app.node"  // + path: a record about a file or directory
	leasePrefix = "/app.lease" // + path: is there, under its lease, as long as a directory with a time to live
	orderPrefix = "/app.order" // + path: the number that the latest file in order of a directory has
	eventKey    = "/app.event" // what the newest transaction of version 2 was
)

// record tells of a node what its key of version 3 does not. That of a file holds for the revision at which both were
// written: a later write by version 3 makes it void.
type record struct {
	Dir     bool  `json:"dir,omitempty"`
	Created int64 `json:"created,omitempty"` // index; 0: the one at which the record was written
	Expires int64 `json:"expires,omitempty"` // milliseconds since 1970, by the clock of the host that wrote it; 0: never
}

// note says what a transaction did, for those who watch.
type note struct {
	ID      string `json:"id"` // of the write: random, and a number
	Action  string `json:"action"`
	Key     []byte `json:"key"` // need not be text
	Refresh bool   `json:"refresh,omitempty"`
}

func encode(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // none of the types above can fail
	}
	return string(b)
}

// decodeRecord takes what it cannot read, as somebody's mistake, for nothing.
func decodeRecord(b []byte) (r record) {
	if json.Unmarshal(b, &r) != nil {
		return record{}
	}
	return r
}

func decodeNote(b []byte) (n note, ok bool) {
	return n, json.Unmarshal(b, &n) == nil
}

// kindOf splits a key of the range into where it belongs and its path. ok is false for what is no clean path.
func kindOf(key string) (prefix, p string, ok bool) {
	for _, prefix = range []string{Values, nodePrefix, leasePrefix, orderPrefix} {
		if p, found := strings.CutPrefix(key, prefix); found && strings.HasPrefix(p, "/") {
			return prefix, p, p == "/" && prefix == orderPrefix || p != "/" && path.Clean(p) == p
		}
	}
	return "", "", false
}

// parent of a path other than the root.
func parent(p string) string { return path.Dir(p) }

// ancestors of a path, from just below the root down to its parent.
func ancestors(p string) []string {
	var all []string
	for i := 1; i < len(p); i++ {
		if p[i] == '/' {
			all = append(all, p[:i])
		}
	}
	return all
}

// hidden tells whether a name below dir begins with an underscore.
func hidden(dir, p string) bool {
	if dir == "/" {
		dir = ""
	}
	return len(p) > len(dir) && strings.Contains(p[len(dir):], "/_")
}
