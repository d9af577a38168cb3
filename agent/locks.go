package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/agent/fleetlock"
	"github.com/musterhq/muster/agent/lock"
	"github.com/musterhq/muster/agent/locksmith"
	"github.com/musterhq/muster/cluster/store"
)

// fleetLockPath is where a voter is told, by its administrator or by cloud-config, to serve FleetLock over plain HTTP.
const fleetLockPath = "/etc/muster/fleetlock.json"

// fleetLockSettings are what is in it.
type fleetLockSettings struct {
	// Listen is host:port. Whoever reaches it may take and give back places of the reboot lock; nobody is asked who they are.
	Listen string `json:"listen"`
}

// keeper changes the reboot lock for others, as only voters may.
func (c *council) keeper(a *agent) *lock.Keeper {
	return &lock.Keeper{Store: a.store, Voters: c.voters, Now: time.Now}
}

// voters asks etcd's voting members how they are.
func (c *council) voters(ctx context.Context) ([]lock.Voter, error) {
	members, err := c.admin.Health(ctx)
	var voters []lock.Voter
	for _, m := range members {
		if !m.Learner {
			voters = append(voters, lock.Voter{Host: m.Host, Healthy: m.Healthy, Leader: m.Leads})
		}
	}
	return voters, err
}

// serveFleetLock serves FleetLock without certificates where the host's settings say so. A voter can be without.
func (a *agent) serveFleetLock(ctx context.Context) error {
	l, err := listenFleetLock(ctx, filepath.Join(a.root, fleetLockPath))
	if err != nil {
		a.log.Error("clients of FleetLock cannot connect", "err", err)
	}
	if l == nil {
		return nil
	}
	a.log.Warn("FleetLock is open to whoever reaches it", "address", l.Addr().String())
	return api.Serve(ctx, l, &fleetlock.Handler{Keeper: a.council.keeper(a), Log: a.log}, a.log)
}

// listenFleetLock returns no listener where there are no settings.
func listenFleetLock(ctx context.Context, path string) (net.Listener, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the settings of FleetLock: %w", err)
	}
	var s fleetLockSettings
	d := json.NewDecoder(strings.NewReader(string(data)))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return nil, fmt.Errorf("cannot use the settings of FleetLock in %s: %w", path, err)
	}
	return listen(ctx, s.Listen)
}

// fleetLock is FleetLock for callers with certificates.
func (a *agent) fleetLock(self string) http.Handler {
	h := &fleetlock.Handler{Keeper: a.council.keeper(a), Host: self, Log: a.log}
	return http.StripPrefix(strings.TrimSuffix(api.FleetLockPath, "/"), h)
}

// locksmith is the lock for locksmithctl on this host. It has the rights of a host, on voters too: whoever runs programs here
// takes and gives back this host's own place, and no other.
func (a *agent) locksmith() locksmith.Locks {
	if a.council != nil {
		return &lock.Locksmith{Keeper: a.council.keeper(a), Self: a.self.ID}
	}
	return &locksmith.Remote{Store: a.store, Swap: func(ctx context.Context, group string, swap api.LockSwap) error {
		return voters{a}.ask(func(c *api.Client) error { return c.SwapLock(ctx, group, swap) })
	}}
}

// Locks tells of every group's reboot lock, and of each host that waits why it does.
func (s *service) Locks(ctx context.Context) ([]api.Lock, error) {
	v, health, _, err := s.read(ctx, lock.Prefixes)
	if err != nil {
		return nil, err
	}
	var voters []lock.Voter
	for _, h := range health {
		if !h.Learner {
			voters = append(voters, lock.Voter{Host: h.Host.ID, Healthy: h.Err == nil && !h.Leaderless, Leader: h.Leads})
		}
	}
	view := lock.ViewOf(v.Tables, voters, time.Now())
	if _, known := view.Groups[lock.DefaultGroup]; !known {
		view.Groups[lock.DefaultGroup] = lock.New()
	}
	waits := lock.Decide(view, store.MaxOps).Waits
	locks := []api.Lock{}
	for _, group := range slices.Sorted(maps.Keys(view.Groups)) {
		locks = append(locks, describeLock(view, group, waits))
	}
	return locks, nil
}

func describeLock(v lock.View, group string, waits map[string]string) api.Lock {
	g := v.Groups[group]
	l := api.Lock{Group: group, Max: g.Max, Holders: []api.LockHolder{}, Waiting: []api.LockWaiter{}, History: []api.LockEvent{}}
	for _, h := range g.Holders {
		l.Holders = append(l.Holders, api.LockHolder{
			ID: h.ID, Kind: string(h.Kind), Host: v.Members[cmp.Or(h.Host, h.ID)].Name, Boot: h.Boot, Since: h.Since, Reason: h.Reason,
		})
	}
	for id, why := range waits {
		if v.Requests[id].Record.Group == group {
			l.Waiting = append(l.Waiting, api.LockWaiter{ID: id, Host: v.Members[id].Name, Reason: why})
		}
	}
	slices.SortFunc(l.Waiting, func(a, b api.LockWaiter) int {
		return cmp.Or(cmp.Compare(v.Requests[a.ID].Revision, v.Requests[b.ID].Revision), cmp.Compare(a.ID, b.ID))
	})
	for _, e := range g.History {
		l.History = append(l.History, api.LockEvent{
			At: e.At, What: e.What, ID: e.ID, Host: v.Members[e.ID].Name, Boot: e.Boot, By: e.By, Reason: e.Reason,
		})
	}
	return l
}
