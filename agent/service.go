package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/agent/fleet"
	"github.com/musterhq/muster/agent/schedule"
	"github.com/musterhq/muster/agent/unitfile"
	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/store"
)

// How long reads of the store may take before an old answer is better than none, and how long that may take.
const (
	freshTimeout = 1200 * time.Millisecond
	staleTimeout = time.Second
)

// service answers the API's questions from the store. It is api.Fleet.
type service struct {
	store   store.Store
	self    api.Health
	cluster string               // name
	voters  func() roster.Roster // as last known
	probe   func(ctx context.Context, voters roster.Roster) []fleet.VoterHealth
	alive   func() bool
	logs    logReader
	reloads reloader
	log     *slog.Logger

	mu    sync.Mutex
	rules *fleet.Rules // guarded by mu
}

// Status reads everything and asks the voters at the same time. Without quorum it does not wait for the store.
func (s *service) Status(ctx context.Context) (api.Status, error) {
	view, health, stale, err := s.read(ctx, fleet.StatusPrefixes)
	if err != nil {
		return api.Status{}, err
	}
	status := fleet.WithVoters(s.describe(ctx, view, stale), health)
	status.Stale = stale
	return status, nil
}

// read loads records: fresh ones, or old ones as soon as it is known that there are no fresh ones.
func (s *service) read(ctx context.Context, prefixes []string,
) (v fleet.View, health []fleet.VoterHealth, stale bool, err error) {
	fresh, giveUp := context.WithTimeout(ctx, freshTimeout)
	defer giveUp()
	var wg sync.WaitGroup
	wg.Go(func() {
		if health = s.probe(ctx, s.voters()); !fleet.Quorate(health) {
			giveUp()
		}
	})
	wg.Go(func() { v, err = fleet.Load(fresh, s.store, prefixes, false) })
	wg.Wait()
	if err == nil || ctx.Err() != nil {
		return v, health, false, err
	}
	old, cancel := context.WithTimeout(ctx, staleTimeout)
	defer cancel()
	v, staleErr := fleet.Load(old, s.store, prefixes, true)
	if staleErr != nil {
		return v, health, true, errors.Join(staleErr, err)
	}
	return v, health, true, nil
}

// describe is the status as far as it follows from the records.
func (s *service) describe(ctx context.Context, v fleet.View, stale bool) api.Status {
	status := v.Status(s.pending(ctx, v, stale))
	if status.Cluster == "" {
		status.Cluster = s.cluster
	}
	return status
}

// pending explains why units have no host, by deciding once more what the leader decided.
func (s *service) pending(ctx context.Context, v fleet.View, stale bool) map[string]string {
	if stale || len(v.Unplaced()) == 0 {
		return nil
	}
	snapshot, err := s.snapshot(ctx, v)
	if err != nil {
		s.log.Debug("cannot explain pending units", "err", err)
		return nil
	}
	reasons := map[string]string{}
	for _, d := range schedule.Decide(snapshot) {
		if d.Kind == schedule.Wait {
			reasons[d.Unit] = d.Reason
		}
	}
	return reasons
}

func (s *service) snapshot(ctx context.Context, v fleet.View) (schedule.Snapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rules == nil {
		s.rules = fleet.NewRules()
	}
	rules, err := s.rules.Of(ctx, s.store, v)
	if err != nil {
		return schedule.Snapshot{}, err
	}
	return v.Snapshot(rules, time.Now()), nil
}

// Units lists what was submitted.
func (s *service) Units(ctx context.Context) ([]api.Unit, error) {
	v, _, _, err := s.read(ctx, []string{store.PrefixUnits})
	if err != nil {
		return nil, err
	}
	return v.UnitList(), nil
}

// Unit reads one unit and its file.
func (s *service) Unit(ctx context.Context, name string) (api.Unit, error) {
	if err := unitfile.CheckName(name); err != nil {
		return api.Unit{}, api.Errorf(http.StatusBadRequest, "see `muster units`", "%v", err)
	}
	v, _, stale, err := s.read(ctx, []string{store.UnitKey(name)})
	if err != nil {
		return api.Unit{}, err
	}
	u, known := v.Units[name]
	if !known {
		return api.Unit{}, errNoUnit(name)
	}
	ctx, cancel := context.WithTimeout(ctx, freshTimeout)
	defer cancel()
	files, err := fleet.Load(ctx, s.store, []string{store.FileKey(u.Record.File)}, stale)
	if err != nil {
		return api.Unit{}, err
	}
	content, found := files.File(u.Record.File)
	if !found {
		return api.Unit{}, fmt.Errorf("the contents of %s are gone from the store", name)
	}
	return api.Unit{Name: name, Content: string(content), Desired: string(u.Record.Desired), Hash: u.Record.File}, nil
}

func errNoUnit(name string) error {
	return api.Errorf(http.StatusNotFound, "`muster units` lists what there is", "there is no unit %s", name)
}

// Health is how this agent is.
func (s *service) Health() api.Health {
	h := s.self
	h.Joined = s.alive()
	return h
}
