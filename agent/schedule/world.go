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
}

// unit is a wanted unit while a decision is made.
type unit struct {
	*Unit
	refused  string  // the rules that exclude each other, see refused
	patterns []int32 // its Conflicts
	matched  []int32 // the patterns of others that match its name

	from   string // host ID in Placed, "" for none
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
	units     []unit // by name; index is by address, so it never grows
	byName    map[string]*unit
	conflicts *conflicts
	globalOn  map[globalHost]bool // where global units run that matter to others
	admitted  []globalHost        // those of globalOn that are counted in conflicts
	followers map[*unit][]*unit   // by peer
	unwanted  []string            // names in Placed of units that are not wanted, sorted
	placed    map[string]string

	readyHosts []int32                       // made as needed, as are:
	postings   map[string]map[string][]int32 // label → value → ready hosts
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

func newWorld(s Snapshot) *world {
	w := &world{
		byID: make(map[string]int32, len(s.Hosts)), byName: make(map[string]*unit, len(s.Units)),
		conflicts: newConflicts(), globalOn: make(map[globalHost]bool), followers: make(map[*unit][]*unit),
		postings: make(map[string]map[string][]int32), pools: make(map[string]*pool),
		classes: make(map[string]*class), placed: s.Placed,
	}
	w.addHosts(s.Hosts)
	w.addUnits(s.Units)
	for name := range s.Placed {
		if u := w.byName[name]; u == nil || u.Requirements.Global {
			w.unwanted = append(w.unwanted, name)
		}
	}
	slices.Sort(w.unwanted)
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

func (w *world) addUnits(units []Unit) {
	sorted := make([]*Unit, len(units))
	for i := range units {
		sorted[i] = &units[i]
	}
	slices.SortFunc(sorted, func(a, b *Unit) int { return strings.Compare(a.Name, b.Name) })
	w.units = make([]unit, len(units))
	for i, wanted := range sorted {
		u := &w.units[i]
		u.Unit, u.at, u.home = wanted, none, none
		u.refused = refused(wanted)
		u.patterns = w.conflicts.add(u.Requirements.Conflicts)
		w.byName[u.Name] = u
		if u.Requirements.Global {
			continue
		}
		if u.from = w.placed[u.Name]; u.from != "" {
			if n, ok := w.byID[u.from]; ok {
				u.home = n
			}
		}
	}
	for i := range w.units {
		u := &w.units[i]
		u.matched = w.conflicts.matched(u.Name)
		for _, name := range u.Requirements.MachineOf {
			if peer := w.byName[name]; peer != nil {
				w.followers[peer] = append(w.followers[peer], u)
			}
		}
	}
}

// settle puts a unit on a host.
func (w *world) settle(u *unit, at int32) {
	u.at = at
	h := &w.hosts[at]
	h.load++
	w.providers[h.provider].load++
	w.conflicts.count(at, u, 1)
}

// unsettle takes a unit from its host.
func (w *world) unsettle(u *unit) {
	h := &w.hosts[u.at]
	h.load--
	w.providers[h.provider].load--
	w.conflicts.count(u.at, u, -1)
	u.at = none
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
