package keys

import (
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// plan is a write as a transaction: what must still hold, and what is written then.
type plan struct {
	guards []clientv3.Cmp
	ops    []clientv3.Op
}

func (p *plan) guard(c ...clientv3.Cmp) { p.guards = append(p.guards, c...) }
func (p *plan) put(key, value string, opts ...clientv3.OpOption) {
	p.ops = append(p.ops, clientv3.OpPut(key, value, opts...))
}

func (p *plan) remove(key string, opts ...clientv3.OpOption) {
	p.ops = append(p.ops, clientv3.OpDelete(key, opts...))
}

func unchanged(key string, mod int64) clientv3.Cmp {
	return clientv3.Compare(clientv3.ModRevision(key), "=", mod)
}

// life is the end of a node that a write gives it.
type life struct {
	lease   clientv3.LeaseID // 0: none
	expires time.Time
	early   bool // before the lease does
}

func (l life) millis() int64 {
	if l.lease == 0 {
		return 0
	}
	return l.expires.UnixMilli()
}

func (l life) opts() []clientv3.OpOption {
	if l.lease == 0 {
		return nil
	}
	return []clientv3.OpOption{clientv3.WithLease(l.lease)}
}

// decider makes plans from what the tree has at a revision.
type decider struct {
	tree     *tree
	revision int64
	id       string // of the write
}

// decide says how a write is carried out, or why it is not. The plan's ID is what its event carries.
func (d decider) decide(w Write, l life) (*plan, *Error) {
	switch {
	case w.Kind == Post:
		return d.inOrder(w, l)
	case w.Key == "/" && w.Kind == Delete && w.compares():
		return nil, refuse(CodeNotFile, "")
	case w.Key == "/":
		return nil, refuse(CodeRootReadOnly, "/")
	case w.Kind == Delete:
		return d.delete(w)
	case w.PrevExist != nil && !*w.PrevExist:
		return d.create(w, l)
	case w.compares():
		return d.swap(w, l)
	case w.PrevExist != nil:
		return d.update(w, l)
	}
	return d.set(w, l)
}

// find returns what is at a path, nil if nothing is, and refuses paths below files.
func (d decider) find(path string) (*entry, *Error) {
	for _, p := range ancestors(path) {
		if e := d.tree.get(p); e.exists() && !e.isDir() {
			return nil, refuse(CodeNotDir, p)
		}
	}
	if e := d.tree.get(path); e.exists() {
		return e, nil
	}
	return nil, nil
}

// need is find for what must be there. The cause names the first directory of the path that is missing.
func (d decider) need(path string) (*entry, *Error) {
	e, refusal := d.find(path)
	if refusal != nil || e != nil {
		return e, refusal
	}
	for _, p := range ancestors(path) {
		if !d.tree.get(p).exists() {
			return nil, refuse(CodeKeyNotFound, p)
		}
	}
	return nil, refuse(CodeKeyNotFound, path)
}

func (d decider) begin(w Write, action, key string) *plan {
	p := &plan{}
	p.put(eventKey, encode(note{ID: d.id, Action: action, Key: []byte(key), Refresh: w.Refresh}))
	return p
}

// parents has the directories above a path recorded, so that they stay when they are empty.
func (d decider) parents(p *plan, path string) {
	above := ancestors(path)
	for i := len(above) - 1; i >= 0; i-- {
		e := d.tree.get(above[i])
		if e != nil && e.recMod != 0 && e.rec.Dir {
			p.guard(unchanged(nodePrefix+e.path, e.recMod)) // those above it are there as long as it is
			return
		}
		record := record{Dir: true}
		var recMod int64
		if e.exists() {
			record.Created, recMod = e.created(), e.recMod
		} else {
			p.guard(unchanged(Values+above[i], 0))
		}
		p.guard(unchanged(nodePrefix+above[i], recMod))
		p.put(nodePrefix+above[i], encode(record))
	}
}

// value writes a file. created is its index of creation, 0 for that of this write.
func value(p *plan, path, value string, created int64, l life) {
	p.put(Values+path, value, l.opts()...)
	if created == 0 && l.lease == 0 {
		p.remove(nodePrefix + path)
		return
	}
	p.put(nodePrefix+path, encode(record{Created: created, Expires: l.millis()}), l.opts()...)
}

func directory(p *plan, path string, created int64, l life) {
	p.put(nodePrefix+path, encode(record{Dir: true, Created: created, Expires: l.millis()}))
	if l.lease != 0 {
		p.put(leasePrefix+path, "", l.opts()...)
	} else {
		p.remove(leasePrefix + path)
	}
}

func (d decider) create(w Write, l life) (*plan, *Error) {
	e, refusal := d.find(w.Key)
	switch {
	case refusal != nil:
		return nil, refusal
	case e != nil:
		return nil, refuse(CodeExists, w.Key)
	}
	return d.make(w, ActionCreate, l), nil
}

// make writes what was not there.
func (d decider) make(w Write, action string, l life) *plan {
	p := d.begin(w, action, w.Key)
	var recMod int64
	if e := d.tree.get(w.Key); e != nil {
		recMod = e.recMod // left over
	}
	p.guard(unchanged(Values+w.Key, 0), unchanged(nodePrefix+w.Key, recMod))
	d.parents(p, w.Key)
	if w.Dir {
		directory(p, w.Key, 0, l)
	} else {
		value(p, w.Key, w.Value, 0, l)
	}
	return p
}

func (d decider) set(w Write, l life) (*plan, *Error) {
	e, refusal := d.find(w.Key)
	switch {
	case refusal != nil:
		return nil, refusal
	case e == nil && w.Refresh:
		_, refusal = d.need(w.Key)
		return nil, refusal
	case e == nil && w.Dir:
		return d.make(w, ActionSet, l), nil
	case e != nil && e.isDir():
		return nil, refuse(CodeNotFile, w.Key)
	}
	p := d.begin(w, ActionSet, w.Key)
	var recMod int64
	if at := d.tree.get(w.Key); at != nil {
		recMod = at.recMod
	}
	p.guard(unchanged(nodePrefix+w.Key, recMod)) // it is no directory
	d.parents(p, w.Key)
	switch {
	case w.Dir:
		p.remove(Values + w.Key)
		directory(p, w.Key, 0, l)
	case w.Refresh:
		p.guard(unchanged(Values+w.Key, e.mod))
		value(p, w.Key, e.value, 0, l)
	default:
		value(p, w.Key, w.Value, 0, l)
	}
	return p, nil
}

func (d decider) update(w Write, l life) (*plan, *Error) {
	e, refusal := d.need(w.Key)
	switch {
	case refusal != nil:
		return nil, refusal
	case e.isDir() && w.Value != "":
		return nil, refuse(CodeNotFile, w.Key)
	}
	p := d.begin(w, ActionUpdate, w.Key)
	d.rewrite(p, e, w, l)
	return p, nil
}

// rewrite keeps the index of creation.
func (d decider) rewrite(p *plan, e *entry, w Write, l life) {
	p.guard(unchanged(nodePrefix+e.path, e.recMod))
	d.parents(p, e.path)
	if e.isDir() {
		directory(p, e.path, e.created(), l)
		return
	}
	p.guard(unchanged(Values+e.path, e.mod))
	text := w.Value
	if w.Refresh {
		text = e.value
	}
	value(p, e.path, text, e.created(), l)
}

func (d decider) swap(w Write, l life) (*plan, *Error) {
	e, refusal := d.compare(w)
	if refusal != nil {
		return nil, refusal
	}
	p := d.begin(w, ActionCompareAndSwap, w.Key)
	d.rewrite(p, e, w, l)
	return p, nil
}

// compare finds a file that is as a write demands.
func (d decider) compare(w Write) (*entry, *Error) {
	e, refusal := d.need(w.Key)
	switch {
	case refusal != nil:
		return nil, refusal
	case e.isDir():
		return nil, refuse(CodeNotFile, w.Key)
	}
	valueOK := w.PrevValue == "" || w.PrevValue == e.value
	indexOK := w.PrevIndex == 0 || w.PrevIndex == uint64(e.modified())
	values := fmt.Sprintf("[%s != %s]", w.PrevValue, e.value)
	indices := fmt.Sprintf("[%d != %d]", w.PrevIndex, e.modified())
	switch {
	case valueOK && indexOK:
		return e, nil
	case valueOK:
		return nil, refuse(CodeCompare, indices)
	case indexOK:
		return nil, refuse(CodeCompare, values)
	}
	return nil, refuse(CodeCompare, values+" "+indices)
}
