package schedule

import (
	"encoding/binary"
	"slices"

	"github.com/musterhq/muster/agent/unitfile"
)

// pool is the ready hosts that have what a unit asks of labels and of global units, ranked. Units that ask for the same
// share one.
type pool struct {
	number int32
	hosts  []int32
	rank   *ranking
}

// class is the units that any host treats alike: the same pool, the same Conflicts and Replaces, names that match the same
// ones of others, the same reservations and spread. A host that is closed to one of them is closed to all of them for the rest
// of the pass, for in it units are only added.
type class struct {
	*pool
	alone  bool     // without conflicts, reservations and spread: no host of the pool is ever closed
	tally  *tally   // nil if it is not spread
	rank   *ranking // without the hosts that are closed; nil while the pool's own will do
	skips  int      // hosts of the pool's ranking that were looked at in vain
	waits  string   // why no host fits, see why.go
	placed string   // why the host was chosen
}

// isPeaceful says whether nothing but room keeps the unit from any host of its pool.
func (u *unit) isPeaceful() bool { return len(u.patterns)+len(u.matched)+len(u.replaced) == 0 }

// classOf returns the unit's class.
func (w *world) classOf(u *unit) *class {
	p := w.poolOf(u)
	w.key = binary.AppendVarint(w.key[:0], int64(p.number))
	w.key = binary.AppendVarint(w.key, u.needs.cpu)
	w.key = binary.AppendVarint(w.key, u.needs.memory)
	for _, numbers := range [...][]int32{u.patterns, u.matched, u.replaces, u.replaced} {
		w.key = binary.AppendUvarint(w.key, uint64(len(numbers)))
		for _, n := range numbers {
			w.key = binary.AppendUvarint(w.key, uint64(n))
		}
	}
	t := u.family.over(u.Requirements.Spread)
	if t != nil {
		template, _ := unitfile.Template(u.Name)
		w.key = appendText(w.key, template)
	}
	c := w.classes[string(w.key)]
	if c == nil {
		c = &class{pool: p, tally: t, alone: t == nil && u.isPeaceful() && u.needs.isNone()}
		if t != nil {
			c.rank = w.newRanking(p.hosts, t)
		}
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
	if spread := u.Requirements.Spread; spread != "" {
		w.key = appendText(append(w.key, 0, 0), spread)
	}
	if u.Requirements.Strict {
		w.key = append(w.key, 0, 0, 0)
	}
	if u.Requirements.StopCutOff {
		w.key = append(w.key, 0, 0, 0, 0)
	}
	p := w.pools[string(w.key)]
	if p == nil {
		p = &pool{number: int32(len(w.pools)), hosts: w.matching(u, globals)}
		p.rank = w.newRanking(p.hosts, nil)
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
	slices.SortFunc(globals, compareUnits)
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
		if h := w.hosts[n].Host; !metadataFits(u.Requirements.Metadata, h) || unspreadable(u.Unit, h) || unholding(u.Unit, h) != "" {
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
			h, p := c.rank.best(w)
			if h == none || !w.closed(h, u) {
				return h
			}
			p.pop() // closed to the class for good
		}
	}
	return w.pickShared(c, u)
}

// pickShared looks through the pool's ranking, which other classes use too. When that has cost the class as much as a
// ranking of its own, it gets one: so the cost is never more than twice the better of the two.
func (w *world) pickShared(c *class, u *unit) int32 {
	w.skipped = w.skipped[:0]
	h, p := c.pool.rank.best(w)
	for h != none && w.closed(h, u) {
		w.skipped = append(w.skipped, p.pop())
		h, p = c.pool.rank.best(w)
	}
	for _, e := range w.skipped {
		c.pool.rank.partOf(w.hosts[e.host].provider).push(e)
	}
	c.skips += len(w.skipped)
	if c.skips > len(c.hosts) {
		var open []int32
		for _, n := range c.hosts {
			if !w.closed(n, u) {
				open = append(open, n)
			}
		}
		c.rank = w.newRanking(open, nil)
	}
	return h
}
