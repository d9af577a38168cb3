package keys

// batch is what happened at one revision.
type batch struct {
	revision int64
	changes  []change
}

// apply takes a revision over and tells what clients of version 2 see happen: one event if one of them did it, else one for
// each value that version 3 or the end of a lease changed. id is that of the write of version 2. ended tells whether a lease
// has ended, which only the store knows.
func (t *tree) apply(b batch, ended func(lease int64) bool) (events []Event, id string) {
	n, noted := noteOf(b.changes)
	if noted {
		prev := t.get(string(n.Key)).node()
		t.setAll(b)
		return []Event{t.noted(n, prev, b.revision)}, n.ID
	}
	foreign := t.foreign(b, ended)
	t.setAll(b)
	for _, e := range foreign {
		node := t.get(e.Node.Key).node()
		switch {
		case node == nil && e.PrevNode != nil:
			e.Node = gone(e.Node.Key, e.PrevNode, b.revision)
		case node == nil || node.Dir || e.Action != ActionSet:
			continue // behind a directory, where version 2 does not see it
		default:
			e.Node = node
		}
		events = append(events, e)
	}
	return events, ""
}

func (t *tree) setAll(b batch) {
	for _, c := range b.changes {
		t.set(c)
	}
}

func noteOf(changes []change) (note, bool) {
	for _, c := range changes {
		if c.key == eventKey && !c.deleted {
			return decodeNote(c.value)
		}
	}
	return note{}, false
}

// noted is the event of a write of version 2, after it.
func (t *tree) noted(n note, prev *Node, revision int64) Event {
	e := Event{Action: n.Action, PrevNode: prev, Index: revision, refresh: n.Refresh}
	key := string(n.Key)
	if e.Node = t.get(key).node(); e.Node == nil {
		e.Node = gone(key, prev, revision)
	} else if e.Node.Dir {
		e.Node.Modified = revision // of the event; the directory stays as it was made
	}
	return e
}

// foreign are the changes of values by others, with what was there before. Their nodes only have keys.
func (t *tree) foreign(b batch, ended func(lease int64) bool) (events []Event) {
	for _, c := range b.changes {
		prefix, path, ok := kindOf(c.key)
		if !ok || prefix != Values {
			continue
		}
		before := t.get(path)
		e := Event{Action: ActionSet, Node: &Node{Key: path}, PrevNode: before.node(), Index: b.revision}
		if e.PrevNode != nil && e.PrevNode.Dir {
			continue
		}
		if c.deleted {
			e.Action = ActionDelete
			if e.PrevNode != nil && before.lease != 0 && hasExpired(before, b.changes, ended) {
				e.Action = ActionExpire
			}
		}
		events = append(events, e)
	}
	return events
}

// hasExpired tells whether a value was deleted with its lease. The record of a file of version 2 has the same lease, and so
// went at the same revision.
func hasExpired(before *entry, changes []change, ended func(lease int64) bool) bool {
	if !before.described() {
		return ended(before.lease)
	}
	for _, c := range changes {
		if c.key == nodePrefix+before.path {
			return c.deleted
		}
	}
	return false
}

// gone is the node that the event of a deletion shows.
func gone(key string, prev *Node, revision int64) *Node {
	n := &Node{Key: key, NoValue: true, Modified: revision}
	if prev != nil {
		n.Dir, n.Created = prev.Dir, prev.Created
	}
	return n
}
