package fleetapi

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/musterhq/muster/agent/fleet"
	"github.com/musterhq/muster/cluster/store"
)

// How long a request waits for the store. fleetctl gives up after three seconds; it shall hear why.
const (
	readTimeout   = 1200 * time.Millisecond
	changeTimeout = 2500 * time.Millisecond
)

// prefixes is what answers are made from. Each is read before those that it refers to.
var prefixes = []string{
	store.PrefixStates, store.PrefixSchedule, store.PrefixUnits, store.PrefixAlive, store.PrefixRoster,
}

// picture is the cluster at one moment.
type picture struct {
	fleet.View
	names []string // of units, sorted
	seats map[string][]fleet.Seat
}

func newPicture(v fleet.View) *picture {
	return &picture{View: v, names: slices.Sorted(maps.Keys(v.Units)), seats: v.Seats()}
}

// unit is one unit without its options. Whether it is global is not known here.
func (p *picture) unit(name string) Unit {
	u := Unit{Name: name, DesiredState: string(p.Units[name].Record.Desired), CurrentState: stateInactive}
	if seats := p.seats[name]; len(seats) > 0 {
		u.MachineID, u.CurrentState = seats[0].Host, currentState(seats[0])
	}
	return u
}

// currentState is fleet's word for how far a unit has come on a host. A host that is lost vouches for nothing. What has
// the contents that it shall not have any more is loaded at best, so that who waits for new ones waits for them.
func currentState(s fleet.Seat) string {
	if !s.Live || s.Reported == nil {
		return stateInactive
	}
	r := *s.Reported
	running := false
	switch {
	case s.Scheduled != nil && s.Scheduled.Desired == store.DesiredLaunched:
		toStart := r.Active == "inactive" && r.Reason == "" // with a reason it has run and ended
		running = r.Load == "loaded" && r.File == s.Scheduled.File && !toStart
	default:
		running = slices.Contains([]string{"active", "activating", "deactivating", "reloading"}, r.Active)
	}
	if running {
		return stateLaunched
	}
	return stateLoaded
}

// report is a state and the contents that it is of.
type report struct {
	UnitState
	file string // SHA-256
}

// states is what live hosts report, sorted by unit; of one unit, that of the host that shall have it first.
func (p *picture) states(unit, machine string) []report {
	var list []report
	names := []string{unit}
	if unit == "" {
		names = slices.Sorted(maps.Keys(p.seats))
	}
	for _, name := range names {
		for _, s := range p.seats[name] {
			if !s.Live || s.Reported == nil || machine != "" && s.Host != machine {
				continue
			}
			r := s.Reported
			list = append(list, report{
				UnitState: UnitState{Name: name, MachineID: s.Host, Load: r.Load, Active: r.Active, Sub: r.Sub}, file: r.File,
			})
		}
	}
	return list
}

// machines are the live hosts, sorted by ID. `provider` and `host` can be asked for in MachineMetadata like labels, and
// so are shown.
func (p *picture) machines() []Machine {
	var list []Machine
	for id, member := range p.Roster {
		if !p.Ready(id) {
			continue
		}
		h := member.Record.Host
		metadata := map[string]string{}
		maps.Copy(metadata, h.Labels)
		metadata["provider"], metadata["host"] = h.Provider, h.Name
		list = append(list, Machine{ID: id, PrimaryIP: h.Address, Metadata: metadata})
	}
	slices.SortFunc(list, func(a, b Machine) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

// records reads the cluster's records, once for all requests that wait at the same time: clients of fleet poll.
type records struct {
	from fleet.Reader

	turn sync.Mutex // held while reading
	mu   sync.Mutex
	next *reading // has not begun yet; guarded by mu
}

type reading struct {
	done    chan struct{}
	picture *picture
	err     error
}

// read returns the cluster as it was at some moment after the call began.
func (r *records) read(ctx context.Context) (*picture, error) {
	r.mu.Lock()
	mine := r.next == nil
	if mine {
		r.next = &reading{done: make(chan struct{})}
	}
	next := r.next
	r.mu.Unlock()
	if mine {
		r.run(ctx, next)
	}
	select {
	case <-next.done:
		return next.picture, next.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// run reads on behalf of everybody who waits, whatever becomes of the request that happens to do it.
func (r *records) run(ctx context.Context, this *reading) {
	r.turn.Lock()
	defer r.turn.Unlock()
	r.mu.Lock()
	r.next = nil // who comes from now on must not be told what was read before
	r.mu.Unlock()
	defer close(this.done)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readTimeout)
	defer cancel()
	view, err := fleet.Load(ctx, r.from, prefixes, false)
	if err != nil {
		this.err = err
		return
	}
	this.picture = newPicture(view)
}
