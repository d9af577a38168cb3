package schedule

import (
	"encoding/binary"
	"slices"
)

// pool is the ready hosts that have what a unit asks of labels and of global units, ranked. Units that ask for the same
// share one.
type pool struct {
	number int32
	hosts  []int32
	rank   *ranking
}

// class is the units that any host treats alike: the same pool, the same Conflicts, and names that match the same
// Conflicts of others. A host that one of them conflicts with is closed to all of them for the rest of the pass, for in
// it units are only added.
type class struct {
	*pool
	alone  bool     // without any conflicts
	rank   *ranking // without the hosts that conflict; nil while the pool's own will do
	skips  int      // hosts of the pool's ranking that were looked at in vain
	waits  string   // why no host fits, see why.go
	placed string   // why the host was chosen
}

// classOf returns the unit's class.
func (w *world) classOf(u *unit) *class {
	p := w.poolOf(u)
	w.key = binary.AppendVarint(w.key[:0], int64(p.number))
	w.key = binary.AppendUvarint(w.key, uint64(len(u.patterns)))
	for _, n := range u.patterns {
		w.key = binary.AppendUvarint(w.key, uint64(n))
	}
	for _, n := range u.matched {
		w.key = binary.AppendUvarint(w.key, uint64(n))
	}
	c := w.classes[string(w.key)]
	if c == nil {
		c = &class{pool: p, alone: len(u.patterns)+len(u.matched) == 0}
		w.classes[string(w.key)] = c
	}
	return c
}

func (w *world) poolOf(u *unit) *pool {
	w.key = appendMetadata(w.key[:0], u.Requirements.Metadata)
	globals := w.globalPeers(u)
	if len(globals) > 0 {
		w.key = append(w.key, 0) // no label is empty
		for _, g := range globals {
			w.key = appendText(w.key, g.Name)
		}
	}
	p := w.pools[string(w.key)]
	if p == nil {
		p = &pool{number: int32(len(w.pools)), hosts: w.matching(u, globals)}
		p.rank = w.newRanking(p.hosts)
		w.pools[string(w.key)] = p
	}
	return p
}

// globalPeers returns the global units that the unit names in MachineOf, by name.
func (w *world) globalPeers(u *unit) []*unit {
	var globals []*unit
	for _, name := range u.Requirements.MachineOf {
		if peer := w.byName[name]; peer != nil && peer.Requirements.Global && !slices.Contains(globals, peer) {
			globals = append(globals, peer)
		}
	}
	slices.SortFunc(globals, func(a, b *unit) int { return compareNames(a, b) })
	return globals
}

// matching returns the ready hosts with the unit's metadata and with the global units. It looks only at the hosts that
// have the rarest of the labels.
func (w *world) matching(u *unit, globals []*unit) []int32 {
	candidates := w.ready()
	for key, values := range u.Requirements.Metadata {
		var having []int32
		for i, value := range values {
			if !slices.Contains(values[:i], value) {
				having = append(having, w.having(key)[value]...)
			}
		}
		if len(having) < len(candidates) {
			candidates = having
		}
	}
	var hosts []int32
	for _, n := range candidates {
		if !metadataFits(u.Requirements.Metadata, w.hosts[n].Host) {
			continue
		}
		if !slices.ContainsFunc(globals, func(g *unit) bool { return !w.globalOn[globalHost{g, n}] }) {
			hosts = append(hosts, n)
		}
	}
	slices.Sort(hosts)
	return hosts
}

// having returns the ready hosts by their value of a label.
func (w *world) having(key string) map[string][]int32 {
	values := w.postings[key]
	if values == nil {
		values = make(map[string][]int32)
		for _, n := range w.ready() {
			if value, ok := label(w.hosts[n].Host, key); ok {
				values[value] = append(values[value], n)
			}
		}
		w.postings[key] = values
	}
	return values
}

func (w *world) ready() []int32 {
	if w.readyHosts == nil {
		w.readyHosts = make([]int32, 0, len(w.hosts))
		for i := range w.hosts {
			if w.hosts[i].State == Ready {
				w.readyHosts = append(w.readyHosts, int32(i))
			}
		}
	}
	return w.readyHosts
}

