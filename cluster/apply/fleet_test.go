package apply

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/musterhq/muster/cluster/roster"
)

var discard = slog.New(slog.DiscardHandler)

// fleet is a cluster without a store: who the members are, which tokens are out, which units there are.
type fleet struct {
	mu       sync.Mutex
	members  map[string]roster.Host // by host ID
	alive    map[string]bool
	told     map[string]bool // hosts that know the first membership
	tokens   map[string]roster.Host
	units    map[string]string
	calls    []string // that changed something, in order
	first    roster.Roster
	deaf     bool           // does not answer
	slowQuit map[string]int // how many looks it takes the other voters to go on without a host
	slowVote map[string]int // how many looks it takes a host's voter to answer
}

func newFleet() *fleet {
	return &fleet{
		members: make(map[string]roster.Host), alive: make(map[string]bool), told: make(map[string]bool),
		tokens: make(map[string]roster.Host), units: make(map[string]string), slowQuit: make(map[string]int), slowVote: make(map[string]int),
	}
}

var errDeaf = errors.New("no voter answers")

// join1 is a first member that has been told the membership.
func (f *fleet) joinFirst(id string, members roster.Roster) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.first == nil {
		f.first = members
		for _, h := range members {
			f.members[h.ID] = h
		}
	}
	f.told[id], f.alive[id] = true, true
}

// joinLater is a host that presents a token to a voter.
func (f *fleet) joinLater(hash, address string, ports roster.Ports) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	h, ok := f.tokens[hash]
	if !ok || f.deaf {
		return false
	}
	h.Address, h.Ports = address, ports
	f.members[h.ID], f.alive[h.ID] = h, true
	return true
}

func (f *fleet) gone(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.alive, id)
}

func (f *fleet) formed() bool {
	voters, healthy := 0, 0
	for id, h := range f.members {
		if h.Voter {
			voters++
			healthy += count(f.alive[id])
		}
	}
	return voters > 0 && 2*healthy > voters && !f.deaf
}

func (f *fleet) Status(context.Context) (FleetStatus, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.formed() {
		return FleetStatus{}, errDeaf
	}
	s := FleetStatus{Formed: true}
	for id, h := range f.members {
		state := "lost"
		switch {
		case f.alive[id]:
			state = stateReady
		case f.first != nil && !f.told[id]:
			state = "joining"
		}
		s.Hosts = append(s.Hosts, FleetHost{h, state, f.slowVote[id] > 0})
		f.slowVote[id] = max(0, f.slowVote[id]-1)
		s.Voters.Total += count(h.Voter)
		s.Voters.Healthy += count(h.Voter && f.alive[id])
	}
	slices.SortFunc(s.Hosts, func(a, b FleetHost) int { return strings.Compare(a.Host.Name+a.Host.ID, b.Host.Name+b.Host.ID) })
	for id, looks := range f.slowQuit {
		if looks > 0 {
			f.slowQuit[id]--
			s.Voters.Total++
		}
	}
	return s, nil
}

// change makes one change while the cluster can decide.
func (f *fleet) change(what string, fn func() bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.formed() {
		return errDeaf
	}
	if fn() {
		f.calls = append(f.calls, what)
	}
	return nil
}

func (f *fleet) AddToken(_ context.Context, hash string, h roster.Host, _ time.Duration) error {
	return f.change("token "+h.Name, func() bool {
		_, known := f.tokens[hash]
		if !known {
			f.tokens[hash] = h
		}
		return !known
	})
}

func (f *fleet) Remove(_ context.Context, id string) error {
	return f.change("remove "+f.name(id), func() bool {
		h, known := f.members[id]
		if h.Voter {
			f.slowQuit[id] = 3
		}
		delete(f.members, id)
		return known
	})
}

// name is for the record of calls.
func (f *fleet) name(id string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.members[id].Name
}

func (f *fleet) Relabel(_ context.Context, id string, labels map[string]string) error {
	return f.change("relabel "+f.name(id), func() bool {
		f.members[id] = f.members[id].WithLabels(labels)
		return true
	})
}

// patch sets labels as fleet's API does.
func (f *fleet) patch(id string, labels map[string]*string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.members[id] = f.members[id].WithPatch(labels)
}

func (f *fleet) member(id string) roster.Host {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.members[id]
}

func (f *fleet) Configure(context.Context, Settings) error { return nil }

func (f *fleet) Seat(_ context.Context, id string, votes bool) error {
	return f.change(fmt.Sprintf("seat %s %t", f.member(id).Name, votes), func() bool {
		h := f.members[id]
		if h.Voter == votes {
			return false
		}
		h.Voter = votes
		f.members[id] = h
		return true
	})
}

func (f *fleet) PutUnit(_ context.Context, name, content, desired string) (bool, error) {
	changed := false
	err := f.change("unit "+name, func() bool {
		changed = f.units[name] != content+"\x00"+desired
		f.units[name] = content + "\x00" + desired
		return changed
	})
	return changed, err
}

// log is what was changed so far.
func (f *fleet) log() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

// guardedFleet is the cluster as a process sees it that may be dead.
type guardedFleet struct {
	bomb *bomb
	Fleet
}

func (b *bomb) guardFleet(f *fleet) Fleet { return guardedFleet{b, f} }

func (g guardedFleet) Status(ctx context.Context) (s FleetStatus, err error) {
	err = g.bomb.do(func() (err error) {
		s, err = g.Fleet.Status(ctx)
		return err
	})
	return s, err
}

func (g guardedFleet) AddToken(ctx context.Context, hash string, h roster.Host, ttl time.Duration) error {
	return g.bomb.do(func() error { return g.Fleet.AddToken(ctx, hash, h, ttl) })
}

func (g guardedFleet) Remove(ctx context.Context, id string) error {
	return g.bomb.do(func() error { return g.Fleet.Remove(ctx, id) })
}

func (g guardedFleet) Relabel(ctx context.Context, id string, labels map[string]string) error {
	return g.bomb.do(func() error { return g.Fleet.Relabel(ctx, id, labels) })
}

func (g guardedFleet) PutUnit(ctx context.Context, name, content, desired string) (changed bool, err error) {
	err = g.bomb.do(func() (err error) {
		changed, err = g.Fleet.PutUnit(ctx, name, content, desired)
		return err
	})
	return changed, err
}
