package keys

import (
	"fmt"
	"strconv"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// inOrder writes a file whose name is greater than those of all that were written so before it in the directory.
func (d decider) inOrder(w Write, l life) (*plan, *Error) {
	dir := w.Key
	next := d.revision + 1 // most likely the revision that the transaction will have
	var orderMod int64
	if e := d.tree.get(dir); e != nil {
		orderMod = e.orderMod
		if last, err := strconv.ParseInt(e.order, 10, 64); err == nil {
			next = max(next, last+1)
		}
	}
	w.Key = below(dir, fmt.Sprintf("%020d", next))
	e, refusal := d.find(w.Key)
	switch {
	case refusal != nil:
		return nil, refusal
	case e != nil: // a client wrote this very name
		return nil, refuse(CodeExists, w.Key)
	}
	p := d.make(w, ActionCreate, l)
	p.guard(unchanged(orderPrefix+dir, orderMod))
	p.put(orderPrefix+dir, strconv.FormatInt(next, 10))
	return p, nil
}

func below(dir, name string) string {
	if dir == "/" {
		return dir + name
	}
	return dir + "/" + name
}

func (d decider) delete(w Write) (*plan, *Error) {
	if w.compares() {
		e, refusal := d.compare(w)
		if refusal != nil {
			return nil, refusal
		}
		p := d.begin(w, ActionCompareAndDelete, w.Key)
		p.guard(unchanged(Values+w.Key, e.mod))
		d.removeFile(p, w.Key)
		return p, nil
	}
	e, refusal := d.need(w.Key)
	switch {
	case refusal != nil:
		return nil, refusal
	case e.isDir() && !w.Dir && !w.Recursive:
		return nil, refuse(CodeNotFile, w.Key)
	case e.live > 0 && !w.Recursive:
		return nil, refuse(CodeNotEmpty, w.Key)
	}
	p := d.begin(w, ActionDelete, w.Key)
	if !e.isDir() {
		p.guard(clientv3.Compare(clientv3.ModRevision(Values+w.Key), ">", 0), unchanged(nodePrefix+w.Key, e.recMod))
		d.removeFile(p, w.Key)
		return p, nil
	}
	if !w.Recursive {
		for _, prefix := range []string{Values, nodePrefix} { // nothing has come since
			p.guard(clientv3.Compare(clientv3.ModRevision(prefix+w.Key+"/"), "<", d.revision+1).WithPrefix())
		}
	}
	p.guard(unchanged(nodePrefix+w.Key, e.recMod))
	d.removeTree(p, w.Key)
	return p, nil
}

func (d decider) removeFile(p *plan, path string) {
	d.parents(p, path)
	p.remove(Values + path)
	p.remove(nodePrefix + path)
}

func (d decider) removeTree(p *plan, path string) {
	d.parents(p, path)
	for _, prefix := range []string{Values, nodePrefix, leasePrefix, orderPrefix} {
		p.remove(prefix + path)
		p.remove(prefix+path+"/", clientv3.WithPrefix())
	}
}

// expireDirectory removes a directory whose lease has ended, unless somebody gave it another. nil if there is none.
func (d decider) expireDirectory(path string) *plan {
	e := d.tree.get(path)
	if e == nil || !e.expired() {
		return nil
	}
	return d.expireTree(e)
}

func (d decider) expireTree(e *entry) *plan {
	p := d.begin(Write{}, ActionExpire, e.path)
	p.guard(unchanged(nodePrefix+e.path, e.recMod), unchanged(leasePrefix+e.path, e.leaseMod))
	d.removeTree(p, e.path)
	return p
}

// expireEarly removes a node, whatever its lease, unless it was written after a revision. nil if it was.
func (d decider) expireEarly(path string, revision int64) *plan {
	e := d.tree.get(path)
	switch {
	case !e.exists(), e.isDir() && e.recMod != revision, !e.isDir() && e.mod != revision:
		return nil
	case e.isDir():
		return d.expireTree(e)
	}
	p := d.begin(Write{}, ActionExpire, path)
	p.guard(unchanged(Values+path, revision))
	d.removeFile(p, path)
	return p
}