// pick returns the least loaded host that is open to the unit's class, none if there is none.
func (w *world) pick(c *class, u *unit) int32 {
	if c.alone {
		h, _ := c.pool.rank.best(w)
		return h
	}
	if c.rank != nil {
		for {
			h, g := c.rank.best(w)
			if h == none || !w.conflicts.on(h, u) {
				return h
			}
			g.pop() // closed to the class for good
		}
	}
	return w.pickShared(c, u)
}

// pickShared looks through the pool's ranking, which other classes use too. When that has cost the class as much as a
// ranking of its own, it gets one: so the cost is never more than twice the better of the two.
func (w *world) pickShared(c *class, u *unit) int32 {
	w.skipped = w.skipped[:0]
	h, g := c.pool.rank.best(w)
	for h != none && w.conflicts.on(h, u) {
		w.skipped = append(w.skipped, g.pop())
		h, g = c.pool.rank.best(w)
	}
	for _, e := range w.skipped {
		c.pool.rank.groupOf(w.hosts[e.host].provider).push(e)
	}
	c.skips += len(w.skipped)
	if c.skips > len(c.hosts) {
		var open []int32
		for _, n := range c.hosts {
			if !w.conflicts.on(n, u) {
				open = append(open, n)
			}
		}
		c.rank = w.newRanking(open)
	}
	return h
}

// ranking orders hosts by load, then by their provider's load, then by name. The load of a provider changes with every
// unit placed on any host of it, so each provider's hosts are a heap of their own, and the best of the few providers'
// best is chosen.
type ranking struct {
	groups []*group
}

type group struct {
	provider int32
	heap     []entry
}

// entry is a host with the load that it had when it was put in. In a pass loads only grow, so an entry is never worse
// than it looks, and is put right when it comes to the top.
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

// newRanking ranks hosts, which are in order of their names.
func (w *world) newRanking(hosts []int32) *ranking {
	r := &ranking{}
	byProvider := make(map[int32]*group, len(w.providers))
	for _, n := range hosts {
		h := &w.hosts[n]
		g := byProvider[h.provider]
		if g == nil {
			g = &group{provider: h.provider}
			byProvider[h.provider] = g
			r.groups = append(r.groups, g)
		}
		g.heap = append(g.heap, entry{load: h.load, host: n})
	}
	for _, g := range r.groups {
		for i := len(g.heap)/2 - 1; i >= 0; i-- {
			g.down(i)
		}
	}
	return r
}

func (r *ranking) groupOf(provider int32) *group {
	for _, g := range r.groups {
		if g.provider == provider {
			return g
		}
	}
	return nil
}

// best returns the first host of the ranking, and the group whose top it is; none if it is empty.
func (r *ranking) best(w *world) (int32, *group) {
	var best *group
	for _, g := range r.groups {
		if g.refresh(w); len(g.heap) == 0 {
			continue
		}
		if best == nil || w.before(g.heap[0].host, best.heap[0].host) {
			best = g
		}
	}
	if best == nil {
		return none, nil
	}
	return best.heap[0].host, best
}

// refresh puts right the loads at the top until the top is right.
func (g *group) refresh(w *world) {
	for len(g.heap) > 0 && g.heap[0].load != w.hosts[g.heap[0].host].load {
		g.heap[0].load = w.hosts[g.heap[0].host].load
		g.down(0)
	}
}

func (g *group) pop() entry {
	top, last := g.heap[0], len(g.heap)-1
	g.heap[0] = g.heap[last]
	g.heap = g.heap[:last]
	g.down(0)
	return top
}

func (g *group) push(e entry) {
	g.heap = append(g.heap, e)
	for i := len(g.heap) - 1; i > 0; {
		parent := (i - 1) / 2
		if !g.heap[i].before(g.heap[parent]) {
			return
		}
		g.heap[i], g.heap[parent] = g.heap[parent], g.heap[i]
		i = parent
	}
}

func (g *group) down(i int) {
	for {
		child := 2*i + 1
		if child >= len(g.heap) {
			return
		}
		if child+1 < len(g.heap) && g.heap[child+1].before(g.heap[child]) {
			child++
		}
		if !g.heap[child].before(g.heap[i]) {
			return
		}
		g.heap[i], g.heap[child] = g.heap[child], g.heap[i]
		i = child
	}
}
