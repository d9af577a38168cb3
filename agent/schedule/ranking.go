package schedule

import "cmp"

// ranking orders hosts: where fewest of the template's instances are, if it is spread; then by load, by their provider's
// load and by name. The load of a provider changes with every unit placed on any host of it, so each provider's hosts are
// a part of their own, and the best of the few parts' best is chosen. The number of instances changes for all hosts with
// the same value of a label, so within a part they are one cell.
type ranking struct {
	tally *tally
	parts []*part
}

// part is one provider's hosts: a heap of cells by what is best in each.
type part struct {
	tally    *tally
	provider int32
	cells    []*cell
}

// cell is a part's hosts with one value of the label, or all of them: a heap of entries.
type cell struct {
	domain int32
	count  int32 // of instances, and the best entry, as they were when the cell took its place in the part
	top    entry
	heap   []entry
}

// entry is a host with the load that it had when it was put in. In a pass loads and counts only grow, so an entry or a
// cell is never worse than it looks, and is put right when it comes to the top.
type entry struct {
	load int32
	host int32
}

func (e entry) before(other entry) bool {
	if e.load != other.load {
		return e.load < other.load
	}
	return e.host < other.host
}

func (c *cell) before(other *cell) bool {
	if c.count != other.count {
		return c.count < other.count
	}
	return c.top.before(other.top)
}

// newRanking ranks hosts, which are in order of their names, all of them with the tally's label.
func (w *world) newRanking(hosts []int32, t *tally) *ranking {
	r := &ranking{tally: t}
	parts := make(map[int32]*part, len(w.providers))
	type place struct{ provider, domain int32 }
	cells := make(map[place]*cell)
	for _, n := range hosts {
		h := &w.hosts[n]
		at := place{provider: h.provider, domain: none}
		if t != nil {
			at.domain = t.domains[n]
		}
		c := cells[at]
		if c == nil {
			c = &cell{domain: at.domain}
			cells[at] = c
			p := parts[h.provider]
			if p == nil {
				p = &part{tally: t, provider: h.provider}
				parts[h.provider] = p
				r.parts = append(r.parts, p)
			}
			p.cells = append(p.cells, c)
		}
		c.heap = append(c.heap, entry{load: h.load, host: n})
	}
	for _, p := range r.parts {
		p.heapify()
	}
	return r
}

func (p *part) heapify() {
	for _, c := range p.cells {
		for i := len(c.heap)/2 - 1; i >= 0; i-- {
			down(c.heap, i, entry.before)
		}
		c.count, c.top = p.countOf(c), c.heap[0]
	}
	for i := len(p.cells)/2 - 1; i >= 0; i-- {
		down(p.cells, i, (*cell).before)
	}
}

func (r *ranking) partOf(provider int32) *part {
	for _, p := range r.parts {
		if p.provider == provider {
			return p
		}
	}
	return nil
}

// best returns the first host of the ranking, and the part whose top it is; none if it is empty.
func (r *ranking) best(w *world) (int32, *part) {
	at, best := none, (*part)(nil)
	for _, p := range r.parts {
		if p.refresh(w); len(p.cells[0].heap) == 0 {
			continue
		}
		top := p.cells[0].heap[0].host
		if best == nil || cmp.Compare(r.tally.on(top), r.tally.on(at)) < 0 ||
			r.tally.on(top) == r.tally.on(at) && w.before(top, at) {
			at, best = top, p
		}
	}
	return at, best
}

func (p *part) countOf(c *cell) int32 {
	if p.tally == nil {
		return 0
	}
	return p.tally.counts[c.domain]
}

// refresh puts right what is at the top until the top is right. The last cell stays, even if it is empty.
func (p *part) refresh(w *world) {
	for {
		c := p.cells[0]
		c.refresh(w)
		if len(c.heap) == 0 {
			if len(p.cells) == 1 {
				return
			}
			last := len(p.cells) - 1
			p.cells[0] = p.cells[last]
			p.cells = p.cells[:last]
			down(p.cells, 0, (*cell).before)
			continue
		}
		count := p.countOf(c)
		if c.count == count && c.top == c.heap[0] {
			return
		}
		c.count, c.top = count, c.heap[0]
		down(p.cells, 0, (*cell).before)
	}
}

func (c *cell) refresh(w *world) {
	for len(c.heap) > 0 && c.heap[0].load != w.hosts[c.heap[0].host].load {
		c.heap[0].load = w.hosts[c.heap[0].host].load
		down(c.heap, 0, entry.before)
	}
}

// pop takes the best host out.
func (p *part) pop() entry {
	c := p.cells[0]
	top, last := c.heap[0], len(c.heap)-1
	c.heap[0] = c.heap[last]
	c.heap = c.heap[:last]
	down(c.heap, 0, entry.before)
	return top
}

// push puts back what was popped from a part of one cell.
func (p *part) push(e entry) {
	c := p.cells[0]
	c.heap = append(c.heap, e)
	for i := len(c.heap) - 1; i > 0; {
		parent := (i - 1) / 2
		if !c.heap[i].before(c.heap[parent]) {
			return
		}
		c.heap[i], c.heap[parent] = c.heap[parent], c.heap[i]
		i = parent
	}
}

// down restores a heap from position i downwards.
func down[T any](heap []T, i int, before func(a, b T) bool) {
	for {
		child := 2*i + 1
		if child >= len(heap) {
			return
		}
		if child+1 < len(heap) && before(heap[child+1], heap[child]) {
			child++
		}
		if !before(heap[child], heap[i]) {
			return
		}
		heap[i], heap[child] = heap[child], heap[i]
		i = child
	}
}
