package schedule

import (
	"cmp"
	"slices"
	"strings"
)

// none is the number of no host.
const none int32 = -1

// host is a host while a decision is made. Its number is its place in world.hosts.
type host struct {
	*Host
	provider int32
	load     int32 // units on it, but for global ones
	free     room
}

// unit is a wanted unit while a decision is made.
type unit struct {
	*Unit
	base     string // what it is ordered by: its name, or its template's and its number
	number   int
	needs    room
	family   *family // of its template, if that is spread
	refused  string  // the rules that exclude each other, see refused
	patterns []int32 // its Conflicts
	matched  []int32 // the patterns of others that match its name
	replaces []int32 // its Replaces
	replaced []int32 // those of others that match its name

	from   string // host ID in the snapshot, "" for none
	home   int32  // number of that host, none if there is none or it has gone
	at     int32  // number of the host it is on now, none while it has none
	left   string // why it cannot stay at home, "" if it can or had none
	reason string // why it is where it is now, for units that were moved or placed

	class   *class
	waiting int // peers (MachineOf) that may still get a host in this pass
}

// world is a snapshot, indexed. Hosts are numbered in the order of their names.
type world struct {
	hosts     []host
	byID      map[string]int32
	providers []provider
	units     []*unit // in order
	byName    map[string]*unit
	groups    []*group // in order of their templates
	conflicts *conflicts
	replacing replacing
	families  map[string]*family  // by template, of those that are spread
	globalOn  map[globalHost]bool // where global units run that matter to others
	admitted  []globalHost        // those of globalOn that are counted
	followers map[*unit][]*unit   // by peer
	unwanted  []Decision          // removals of what is not wanted
	displaced bool                // somebody is placed where one is that it replaces

	readyHosts []int32                       // made as needed, as are:
	postings   map[string]map[string][]int32 // label → value → ready hosts
	domains    map[string][]int32            // label → the number of its value, by host
	byShort    map[string][]int32            // by the first characters of their IDs
	pools      map[string]*pool
	classes    map[string]*class
	key        []byte  // scratch
	skipped    []entry // scratch
}

type provider struct {
	name string
	load int32
}

type globalHost struct {
	unit *unit
	host int32
}

// newWorld indexes a snapshot. Instances of templates that are named in single become units.
func newWorld(s Snapshot, single ...string) *world {
	w := &world{
		byID: make(map[string]int32, len(s.Hosts)), byName: make(map[string]*unit, len(s.Units)),
		conflicts: newConflicts(), replacing: newReplacing(), families: make(map[string]*family), globalOn: make(map[globalHost]bool),
		followers: make(map[*unit][]*unit), postings: make(map[string]map[string][]int32),
		domains: make(map[string][]int32), pools: make(map[string]*pool), classes: make(map[string]*class),
	}
	w.addHosts(s.Hosts)
	units := w.addGroups(s.Units, single)
	w.addUnits(units)
	w.addPlacements(s)
	return w
}

func (w *world) addHosts(hosts []Host) {
	w.hosts = make([]host, len(hosts))
	for i := range hosts {
		w.hosts[i].Host = &hosts[i]
	}
	slices.SortFunc(w.hosts, func(a, b host) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.ID, b.ID))
	})
	numbers := make(map[string]int32)
	for i := range w.hosts {
		h := &w.hosts[i]
		h.free = room{cpu: h.MilliCPU, memory: h.Memory}
		w.byID[h.ID] = int32(i)
		n, ok := numbers[h.Provider]
		if !ok {
			n = int32(len(w.providers))
			numbers[h.Provider] = n
			w.providers = append(w.providers, provider{name: h.Provider})
		}
		h.provider = n
	}
}

// addUnits indexes the units that are decided on one by one, and completes the groups.
func (w *world) addUnits(units []unit) {
	w.units = make([]*unit, len(units))
	for i := range units {
		w.units[i] = &units[i]
		w.byName[units[i].Name] = &units[i]
	}
	slices.SortFunc(w.units, compareUnits)
	w.addFamilies()
	for i := range w.units {
		u := w.units[i]
		w.match(member{unit: u})
		for _, name := range u.Requirements.MachineOf {
			if peer := w.byName[name]; peer != nil {
				w.followers[peer] = append(w.followers[peer], u)
			}
		}
	}
	for _, g := range w.groups {
		w.match(member{unit: &g.unit, group: g})
	}
	w.rankReplacers()
}

// match notes which patterns of others match a unit's name. Nobody replaces a global unit: it has no other place to go to.
func (w *world) match(m member) {
	m.matched = w.conflicts.matched(m.Name)
	if m.Requirements.Global {
		return
	}
	m.replaced = w.replacing.matched(m.Name)
	for _, p := range m.replaced {
		w.replacing.matches[p] = append(w.replacing.matches[p], m)
	}
}

// newUnit makes a unit that has no host.
func (w *world) newUnit(wanted *Unit) unit {
	return unit{
		Unit: wanted, base: wanted.Name, at: none, home: none, needs: needsOf(wanted), refused: refused(wanted),
		patterns: w.conflicts.add(wanted.Requirements.Conflicts), replaces: w.replacing.add(wanted.Requirements.Replaces),
	}
}

// compareUnits is the order in which units come when nothing else decides: by name, replicas by their numbers.
func compareUnits(a, b *unit) int {
	return cmp.Or(strings.Compare(a.base, b.base), cmp.Compare(a.number, b.number), strings.Compare(a.Name, b.Name))
}

// settle puts a unit on a host.
func (w *world) settle(u *unit, at int32) {
	u.at = at
	w.occupy(u, at, 1)
}

// unsettle takes a unit from its host.
func (w *world) unsettle(u *unit) {
	w.occupy(u, u.at, -1)
	u.at = none
}

// occupy counts so many of a unit on a host.
func (w *world) occupy(u *unit, at, by int32) {
	h := &w.hosts[at]
	h.load += by
	w.providers[h.provider].load += by
	if u.family != nil {
		u.family.count(at, by)
	}
	w.restrict(u, at, by)
}

// restrict counts what units on a host keep from others: their conflicts, reservations and Replaces.
func (w *world) restrict(u *unit, at, by int32) {
	w.press(u, at, by)
	w.replacing.count(at, u.replaces, u.replaced, by)
}

// press counts conflicts and reservations alone.
func (w *world) press(u *unit, at, by int32) {
	w.conflicts.count(at, u.patterns, u.matched, by)
	w.hosts[at].free.take(u.needs, int64(by))
}

// closed says whether what is on a host keeps the unit away, but for what it replaces. In a pass, in which units are only
// added, a host that is closed to a unit stays so.
func (w *world) closed(at int32, u *unit) bool {
	if len(u.replaces) > 0 {
		defer w.lift(u, at)()
	}
	return !u.needs.fit(w.hosts[at].free) || w.conflicts.on(at, u.patterns, u.matched) || w.replacing.on(at, nil, u.replaced)
}

// peersOn says whether every unit named in MachineOf is on the host.
func (w *world) peersOn(u *unit, at int32) bool {
	return w.missingPeer(u, at) == ""
}

// missingPeer names the first unit of MachineOf that is not on the host.
func (w *world) missingPeer(u *unit, at int32) string {
	for _, name := range u.Requirements.MachineOf {
		peer := w.byName[name]
		switch {
		case peer == nil:
			return name
		case peer.Requirements.Global && !w.globalOn[globalHost{peer, at}]:
			return name
		case !peer.Requirements.Global && peer.at != at:
			return name
		}
	}
	return ""
}
