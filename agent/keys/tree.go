package keys

import (
	"maps"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// change is one key of the range that was written or deleted.
type change struct {
	key     string
	deleted bool
	value   []byte
	mod     int64 // revision
	create  int64 // revision, of a key that was written
	lease   int64
}

// entry is what etcd has under a path, and what is below it. It is a node to clients if it is a file or a directory.
type entry struct {
	path     string
	parent   *entry
	children map[string]*entry
	live     int // children that exist

	isSet    bool // there is a value
	value    string
	mod      int64 // revision of the value
	lease    int64
	rec      record
	recMod   int64 // revision of the record; 0: there is none
	leaseMod int64 // of the key that stands for a directory's lease; 0: there is none
	dirLease int64
	order    string
	orderMod int64
	since    int64 // revision at which it got its first child, where no record tells
}

// overhead of an entry, roughly, beside its strings.
const overhead = 300

func (e *entry) size() int64 { return overhead + 2*int64(len(e.path)) + int64(len(e.value)) }

func (e *entry) isDir() bool {
	return e.parent == nil || e.recMod != 0 && e.rec.Dir || e.live > 0
}

func (e *entry) exists() bool { return e != nil && (e.isSet || e.isDir()) }

// described tells whether the record is about the value that is there.
func (e *entry) described() bool { return e.recMod == e.mod && !e.rec.Dir }

func (e *entry) created() int64 {
	switch {
	case e.parent == nil:
		return 0
	case e.isDir() && (e.recMod == 0 || !e.rec.Dir):
		return e.since
	case e.isDir() && e.rec.Created == 0:
		return e.recMod
	case e.isDir(), e.described() && e.rec.Created != 0:
		return e.rec.Created
	}
	return e.mod
}

func (e *entry) modified() int64 {
	if e.isDir() {
		return e.created()
	}
	return e.mod
}

func (e *entry) expires() time.Time {
	if e.rec.Expires == 0 || e.isDir() != e.rec.Dir || !e.isDir() && !e.described() {
		return time.Time{}
	}
	return time.UnixMilli(e.rec.Expires).UTC()
}

// ownLease is the lease that was taken out for this node alone.
func (e *entry) ownLease() clientv3.LeaseID {
	switch {
	case e.isDir():
		return clientv3.LeaseID(e.dirLease)
	case e.described():
		return clientv3.LeaseID(e.lease)
	}
	return 0
}

// expired tells of a directory whose lease has ended.
func (e *entry) expired() bool {
	return e.recMod != 0 && e.rec.Dir && e.rec.Expires != 0 && e.leaseMod == 0
}

// node is the entry as clients see it, without what is below; nil if they see none.
func (e *entry) node() *Node {
	if !e.exists() {
		return nil
	}
	n := &Node{Key: e.path, Dir: e.isDir(), Expires: e.expires(), Modified: e.modified(), Created: e.created()}
	if !n.Dir {
		n.Value = e.value
	}
	return n
}

// list is the node with its children, or with everything below, except what is hidden.
func (e *entry) list(recursive bool) *Node {
	n := e.node()
	for _, name := range slices.Sorted(maps.Keys(e.children)) {
		child := e.children[name]
		if name[0] == '_' || !child.exists() {
			continue
		}
		if recursive && child.isDir() {
			n.Nodes = append(n.Nodes, child.list(true))
		} else {
			n.Nodes = append(n.Nodes, child.node())
		}
	}
	return n
}

// tree is what etcd has of the range. It is for one goroutine, or under a lock.
type tree struct {
	byPath  map[string]*entry
	bytes   int64
	expired map[string]bool // directories whose leases have ended
}

func newTree() *tree {
	return &tree{byPath: map[string]*entry{"/": {path: "/"}}, expired: map[string]bool{}}
}

func (t *tree) get(path string) *entry { return t.byPath[path] }

// obtain returns the entry of a path and makes it and those above it if needed.
func (t *tree) obtain(path string) *entry {
	if e := t.byPath[path]; e != nil {
		return e
	}
	e := &entry{path: path, parent: t.obtain(parent(path))}
	if e.parent.children == nil {
		e.parent.children = map[string]*entry{}
	}
	e.parent.children[base(path)] = e
	t.byPath[path] = e
	t.bytes += e.size()
	return e
}

func base(path string) string {
	for i := len(path) - 1; i >= 0; i-- {
		if path[i] == '/' {
			return path[i+1:]
		}
	}
	return path
}

// prune forgets an entry that has become nothing, and those above it that were there for it alone.
func (t *tree) prune(e *entry) {
	for e.parent != nil && !e.isSet && e.recMod == 0 && e.leaseMod == 0 && e.orderMod == 0 && len(e.children) == 0 {
		t.bytes -= e.size()
		delete(t.byPath, e.path)
		delete(e.parent.children, base(e.path))
		e = e.parent
	}
}

// set takes one change over. Keys that are no paths are nothing to it.
func (t *tree) set(c change) {
	prefix, path, ok := kindOf(c.key)
	if !ok {
		return
	}
	if c.deleted && t.byPath[path] == nil {
		return
	}
	e := t.obtain(path)
	existed := e.exists()
	t.bytes -= e.size()
	mod := c.mod
	if c.deleted {
		mod = 0
	}
	switch prefix {
	case Values:
		e.isSet, e.value, e.mod, e.lease = !c.deleted, string(c.value), mod, c.lease
	case nodePrefix:
		e.rec, e.recMod = record{}, mod
		if !c.deleted {
			e.rec = decodeRecord(c.value)
		}
	case leasePrefix:
		e.leaseMod, e.dirLease = mod, c.lease
	case orderPrefix:
		e.order, e.orderMod = string(c.value), mod
	}
	t.bytes += e.size()
	t.track(e)
	count(e, existed, c)
	t.prune(e)
}

// count tells the entries above of one that has come to exist or ceased to.
func count(e *entry, existed bool, c change) {
	for ; e.parent != nil && e.exists() != existed; e = e.parent {
		above := e.parent
		existed = above.exists()
		if e.exists() {
			if above.live++; above.live == 1 {
				above.since = max(c.create, 1)
			}
		} else {
			above.live--
		}
	}
}

func (t *tree) track(e *entry) {
	if e.expired() {
		t.expired[e.path] = true
	} else {
		delete(t.expired, e.path)
	}
}
